"""The critical section of a pool: taken for two listings and a rename, never while waiting or running.

Two kinds of lock guard it, and ``pool.json`` says which since the pool was made: `os_lock`, and `lock_directory` where
there are no OS locks or several kernels share the root.
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

        :ivar token: signs what is granted inside where the lock can be stolen; else empty.
        """

        token: str

        def try_enter(self) -> bool:
            """Try once; never waits.

            :raises OSError: when the lock can't be had at all.
            """

        def leave(self) -> bool:
            """Give it back; False: it was taken from us meanwhile."""

        def occupant(self) -> Occupant:
            """Who seems to be inside."""

        def forget(self) -> None:
            """In a fork's child: let go of what is the parent's."""

        def close(self) -> None:
            """Keep nothing open; it can be entered again."""


class Occupant(NamedTuple):
    """Who is inside.

    :ivar who: for an error message.
    :ivar stay: tells this stay from any other, also of the same process.
    """

    who: str
    stay: str


SECTION_PATIENCE = 10.0
"""Seconds for which one and the same stay inside the pool's own lock may last before it is an error. It takes less than
a millisecond, for a process that runs; a stopped one is what lasts."""

SECTION_GRACE = 1.0
"""Seconds to wait for the pool's own lock even when the caller gave no time: it says nothing about slots."""

_OCCUPANT_LOOK = 0.25
"""Seconds between looks at who is inside, for whoever can't get in."""


def entering(
    section: Section, clock: Callable[[], float], path: str, deadline: float | None
) -> Generator[float, None, bool]:
    """Enter; False: the caller's time is over, and it is merely busy inside.

    :raises StoreError: when whoever is inside stays there. One process that comes and goes all the time, with many
        threads or tasks, is busy and not stopped: each stay has a mark of its own (`Occupant.stay`).
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
        # 200 newcomers who tried every 5 ms kept both cores from whoever was inside (`scripts/bench`, D). Releases
        # don't wait here.
        pause = min(pause * 2, 0.05)
    return True
