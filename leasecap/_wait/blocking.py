"""Running an acquisition in a thread, which blocks."""

from __future__ import annotations

import threading
import time

from leasecap._host.deferred_signals import surely

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Protocol, TypeVar

    from leasecap._host.deferred_signals import DeferredSignals
    from leasecap._store.wakeup import Wakeup

    T = TypeVar("T")

    class Waiter(Protocol):
        """What `drive` waits with."""

        def wake(self) -> None:
            """End the wait, or the next one if none is under way. Any thread may call it."""

        def wait(self, timeout: float, interrupts: DeferredSignals) -> None:
            """Return after ``timeout`` seconds or when woken.

            :param interrupts: deferred, and to be delivered while it waits.
            """

        def listen(self, watch: Wakeup) -> bool:
            """Begin to receive this process's wake-ups; False if that can't be done."""


class ThreadWaiter:
    """Blocks the calling thread."""

    __slots__ = ("_asleep", "_hears", "_watch")

    def __init__(self) -> None:
        # The lock is held until somebody wakes this thread. An event would cost more, and most acquires never wait.
        self._asleep = threading.Lock()
        self._asleep.acquire()
        self._hears = False
        self._watch: Wakeup | None = None

    def listen(self, watch: Wakeup) -> bool:
        if not watch.start(alone=True):
            return False
        self._watch = watch
        return True

    def wake(self) -> None:
        try:
            self._asleep.release()
        except RuntimeError:
            pass  # it was woken already
        if self._hears and self._watch is not None:
            self._watch.interrupt()

    def wait(self, timeout: float, interrupts: DeferredSignals) -> None:
        until = time.monotonic() + timeout
        if self._watch is not None:
            self._hears = True  # set before the wait: whoever wakes this thread from now on writes to the pipe as well
            try:
                if self._receive(self._watch, until, interrupts):
                    return
            finally:
                self._hears = False
        with interrupts.delivered():
            self._asleep.acquire(timeout=max(until - time.monotonic(), 0))

    def _receive(self, watch: Wakeup, until: float, interrupts: DeferredSignals) -> bool:
        """Receive until this thread is woken or the time is over; False if that isn't for this thread to do.

        Most of what comes is for the process, which looks who stands ahead of it, and no reason to look at the ticket.
        """
        has_received = False
        while not self._asleep.acquire(blocking=False):
            received = watch.receive(max(until - time.monotonic(), 0.0), interrupts)
            if received is None:
                return has_received
            watch.pass_on(received)
            if not (received.names or received.calls):
                break  # the time is over, or the wake-up was closed, and what it would have said is lost
            has_received = True
        return True


def drive(steps: Generator[float, None, T], waiter: Waiter, interrupts: DeferredSignals) -> T:
    """Run ``steps`` to the end in this thread. If anything is raised they are closed, so that they clean up.

    :param interrupts: deferred, and delivered while it waits.
    """
    try:
        pause = next(steps)
        while True:
            waiter.wait(pause, interrupts)
            pause = next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except BaseException:
        surely(steps.close)  # a handler may have raised while signals were delivered
        raise
