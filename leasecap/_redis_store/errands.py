"""Calls to a store that must not keep their caller: those of event loops, and what is done in the background.

A few threads make them. None of them is cancelled half-way, so no connection is left in the middle of an answer.
"""

from __future__ import annotations

import threading
import time
from _queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from leasecap._log import log_warning_apart
from leasecap._threads import await_end, start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_MOST = 4
_LINGER = 5.0  # seconds


class Errand(Generic[T]):
    """One call.

    :ivar done: whether it is over.
    """

    def __init__(self, call: Callable[[], T], then: Callable[[], None] | None) -> None:
        self.done = False
        self._begun = self._abandoned = False
        self._call = call
        self._then = then
        self._result: T | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Make the call, unless nobody wants it any more. ``then`` is called after it, from this thread."""
        self._begun = True  # before the look, as `abandon` looks after it has said so: one of them sees the other
        if self._abandoned:
            return
        try:
            self._result = self._call()
        except BaseException as error:
            self._error = error
        self.done = True
        if self._then is not None:
            self._then()

    def abandon(self) -> bool:
        """Nobody wants the result any more. Returns whether the call isn't begun, and so is never made."""
        self._abandoned = True
        return not self._begun

    def result(self) -> T:
        """What it returned; raises what it raised. Call once it is done."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class Errands:
    """The threads, which are started when they are needed, and end when they have nothing to do."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._waiting: SimpleQueue[Errand[object] | None] = SimpleQueue()
        self._threads: set[threading.Thread] = set()
        self._open = 0

    def send(self, call: Callable[[], T], then: Callable[[], None] | None = None) -> Errand[T]:
        """Have ``call`` made soon.

        :param then: called when it is over, from another thread.
        """
        errand: Errand[T] = Errand(call, then)
        with self._lock:
            self._open += 1
            if self._open > len(self._threads) and len(self._threads) < _MOST:
                try:
                    self._threads.add(start_thread("redis-errands", self._run))
                except RuntimeError:
                    if not self._threads:
                        self._open -= 1
                        errand.run()  # there can't be any thread: the caller waits
                        return errand
            self._waiting.put(errand)  # type: ignore[arg-type]
        return errand

    def do(self, call: Callable[[], object]) -> None:
        """Have ``call`` made soon; what it raises is logged."""

        def logged() -> None:
            try:
                call()
            except BaseException as error:
                log_warning_apart(f"what is done in the background for a store failed: {error!r}")

        self.send(logged)

    @property
    def runs_here(self) -> bool:
        """Whether the calling thread is one of these."""
        return threading.current_thread() in self._threads

    def drain(self, within: float) -> None:
        """Wait until all that was sent is done, ``within`` seconds at most."""
        until = time.monotonic() + within
        while self._open and time.monotonic() < until:
            time.sleep(0.005)

    def rest(self) -> None:
        """End the threads, if they have nothing to do."""
        with self._lock:
            if self._open:
                return
            threads, self._threads = self._threads, set()
            for _ in threads:
                self._waiting.put(None)
        for thread in threads:
            await_end(thread)

    def _run(self) -> None:
        while True:
            try:
                errand = self._waiting.get(timeout=_LINGER)
            except Empty:
                with self._lock:
                    if self._waiting.empty():
                        self._threads.discard(threading.current_thread())
                        return
                continue
            if errand is None:  # perhaps one that was meant for a thread which has ended by itself since
                with self._lock:
                    self._threads.discard(threading.current_thread())
                return
            try:
                errand.run()
            except BaseException as error:
                log_warning_apart(f"what is looked after in the background failed: {error!r}")
            finally:
                errand = None  # an error in it has frames, and what their callers hold
                with self._lock:
                    self._open -= 1
