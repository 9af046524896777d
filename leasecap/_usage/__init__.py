"""Asking the provider how many requests it counts in flight: by a function, a command, or over HTTP.

It knows of a pool what any store offers, and decides nothing: an answer goes into the feedback's state.
"""
