"""Is it alive? The evidence table: asked before anything is reaped, first row that applies decides.

"Cannot tell" means alive, and an unknown value never equals another unknown one.
"""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from leasecap._process import Identity, Presence
    from leasecap._record import Record

    Lock = Literal["held", "free", "unknown"]


class Facts(NamedTuple):
    """What an observer could find out about one entry.

    :ivar record: the entry's record, or None if it is missing or corrupt.
    :ivar observer: the process that asks.
    :ivar local: whether the observer's root is on a local file system.
    :ivar lock: the OS lock on ``alive``.
    :ivar holder: presence of the recorded process, "unseen" unless `comparable`.
    :ivar child: presence of the recorded command, None if there never was one.
    :ivar unchanged: seconds for which the observer saw the same heartbeat; None if it, or the record, can't be read.
    :ivar stale_after: seconds after which an unchanged heartbeat means dead.
    """

    record: Record | None
    observer: Identity
    local: bool
    lock: Lock
    holder: Presence
    child: Presence | None
    unchanged: float | None
    stale_after: float


class Finding(NamedTuple):
    """The verdict and the evidence for it, in the words `status` shows.

    :ivar certain: False where it may be the other way round: for "dead" by heartbeats alone, since such a process may
        come back, and for "alive" since nothing can be told, which ends by a person's `leasecap release` alone.
    """

    alive: bool
    evidence: str
    certain: bool = True


def comparable(record: Record, observer: Identity) -> bool:
    """Whether a pid in ``record`` means to ``observer`` what it meant to the writer."""
    return observer.sees_processes and same_clocks(record, observer) and _same(record.pid_ns, observer.pid_ns)


def same_clocks(record: Record, observer: Identity) -> bool:
    """Whether the writer's clocks, which count from the start of the machine, are those of ``observer``."""
    return _same(record.boot, observer.boot) and _same(record.time_ns, observer.time_ns)


def judge(facts: Facts) -> Finding:
    """Return whether the entry's owner lives, and by which evidence."""
    record = facts.record
    if record is not None and facts.holder == "gone" and facts.child in (None, "gone"):
        # Whatever a descendant inherited: a daemon left behind by the command must not hold the slot for ever.
        return Finding(False, "process gone")
    if facts.lock == "held":
        return Finding(True, "lock held")
    runs = "runs" in (facts.holder, facts.child)
    same_boot = record is not None and _same(record.boot, facts.observer.boot)
    both_local = record is not None and record.local and facts.local
    by_lock = record is not None and record.proof == "lock"
    if facts.lock == "free" and same_boot and both_local and by_lock and not runs:
        return Finding(False, "lock free")
    if runs:
        return Finding(True, "process runs")
    if (
        record is not None
        and both_local
        and record.boot is not None
        and facts.observer.boot is not None
        and record.boot != facts.observer.boot
        and _same(record.machine, facts.observer.machine)
    ):
        return Finding(False, "machine rebooted")
    if record is not None and record.proof == "pid":
        return Finding(True, "process not visible from here", certain=False)  # its holder never heartbeats
    if facts.unchanged is None:
        return Finding(True, "unreadable from here", certain=False)
    if facts.unchanged >= facts.stale_after:
        return Finding(False, f"no heartbeat for {facts.unchanged:.0f} s", certain=False)
    return Finding(True, "heartbeat" if record is not None else "corrupt record")


def _same(one: str | None, other: str | None) -> bool:
    return one is not None and one == other
