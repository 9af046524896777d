"""Pure rules: what a provider's answers do to a pool.

Nothing here knows a clock, a file, the environment or a thread.
"""
