"""How a caller waits: a thread, or a task of an event loop. Nothing here knows a store."""
