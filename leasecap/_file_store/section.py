"""The critical section of a pool: it is held for a few listings and a rename, never while somebody waits or works.

There are two kinds of lock: `os_lock`, and `lock_directory` where there are no OS locks or where several kernels share
the root. ``pool.json`` says which one the pool was made with.
"""

from __future__ import annotations

from leasecap._errors import StoreError
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Protocol

    class Section(Protocol):
        """What both kinds of lock do.

        :ivar token: signs what is granted inside, if the lock can be stolen; else it is empty.
        """

        token: str

        def try_enter(self) -> bool:
            """Try once to enter; never waits.

            :raises OSError: when the lock can't be had at all.
            """

        def is_ours(self) -> bool:
            """Inside: whether it wasn't taken from this process."""

        def leave(self) -> bool:
            """Leave; False: the lock was taken from this process meanwhile."""

        def occupant(self) -> Occupant:
            """Who seems to be inside."""

        def forget(self) -> None:
            """In a fork's child: let go of what is the parent's."""

        def close(self) -> None:
            """Close what is open; the section can be entered again all the same."""

        def retire(self) -> bool:
            """Close it for good, so that nobody of this process enters it any more; False: a thread is inside."""


class Occupant(NamedTuple):
    """Who is inside.

    :ivar who: for an error message.
    :ivar stay: tells this stay from any other, even of the same process.
    """

    who: str
    stay: str


SECTION_PATIENCE = 10.0
"""Seconds for which one stay inside the pool's own lock may last before it is an error. A process that runs is inside
for a moment only, so one that stays is stopped."""

SECTION_GRACE = 1.0
"""Seconds to wait for the pool's own lock even when the caller gave no time: a taken lock says nothing about slots."""

_OCCUPANT_LOOK = 0.25
"""Seconds between looks at who is inside, for a process that can't get in."""


def entering(
    section: Section, clock: Callable[[], float], path: str, deadline: float | None
) -> Generator[float, None, bool]:
    """Enter; False: the caller's time is over, and the section is merely busy.

    :raises StoreError: when one process stays inside. One that comes and goes all the time, with many threads or tasks,
        is busy and not stopped: each of its stays has a mark of its own (`Occupant.stay`).
    """
    began = since = look_at = clock()
    end = None if deadline is None else max(deadline, began + SECTION_GRACE)
    stay: str | None = None
    pause = 0.0002
    while not section.try_enter():
        now = clock()
        if now >= look_at:
            look_at = now + _OCCUPANT_LOOK
            over = end is not None and now >= end
            occupant = section.occupant()
            if stay not in (None, occupant.stay):
                since = now
            stay = occupant.stay
            if now - since >= (SECTION_GRACE if over else SECTION_PATIENCE):
                raise StoreError(
                    f"the pool's own lock has been held for over {now - since:.0f} s by {occupant.who}; "
                    "it takes milliseconds",
                    path=path,
                    remedy="that process is probably stopped: continue it (kill -CONT PID) or end it",
                )
            if over:
                return False
        yield pause
        # The pauses grow: many newcomers that all try often would keep the processor from whoever is inside. No release
        # waits here.
        pause = min(pause * 2, 0.05)
    return True
