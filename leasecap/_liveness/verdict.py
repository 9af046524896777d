"""Is it alive? This is asked before anything is reaped; the first piece of evidence that applies decides.

"Cannot tell" means alive, and an unknown value never equals another unknown one.
"""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from leasecap._liveness.presence import Identity, Presence
    from leasecap._liveness.record import Record

    Lock = Literal["held", "free", "unknown"]

NOT_VISIBLE, UNREADABLE = "process not visible from here", "unreadable from here"
"""No evidence at all: such an entry counts as alive until its process can be seen, or a person releases the lease."""

LOCK_HELD = "lock held"

CONTAINERS_BOOT = "container "
"""A boot id that a container gave itself (systemd-nspawn) begins with this: another one is no proof of a reboot."""


class Facts(NamedTuple):
    """What an observer could find out about one entry.

    :ivar record: the entry's record, or None if it is missing or corrupt.
    :ivar observer: the process that asks.
    :ivar local: whether the observer's root is on a local file system.
    :ivar lock: the OS lock on ``alive``.
    :ivar holder: presence of the recorded process; "unseen" unless `comparable`.
    :ivar child: presence of the recorded command; None if there never was one.
    :ivar unchanged: seconds for which the observer saw the same heartbeat; None if heartbeat or record can't be read.
    :ivar stale_after: seconds after which an unchanged heartbeat means dead.
    :ivar one_kernel: whether no two kernels can have the root mounted at a time: its file system is local, and nobody
        has said that it is shared (``lock = "directory"``).
    """

    record: Record | None
    observer: Identity
    local: bool
    lock: Lock
    holder: Presence
    child: Presence | None
    unchanged: float | None
    stale_after: float
    one_kernel: bool = False


class Finding(NamedTuple):
    """The verdict and the evidence for it, in the words `status` shows.

    :ivar certain: False for "dead" by heartbeats alone: such a process may come back.
    """

    alive: bool
    evidence: str
    certain: bool = True


def comparable(record: Record, observer: Identity) -> bool:
    """Whether a pid in ``record`` means to ``observer`` what it meant to the writer."""
    return observer.sees_processes and same_clocks(record, observer) and _same(record.pid_ns, observer.pid_ns)


def same_clocks(record: Record, observer: Identity) -> bool:
    """Whether the clocks of the record's writer, which count from the boot, are those of ``observer``."""
    return _same(record.boot, observer.boot) and _same(record.time_ns, observer.time_ns)


def left_by_exec(record: Record, observer: Identity) -> bool:
    """Whether the observer's own process made the entry, whose lock alone says whether the program lives that did.

    If it is free, that program is gone: the process has become another one (``exec``).
    """
    own = record.start is not None and (record.pid, record.start) == (observer.pid, observer.start)
    return own and comparable(record, observer) and record.local and record.proof == "lock" and record.child is None


def judge(facts: Facts) -> Finding:
    """Return whether the entry's owner lives, and by which evidence."""
    record = facts.record
    if record is not None and facts.holder == "gone" and facts.child in (None, "gone"):
        # This overrules a held lock: a daemon that the command left behind must not keep the slot for ever.
        return Finding(False, "process gone")
    if facts.lock == "held":
        return Finding(True, LOCK_HELD)
    runs = not {"runs", "stopped"}.isdisjoint((facts.holder, facts.child))
    same_boot = record is not None and _same(record.boot, facts.observer.boot)
    both_local = record is not None and record.local and facts.local
    by_lock = record is not None and record.proof == "lock"
    if facts.lock == "free" and same_boot and both_local and by_lock and not runs:
        return Finding(False, "lock free")
    if runs:
        return Finding(True, "process runs")
    one_machine = record is not None and (facts.one_kernel or _same(record.machine, facts.observer.machine))
    if record is not None and both_local and one_machine and _rebooted(record.boot, facts.observer.boot):
        return Finding(False, "machine rebooted")
    if record is not None and record.proof == "pid":
        return Finding(True, NOT_VISIBLE)  # there are no heartbeats to go by
    if facts.unchanged is None:
        return Finding(True, UNREADABLE)
    if facts.unchanged >= facts.stale_after:
        return Finding(False, f"no heartbeat for {facts.unchanged:.0f} s", certain=False)
    return Finding(True, "heartbeat" if record is not None else "corrupt record")


def _rebooted(before: str | None, now: str | None) -> bool:
    """Whether these are surely two boots. The first one is over then, if one kernel at a time has the file system."""
    if before is None or now is None or before == now:
        return False
    return not (before.startswith(CONTAINERS_BOOT) or now.startswith(CONTAINERS_BOOT))


def _same(one: str | None, other: str | None) -> bool:
    return one is not None and one == other
