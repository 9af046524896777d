"""When to look again: pure decisions of those who wait.

Two kinds of looks. A *ticket's* look asks what became of it. A *process's* look (`lookout`) asks who stands ahead of
the process in the queue, and does for all what the first two processes there have to do.
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
"""The same while the exit of every holder wakes them (`exits`)."""

UNSWEPT = 1.25
"""Seconds without a sweep after which any process sweeps: the first two are stopped where nobody can see it. More than
`COVERED_SWEEP`, and with `THIRD_LOOK` less than the 2.3 s within which a slot passes those who are stopped."""

ATTACH_AFTER = 0.1
"""Seconds after which a process that has queued behind others first looks at who is ahead of it, unless it waited for
longer the last time. In a busy pool it has its slot by then, and a look would cost more than it saves."""

THIRD_LOOK = 0.25
"""Seconds between two looks of the third process: the exits that wake it say nothing of the first two being stopped.
Each one further back looks that much more seldom: it matters only if all before it are stopped."""

NEAR_RANK = 9
"""Processes further back than this look once per `SELDOM_LOOK`. So many that are stopped together keep a killed
holder's slot for as long; one that is released passes them at once, or when they have not answered (`marks`)."""

FIRST_LOOK = 0.0015
"""Seconds between looks of a ticket that nobody wakes and that has just come near the head."""

FAR_LOOK = 1.0
"""Seconds between looks, at most, of a ticket that nobody wakes."""

SELDOM_LOOK = 10.0
"""Seconds between looks, at most, of a ticket or a process that is woken."""


class Standing(NamedTuple):
    """Where a process stands in a queue.

    :ivar first: its first ticket.
    :ivar ahead: of each other process that has tickets ahead of that the last one, the nearest first.
    """

    first: str
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
            return Standing(name, tuple(reversed(ahead.values())))
        ahead.pop(other, None)
        ahead[other] = name
    return None


def to_notify(queue: Iterable[str], left: Collection[str]) -> list[str]:
    """Tickets whose processes have to learn that those of ``left`` are no longer in the queue.

    That of each one right behind, who watched its process, and those of the first two processes if anything has changed
    before the second one.
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
    :ivar watched: a wake-up reaches it.
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

    Who is woken looks only in case a wake-up was lost. Else near the head every 1.5 ms, growing to 1/128 of the time
    spent there: a grant is then seen late by 0.4 % of the wait on average. Further back, half the time that the queue
    seems to need to bring the waiter near the head.
    """
    if wait.watched:
        return SELDOM_LOOK
    if is_near(wait.position, wait.limit):
        return min(max(wait.near_for / 128, FIRST_LOOK), SWEEP_EVERY)
    ahead = wait.position - wait.limit
    guess = ahead / wait.rate / 2 if wait.rate > 0 else max(wait.waited / 4, FIRST_LOOK * ahead)
    return min(max(guess, FIRST_LOOK), FAR_LOOK)
