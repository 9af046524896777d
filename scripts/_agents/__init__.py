"""`scripts/agents`: real clients, each through a gate of its own, and a fake provider that judges what arrives."""
