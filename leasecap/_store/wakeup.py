"""What any store offers to a thread that can receive its process's wake-ups by itself."""

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
            """Listen for one more user; False if that can't be done.

            :param alone: the caller receives by itself (`receive`), as long as it is the only user; else a thread does.
            """

        def receive(self, timeout: float, interrupts: DeferredSignals) -> Received | None:
            """What comes within ``timeout`` seconds, for `pass_on`. None if it isn't for the caller to receive.

            What comes to be due for the process meanwhile is done as well.

            :param interrupts: deferred, and delivered while it waits.
            """

        def pass_on(self, received: Received) -> None:
            """Do what was received."""

        def interrupt(self) -> None:
            """End the `receive` that another thread is in, or else its next one."""


class Received(NamedTuple):
    """What has come.

    :ivar names: what was written to the wake-up: names, each with a line feed.
    :ivar calls: what to call, since their handles can be read from.
    """

    names: bytes
    calls: list[Callable[[], None]]
