"""The gate: an HTTP server on loopback that gives a command's requests a slot each and passes them on unaltered.

It knows the library's face and nothing of a store. Loaded by ``leasecap run --per-request`` alone; it needs what the
extra ``leasecap[gate]`` brings.
"""
