"""The scenarios: who does what, and what may happen to whom."""

from explore.scenarios import borrowing, lock_directory, processes, queueing, the_dead
from explore.scenarios.register import SCENARIOS

__all__ = ["SCENARIOS", "borrowing", "lock_directory", "processes", "queueing", "the_dead"]
