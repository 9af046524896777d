"""How long a lease may be held, and what is due when.

It goes by the monotonic clock, which stands while the machine sleeps. So no agent is ended for a night in which neither
it nor anybody who waits for its slot could run. For a process that is stopped the time goes on.
"""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._liveness.record import Record

GRACE = 1.0
"""Seconds from the KILL until the slot is given away, though the holder may still work."""


class Hold(NamedTuple):
    """The end of one lease's time; moments are those of ``time.monotonic()``.

    :ivar max_hold: seconds from the grant until its time is over.
    :ivar kill_after: seconds that the holder then has to end.
    :ivar over_at: when its time is over: the lease has expired, and a command gets TERM.
    """

    max_hold: float
    kill_after: float
    over_at: float

    @property
    def kill_at(self) -> float:
        """When a command gets KILL."""
        return self.over_at + self.kill_after

    @property
    def give_away_at(self) -> float:
        """When the slot is given away, with ``reclaim = "force"``, though the holder may still work."""
        return self.kill_at + GRACE


def hold_of(record: Record, since: float) -> Hold | None:
    """The end of the time of a lease granted at the moment ``since``; None if it may be held for ever."""
    if record.max_hold is None:
        return None
    return Hold(record.max_hold, record.kill_after or 0.0, since + record.max_hold)
