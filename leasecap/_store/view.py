"""One consistent picture of a pool, as its store sees it."""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._feedback.rules import Rules
    from leasecap._feedback.state import State
    from leasecap._liveness.record import Record


class LeaseView(NamedTuple):
    """A lease.

    :ivar record: what it says of its holder; None if that can't be read.
    :ivar granted: when it was granted, by the boot clock (seconds); None if it doesn't say.
    :ivar held_for: for how many seconds it has been held; None if its holder's clock isn't this one.
    :ivar doubt: why it can't be told from here whether its holder lives; empty if it can.
    """

    entry: Entry
    record: Record | None
    granted: float | None
    held_for: float | None
    doubt: str


class FeedbackView(NamedTuple):
    """What the provider's answers have made of a pool.

    :ivar now: the time now, by the clock of ``state`` (seconds).
    :ivar cooling: for each slot that cools down, the seconds for which it still counts.
    """

    state: State
    rules: Rules
    now: float
    cooling: tuple[float, ...]


class PoolView(NamedTuple):
    """A pool at one moment.

    :ivar pool: the pool's name.
    :ivar rises_in: seconds until a higher limit is in force without anybody's doing; infinite if none is to come.
    :ivar trouble: what keeps the store from granting anything, for people; "" if nothing does.
    """

    pool: str
    snapshot: Snapshot
    leases: tuple[LeaseView, ...]
    feedback: FeedbackView | None
    rises_in: float
    trouble: str = ""
