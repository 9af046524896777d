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
        :ivar place: the root and the pool's directory in it, or what tells this pool from all others.
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
            """Keep it alive in the background.

            :param on_gone: called there once the lease is found to be gone.
            :param on_dropped: called there once nobody refers to ``lease`` any more.
            """

        def set_alarm(self, when: float, on_alarm: Callable[[], None]) -> None:
            """Call ``on_alarm`` in the background at that moment of `now`."""

        def release(self, *, hand_off: bool = True) -> bool:
            """Give the slot back; False: it had been taken already. Never raises: what fails is tried again.

            :param hand_off: else `owes` is true, and the caller sees to it.
            """

        @property
        def owes(self) -> bool:
            """Whether slots of the pool were released and not yet handed off."""

        def hand_off(self) -> None:
            """Grant what was released to those who wait."""

        def describe(self, **fields: Any) -> bool:
            """Change these fields of the record; False: the lease is gone.

            :raises OSError: when that can't be written.
            """

        def let_go(self) -> None:
            """Another process holds it now, or nobody: keep it alive no longer."""

        def give_away(self) -> bool | None:
            """Take the slot from this process, whose time is over, where the pool's rule says so.

            Returns whether it was taken; None: that failed, and is to be tried again.
            """

        def removed(self) -> str:
            """What was removed under it, for people; "" if nothing was."""

        def inheritable(self) -> int | None:
            """A descriptor whose inheritor keeps the lease alive as well; None where there is no such thing."""
