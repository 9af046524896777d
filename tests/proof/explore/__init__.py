"""Exhaustive exploration of the protocol: the shipped code over an in-memory world, every schedule up to a bound."""
