"""Machines made of network namespaces: each has an address of its own, and a cable to the others that can be pulled."""
