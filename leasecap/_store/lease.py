"""What any store offers to the holder of a slot."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from leasecap._liveness.max_hold import Hold
    from leasecap._liveness.record import Record

    class HeldLease(Protocol):
        """A slot that this process holds.

        :ivar pool: the pool's name.
        :ivar token: the lease's id.
        :ivar place: the root and the pool's directory in it, or whatever identifies the pool.
        :ivar record: what the lease says of its holder.
        :ivar hold: when its time is over, or None.
        """

        pool: str
        token: str
        place: tuple[str, str]
        hold: Hold | None

        @property
        def record(self) -> Record: ...

        @property
        def granted(self) -> float:
            """When it was granted, by the boot clock (seconds)."""

        def now(self) -> float:
            """The store's monotonic clock."""

        def keep(self, lease: object, on_gone: Callable[[], None], on_dropped: Callable[[], None]) -> None:
            """Keep the lease alive in a thread.

            :param on_gone: called in the thread once the lease is found to be gone.
            :param on_dropped: called in the thread once nobody refers to ``lease`` any more.
            """

        def set_alarm(self, when: float, on_alarm: Callable[[], None]) -> None:
            """Call ``on_alarm`` in the thread when `now` is ``when``."""

        def release(self, *, hand_off: bool = True) -> bool:
            """Give the slot back; False: it had been taken already. It never raises: what fails is tried again.

            :param hand_off: if False, the caller calls `hand_off` later, and until then `owes` is true.
            """

        @property
        def owes(self) -> bool:
            """Whether slots of the pool were released and not yet handed off."""

        def hand_off(self) -> None:
            """Grant the slots that were released to those who wait."""

        def describe(self, **fields: Any) -> bool:
            """Change these fields of the record; False: the lease is gone.

            :raises OSError: when that can't be written.
            """

        def note_answer(self) -> None:
            """Note that the answer has begun of the HTTP request that the lease is for; cheap, and never raises."""

        def let_go(self) -> None:
            """Keep the lease alive no longer: another process holds it now, or nobody does."""

        def watch_doubt(self, on_doubt: Callable[[], None]) -> None:
            """Have ``on_doubt`` called, from a thread, when `ends_in` has something to say."""

        def ends_in(self) -> float | None:
            """Seconds until what runs under the lease must have ended, since the slot may be another's after that, and
            the pool's policy is to end it then. None: it need not end."""

        def give_away(self) -> bool | None:
            """Take the slot from this process, whose time is over, if the pool's configuration says so.

            Returns whether it was taken; None: that failed, so try again.
            """

        def removed(self) -> str:
            """What somebody has removed of the pool, with the lease in it, for people; "" if nothing was removed."""

        def inheritable(self) -> int | None:
            """A descriptor that keeps the lease alive in a process that inherits it; None where there is no such
            thing."""
