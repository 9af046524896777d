"""What any store offers to one call for a slot."""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Literal, Protocol

    from leasecap._liveness.record import Child, Purpose
    from leasecap._store.lease import HeldLease
    from leasecap._store.wakeup import Wakeup

    State = Literal["held", "queued", "refused", "gone"]

    class Ticket(Protocol):
        """One call for a slot, from the asking to the lease. No step of it blocks."""

        def offer(self, *, may_queue: bool, deadline: float | None) -> Generator[float, None, Standing]:
            """Ask for a slot, in the same place of the order each time; yields for how long to pause at most.

            :param may_queue: else it is refused where no slot is free.
            :param deadline: on the store's monotonic clock; refused if the store is too busy to be asked until then.
            :raises NoLimit: nothing gives the pool a limit.
            :raises AgentHolds: the agent has a lease. Its time begins anew, with what this call says of it.
            :raises OSError, StoreError: the store can't be used.
            """

        def look(self) -> Standing:
            """See what became of it in the queue.

            :raises NoLimit, OSError, StoreError: as `offer`.
            """

        def withdraw(self) -> Generator[float, None, Standing]:
            """Leave the queue: "gone", or "held" if it was granted meanwhile. Yields as `offer` does.

            :raises OSError, StoreError: the store can't be used.
            """

        def lease(self) -> HeldLease:
            """What it was granted. Call once, when it is held."""

        def find_position(self) -> int:
            """Its place in the queue, 1 for the first; 0 if it has none."""

        def end(self) -> None:
            """Leave nothing behind, wherever it got to; never raises. Does nothing in a fork's child."""


class NoLimit(Exception):
    """Nothing gives the pool a limit."""


class AgentHolds(Exception):
    """The agent holds a slot of the pool already: nothing was taken for this request.

    :ivar lease: the id of its lease.
    """

    def __init__(self, lease: str) -> None:
        super().__init__(lease)
        self.lease = lease


class Standing(NamedTuple):
    """Where a ticket stands.

    :ivar state: "gone": somebody took its owner for dead, so ask again.
    :ivar look_in: seconds until it is worth looking again, if nothing wakes it before.
    """

    state: State
    look_in: float = 0.0


class Place:
    """A place in a pool's queue that outlives the call which took it.

    Who asks again with the same one, in the same pool, stands where it stood: no later call passes it.
    """

    __slots__ = ("_order", "_pool")

    def __init__(self) -> None:
        self._order: int | None = None
        self._pool: object = None

    def known_order(self, pool: object) -> int | None:
        """Its order in ``pool``; None if it has none there yet."""
        return self._order if self._pool == pool else None

    def order(self, pool: object, new: Callable[[], int]) -> int:
        """Its order in ``pool``; a ``new`` one at the first call, and where the pool is another one by now."""
        if self._order is None or self._pool != pool:
            self._order, self._pool = new(), pool
        return self._order


class Want(NamedTuple):
    """What a call asks for.

    :ivar lenders: tokens of the leases that it runs under, innermost first; it may borrow the slot of one of them.
    :ivar argv: the command to show in place of this process's own.
    :ivar max_hold, kill_after: see `max_hold`.
    :ivar agent: the process that the slot is for, if it isn't this one; it has one lease, however often it asks.
    :ivar wake: called from any thread when it is worth looking before the pause is over.
    :ivar listen: begins to receive this process's wake-ups; else a thread does.
    :ivar place: where it stands in the queue, if it asks again; else behind all who asked before.
    :ivar purpose: the request that the slot is for, if it is for a single one.
    :ivar task_since: when its task began (seconds since 1970): it goes before those of later ones. None: it begins now.
    """

    priority: int
    limit: int | None
    label: str | None
    argv: Sequence[str] | None
    lenders: tuple[str, ...]
    max_hold: float | None
    kill_after: float
    agent: Child | None
    wake: Callable[[], None]
    listen: Callable[[Wakeup], bool] | None = None
    place: Place | None = None
    purpose: Purpose | None = None
    task_since: float | None = None
