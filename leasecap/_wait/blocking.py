"""Running an acquisition in a thread, which blocks."""

from __future__ import annotations

import threading
import time
from _thread import get_ident

from leasecap._host.deferred_signals import surely

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import Protocol, TypeVar

    from leasecap._file_store.own_entry import Claim
    from leasecap._file_store.store import Store
    from leasecap._file_store.wakeups import Watch
    from leasecap._host.deferred_signals import HeldBack

    T = TypeVar("T")

    class Waiter(Protocol):
        """What a blocking driver waits with."""

        def wake(self) -> None:
            """End the wait, or the next one if none is under way; from any thread."""

        def wait(self, timeout: float, interrupts: HeldBack) -> None:
            """Return after ``timeout`` seconds or when woken.

            :param interrupts: held back; to be let in while it waits.
            """

        def listen(self, watch: Watch) -> bool:
            """Begin to hear what is said to this process; False if that can't be."""


EARLY = 0.01
"""Seconds to sleep when a timed wait of a thread ended before its time. libfaketime moves the clocks that a process
reads, but not the one by which its threads wait: before 1970, each wait would end at once."""


class ThreadWaiter:
    """Blocks the calling thread."""

    __slots__ = ("_asleep", "_hears", "_watch")

    def __init__(self) -> None:
        # A lock that is held until somebody wakes: an event costs 3 us, and most acquires never wait.
        self._asleep = threading.Lock()
        self._asleep.acquire()
        self._hears = False
        self._watch: Watch | None = None

    def listen(self, watch: Watch) -> bool:
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
            self._watch.nudge()

    def wait(self, timeout: float, interrupts: HeldBack) -> None:
        timeout = max(timeout, 0)
        end = time.monotonic() + timeout
        woken = None if self._watch is None else self._hear(self._watch, timeout, interrupts)
        if woken is None:
            with interrupts.lifted():
                woken = self._asleep.acquire(timeout=timeout)
        if not woken and time.monotonic() < end:
            with interrupts.lifted():
                time.sleep(EARLY)

    def _hear(self, watch: Watch, timeout: float, interrupts: HeldBack) -> bool | None:
        """Whether something has come; None where it isn't for this thread to hear."""
        self._hears = True  # first: from now on whoever wakes it writes to the pipe as well
        try:
            if self._asleep.acquire(blocking=False):
                return True
            heard = watch.hear(timeout, interrupts)
        finally:
            self._hears = False
        if heard is None:
            return None
        watch.pass_on(heard)
        return self._asleep.acquire(blocking=False) or bool(heard.said or heard.calls)


def warn_of_own_loop(store: Store, claims: set[Claim]) -> None:
    """Warn a blocking call in an event loop that waits for ever: only this very loop could give a slot back.

    :param claims: those of this process.
    """
    here = get_ident()
    own = {claim.name for claim in claims if claim.home is store and claim.thread == here}
    snapshot = store.snapshot()
    held = {*snapshot.granted.names, *snapshot.leases.names}
    if held and held <= own:
        import warnings

        warnings.warn(
            f"a blocking call for a slot of pool {store.pool.name.text!r} stops this thread's event loop, and all its "
            "slots are held in this loop: it waits for itself, unless another thread releases one. Use "
            "`async with leasecap.slot(...)` or `await leasecap.acquire_async(...)`",
            RuntimeWarning,
            stacklevel=2,
        )


def drive(steps: Generator[float, None, T], waiter: Waiter, interrupts: HeldBack) -> T:
    """Run ``steps`` to the end in this thread; whatever is raised closes them, so that they clean up.

    :param interrupts: held back; let in while it waits.
    """
    try:
        pause = next(steps)
        while True:
            waiter.wait(pause, interrupts)
            pause = next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except BaseException:
        surely(steps.close)  # a handler may have raised while signals were let in
        raise
