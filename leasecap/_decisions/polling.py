"""When a waiter looks again: pure decisions.

There are two kinds of looks. A *ticket's* look asks what became of the ticket. A *process's* look (`lookout`) asks who
stands ahead of the process in the queue, and does what the first two processes have to do for all.
"""

from __future__ import annotations

from leasecap._decisions.entry import process_of
from leasecap._decisions.snapshot import first_processes
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

SWEEP_EVERY = 0.1
"""Seconds between two sweeps of the first two processes. Either of them sweeps once per period or sees that the other
did, so a killed holder's slot is granted within two periods: inside the promised 300 ms."""

COVERED_SWEEP = 1.0
"""Seconds between two sweeps while the exit of every holder wakes the first two processes (`exits`)."""

UNSWEPT = 1.25
"""Seconds without a sweep after which any process sweeps: the first two must be stopped where nobody can see it. It is
more than `COVERED_SWEEP`, and with `THIRD_LOOK` less than the 2.3 s within which a slot passes stopped processes."""

ATTACH_AFTER = 0.1
"""Seconds after which a process that has queued behind others first looks who is ahead of it, unless its last wait was
longer. In a busy pool it has its slot by then, and a look would cost more than it saves."""

THIRD_LOOK = 0.25
"""Seconds between two looks of the third process: exits wake it, but no exit says that the first two are stopped. Each
process further back looks more seldom by so much: its look matters only if all before it are stopped."""

NEAR_RANK = 9
"""Processes further back than this look once per `SELDOM_LOOK`. If all before them are stopped together, a killed
holder's slot stays taken for so long. A slot that is released passes them at once, or when they have not answered
(`marks`)."""

FIRST_LOOK = 0.0015
"""Seconds between looks of a ticket that nobody wakes and that has just come near the head."""

FAR_LOOK = 1.0
"""Seconds between looks, at most, of a ticket that nobody wakes."""

SELDOM_LOOK = 10.0
"""Seconds between looks, at most, of a ticket or a process that is woken."""


class Standing(NamedTuple):
    """Where a process stands in a queue.

    :ivar ahead: of each process with tickets ahead of its own first one the last of these tickets; the nearest first.
    """

    ahead: tuple[str, ...]

    @property
    def rank(self) -> int:
        """Its place among the processes, 1 for the first."""
        return len(self.ahead) + 1


def standing(queue: Iterable[str], process: str) -> Standing | None:
    """Where ``process`` stands among these tickets; None if it has none."""
    ahead: dict[str, str] = {}
    for name in sorted(queue):
        other = process_of(name)
        if other == process:
            return Standing(tuple(reversed(ahead.values())))
        ahead.pop(other, None)
        ahead[other] = name
    return None


def to_notify(queue: Iterable[str], left: Collection[str]) -> list[str]:
    """Tickets whose processes have to learn that the tickets ``left`` are no longer in the queue.

    These are the ticket right behind each of them, whose process watched the one that left, and tickets of the first
    two processes if anything has changed before the second one.
    """
    names = sorted(queue)
    first = first_processes(names)
    told = [next(name for name in names if process_of(name) == process) for process in first]
    if min(left) > max(told, default=""):
        told = []
    gaps = sorted(left)
    for before, name in zip(["", *names], names, strict=False):
        while gaps and gaps[0] < before:
            gaps.pop(0)
        if gaps and gaps[0] < name and name not in told:
            told.append(name)
    return told


def process_look(rank: int, *, on_duty: bool, covered: bool, watched: bool) -> float:
    """Return the seconds until a process's next look, if nothing wakes it before."""
    if on_duty:
        return COVERED_SWEEP if covered else SWEEP_EVERY
    pause = THIRD_LOOK * max(rank - 2, 1) if rank <= NEAR_RANK else SELDOM_LOOK
    return pause if watched else min(pause, FAR_LOOK)


class Wait(NamedTuple):
    """What the waiter of a ticket knows when it asks for its poll interval.

    :ivar position: its place in the queue, 1 for the head; 0 when it has just been parked or can't tell.
    :ivar limit: the effective limit.
    :ivar waited: seconds since it queued.
    :ivar near_for: seconds since it came near the head.
    :ivar rate: tickets per second that it has seen go before it, or 0.0 when none has.
    :ivar watched: whether a wake-up reaches it.
    """

    position: int
    limit: int
    waited: float
    near_for: float
    rate: float
    watched: bool


def is_near(position: int, limit: int) -> bool:
    """Whether a waiter may be granted at any moment."""
    return position <= max(limit, 2)


def poll_interval(wait: Wait) -> float:
    """Return the seconds until a ticket's next look, if no wake-up comes first.

    A waiter that is woken looks only in case a wake-up was lost. One that isn't looks near the head every `FIRST_LOOK`
    seconds, and then less often the longer it has been there, so that a grant is seen late by a small part of the wait.
    Further back it waits for half the time that the queue seems to need to bring it near the head.
    """
    if wait.watched:
        return SELDOM_LOOK
    if is_near(wait.position, wait.limit):
        return min(max(wait.near_for / 128, FIRST_LOOK), SWEEP_EVERY)
    ahead = wait.position - wait.limit
    guess = ahead / wait.rate / 2 if wait.rate > 0 else max(wait.waited / 4, FIRST_LOOK * ahead)
    return min(max(guess, FIRST_LOOK), FAR_LOOK)
