"""How large a soak is."""

from __future__ import annotations

from typing import NamedTuple

POOLS = {"solo": 1, "pair": 2, "trio": 3, "quartet": 4, "quintet": 5}
DIRECTORY_LOCKED = ("pair", "quartet")


class Plan(NamedTuple):
    """
    :ivar seconds: how long faults are made.
    :ivar sync, tasks, commands: how many processes of each kind there are at a time.
    :ivar patience: seconds for everybody to come to an end after the last fault.
    """

    seconds: float
    seed: int
    sync: int = 30
    tasks: int = 16
    commands: int = 14
    patience: float = 60.0
