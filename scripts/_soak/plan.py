"""How large a soak is."""

from __future__ import annotations

from typing import NamedTuple

POOLS = {"solo": 1, "pair": 2, "trio": 3, "quartet": 4, "quintet": 5}
DIRECTORY_LOCKED = ("pair", "quartet")

FAULTS_FOR, CALM_FOR = 3.0, 7.0
"""Seconds in which faults are made, and then none, by turns. Each fault in a pool begins its time to refill anew: only
the calm shows a slot that stays empty for longer than `referee.REFILL_WITHIN`."""


class Plan(NamedTuple):
    """
    :ivar seconds: how long faults are made.
    :ivar sync, tasks, commands, crowds, teams: how many processes of each kind there are at a time: with a few threads
        and forks; with two tasks of an event loop; of `leasecap run`; with 10 to 50 tasks that ask at once; with 5 to
        20 threads that do.
    :ivar patience: seconds for everybody to come to an end after the last fault.
    """

    seconds: float
    seed: int
    sync: int = 14
    tasks: int = 8
    commands: int = 8
    crowds: int = 6
    teams: int = 4
    patience: float = 60.0
