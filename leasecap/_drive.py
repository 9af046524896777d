"""Running an acquisition in a thread, which blocks."""

from __future__ import annotations

import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Protocol, TypeVar

    from leasecap._interrupts import HeldBack

    T = TypeVar("T")

    class Waiter(Protocol):
        """What a blocking driver waits with."""

        def wake(self) -> None:
            """End the wait, or the next one if none is under way; from any thread."""

        def wait(self, timeout: float) -> None:
            """Return after ``timeout`` seconds or when woken."""


EARLY = 0.01
"""Seconds to sleep when a timed wait of a thread ended before its time. libfaketime moves the clocks that a process
reads, but not the one by which its threads wait: before 1970, each wait would end at once."""


class ThreadWaiter:
    """Blocks the calling thread."""

    __slots__ = ("_asleep",)

    def __init__(self) -> None:
        # A lock that is held until somebody wakes: an event costs 3 us, and most acquires never wait.
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def wake(self) -> None:
        try:
            self._asleep.release()
        except RuntimeError:
            pass  # it was woken already

    def wait(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        if not self._asleep.acquire(timeout=max(timeout, 0)) and time.monotonic() < end:
            time.sleep(EARLY)


def drive(steps: Generator[float, None, T], waiter: Waiter, interrupts: HeldBack) -> T:
    """Run ``steps`` to the end in this thread; what `wait` raises closes them, so that they clean up.

    :param interrupts: held back; let in while it waits.
    """
    try:
        pause = next(steps)
        while True:
            with interrupts.lifted():
                waiter.wait(pause)
            pause = next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        steps.close()
