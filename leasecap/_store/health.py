"""What only a store can know of its own health; `leasecap doctor` shows it."""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, Protocol

    from leasecap._config.pool_name import PoolName

    class Health(Protocol):
        """The health of one root. To ask it changes nothing."""

        def check_pool(self, name: PoolName) -> None:
            """Check that a call for a slot could use the pool.

            :raises StoreError: when it couldn't.
            """

        def leftovers(self, names: Iterable[PoolName]) -> Leftovers:
            """What dead processes have left, in these pools and beside them.

            :raises OSError, StoreError: when that can't be read.
            """

        def wakeups(self, scratch: str) -> Wakeups:
            """Try out how waiters are woken, in the directory ``scratch``, which was made for that.

            :raises OSError: when it can't be tried.
            """


class Leftovers(NamedTuple):
    """What dead processes have left; none of it counts as held.

    :ivar counts: how many there are of each kind, by what to call it; whoever next waits for a slot removes them.
    :ivar thefts: how many marks there are of locks that were taken from dead processes.
    :ivar half_made: paths of pools and files that were never put in place.
    """

    counts: dict[str, int]
    thefts: int
    half_made: tuple[str, ...]


class Wakeups(NamedTuple):
    """How waiters are woken.

    :ivar by: "pipe" or "file"; "nothing" if neither reaches a process; "no thread" if no thread can be had for it.
    :ivar times: the milliseconds that each wake-up took, up to the first that didn't come.
    :ivar wanted: how many wake-ups were tried.
    :ivar patience: the seconds that each was waited for.
    """

    by: Literal["pipe", "file", "nothing", "no thread"]
    times: tuple[float, ...] = ()
    wanted: int = 0
    patience: float = 0.0


class Finding(NamedTuple):
    """What a check of a server has found; `leasecap doctor` shows it.

    :ivar verdict: "bad": agents are refused a slot, or the cap breaks; "note": a person may want to know it.
    :ivar remedy: what to do, "" for nothing.
    """

    verdict: Literal["ok", "note", "bad"]
    found: str
    remedy: str = ""
