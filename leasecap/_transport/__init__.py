"""A slot per request inside a Python program, for HTTP clients that let a transport be put between.

It knows the library's face and how the gate reads requests and answers. It imports no HTTP library: `leasecap.httpx2`
and `leasecap.httpx` each name theirs, and are twins but for that name.
"""
