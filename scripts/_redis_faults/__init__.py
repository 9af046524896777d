"""What goes wrong with servers, done to real ones while processes share caps on them; see ``scripts/redis-faults``."""
