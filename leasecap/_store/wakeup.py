"""What any store offers to a thread that can hear by itself what is said to its process."""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from leasecap._host.deferred_signals import DeferredSignals

    class Wakeup(Protocol):
        """This process's wake-up."""

        def start(self, *, alone: bool = False) -> bool:
            """Listen, or join who does; False if that can't be.

            :param alone: the caller hears by itself (`hear`), as long as it is the only one; else a thread does.
            """

        def hear(self, timeout: float, interrupts: DeferredSignals) -> Heard | None:
            """What comes within ``timeout`` seconds, for `pass_on`; None where it isn't for the caller to hear.

            :param interrupts: held back; let in while it waits.
            """

        def pass_on(self, heard: Heard) -> None:
            """Do what it calls for."""

        def nudge(self) -> None:
            """End the `hear` of another thread, or its next one."""


class Heard(NamedTuple):
    """What has come.

    :ivar said: what was written to the wake-up, or nothing.
    :ivar calls: to be called, since their handles can be read from.
    """

    said: bytes
    calls: list[Callable[[], None]]
