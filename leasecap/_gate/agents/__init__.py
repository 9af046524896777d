"""What single agents need beyond variables: their own configuration read, arguments inserted, private files written.

Each module has `examine`, which says where the agent would send its requests by itself, and `arrange`, which makes it
send them through the gate. Both are pure but for reading files through what is passed in.
"""
