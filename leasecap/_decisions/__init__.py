"""Pure decisions: who gets a slot, and when to look again.

Nothing here knows a clock, a file, the environment or a thread.
"""
