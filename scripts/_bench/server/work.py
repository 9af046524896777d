"""Workloads T to Z: what limiters do on a server is measured as in files, beside them, in turns."""

from __future__ import annotations

from collections.abc import Sequence

from .. import contention, single
from ..limiters import load
from . import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..contention import Contention

ROUND_TRIP = 0.001
"""Seconds there and back, of the network that is simulated."""

FLOOR = "redis_pings"

Figures = dict[str, dict[str, float]]


def uncontended(number: int, base: str, names: Sequence[str], round_trip: float = 0.0) -> Figures:
    """T and U: acquire and release beside two commands that do nothing.

    :param round_trip: that of a simulated network; 0: there is none, and files are measured as well.
    """
    with process.running(base) as server:
        if not round_trip:
            return single.uncontended(number, base, [*names, FLOOR])
        with process.at_distance(server, round_trip):
            return single.uncontended(number, base, [*on_a_server(names), FLOOR])


def contended(work: Contention, base: str, names: Sequence[str], round_trip: float = 0.0) -> Figures:
    """V to Y: many processes want a few slots.

    :param round_trip: as in `uncontended`.
    """
    able = [name for name in names if (load(name).highest or work.cap) >= work.cap]
    with process.running(base) as server:
        if not round_trip:
            return contention.measure(work, base, able, server.pid)
        with process.at_distance(server, round_trip):
            return contention.measure(work, base, on_a_server(able), server.pid)


def idle(waiters: int, seconds: float, base: str, names: Sequence[str]) -> Figures:
    """Z: all slots are held, and nothing happens for a while."""
    several = [name for name in on_a_server(names) if load(name).highest is None]
    with process.running(base) as server:
        return single.idle(waiters, seconds, base, several, server.pid)


def on_a_server(names: Sequence[str]) -> list[str]:
    """Those to which a network makes a difference."""
    return [name for name in names if name != "leasecap"]
