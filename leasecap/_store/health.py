"""What only a store can know of its own health; `leasecap doctor` shows it."""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, Protocol

    from leasecap._config.pool_name import PoolName

    class Health(Protocol):
        """One root, examined. Nothing in it is changed."""

        def check_pool(self, name: PoolName) -> None:
            """Whether a call for a slot could use the pool.

            :raises StoreError: when it couldn't.
            """

        def leftovers(self, names: Iterable[PoolName]) -> Leftovers:
            """What dead processes have left, in these pools and beside them.

            :raises OSError, StoreError: when that can't be read.
            """

        def wakeups(self, scratch: str) -> Wakeups:
            """Try out how waiters are woken, in a directory made for that.

            :raises OSError: when it can't be tried.
            """


class Leftovers(NamedTuple):
    """What dead processes have left; none of it counts as held.

    :ivar counts: how much there is of each kind, by what to call it, that whoever next waits for a slot clears away.
    :ivar thefts: marks of locks that were taken from dead processes.
    :ivar half_made: paths of what was never used by anybody.
    """

    counts: dict[str, int]
    thefts: int
    half_made: tuple[str, ...]


class Wakeups(NamedTuple):
    """How waiters are woken.

    :ivar by: "pipe" or "file"; "nothing" where no way reaches a process; "no thread" where none is to be had for it.
    :ivar times: milliseconds that each took, up to the first that didn't come.
    :ivar wanted: how many were tried.
    :ivar patience: seconds for which each was waited for.
    """

    by: Literal["pipe", "file", "nothing", "no thread"]
    times: tuple[float, ...] = ()
    wanted: int = 0
    patience: float = 0.0
