"""`scripts/demo`: a provider that refuses what is over its limit, and agents that know nothing of each other."""
