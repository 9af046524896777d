"""The operating system: the only room that calls it for the protocol."""
