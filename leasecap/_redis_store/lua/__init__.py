"""The scripts. A server runs each one whole, with nothing else in between: they are the pool's critical section.

Each script can be sent twice: a token that has been used up does nothing more.
"""
