"""A thread that acts at a moment, whatever the network does: nothing that it does itself takes time.

It ends leases on time, rings alarms, and notices what nobody refers to any more.
"""

from __future__ import annotations

import math
import threading
from _queue import Empty, SimpleQueue
from _weakref import ref

from leasecap._log import log_warning_apart
from leasecap._threads import await_end, start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 3600.0  # seconds
_LINGER = 1.0
"""Seconds after which the thread looks again once it was roused, whatever it found: a lease is often released before it
runs, and each acquire of many short ones would rouse it again."""


class Gone(ref):  # type: ignore[type-arg]
    """Has ``then`` called in the thread once an object is gone. The interpreter itself puts it into the queue."""

    __slots__ = ("then",)
    then: Callable[[], None]


class Alarms:
    """The thread, which is started when it is first needed."""

    def __init__(self, monotonic: Callable[[], float], watch: Callable[[], float]) -> None:
        """:param watch: called each time around; returns the seconds until it wants to be called again."""
        self._monotonic = monotonic
        self._watch = watch
        self._lock = threading.RLock()  # a garbage collection may come while it is held, and run a finalizer
        self._inbox: SimpleQueue[Gone | None] = SimpleQueue()
        self._alarms: dict[object, tuple[float, Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None
        self._wakes_at = math.inf  # infinite while the thread is awake: then it may have looked already
        self._ending = False
        self._warned = False

    def look_by(self, when: float) -> None:
        """Have the thread look at that moment (monotonic) at the latest; it is started if it doesn't run."""
        with self._lock:
            if self._thread is not None:
                if when < self._wakes_at:
                    self._inbox.put(None)
                return
            self._ending = False
            try:
                self._thread = start_thread("redis-alarms", self._run)
            except RuntimeError as error:
                if not self._warned:
                    self._warned = True
                    log_warning_apart(f"leases in a store can't be watched: {error}")

    def set(self, key: object, when: float, call: Callable[[], None]) -> None:
        """Make ``call`` in the thread at the moment ``when`` (monotonic), in place of the last alarm of that key."""
        with self._lock:
            self._alarms[key] = when, call
        self.look_by(when)

    def cancel(self, key: object) -> None:
        """Let the alarm of that key be."""
        with self._lock:
            self._alarms.pop(key, None)

    def when_gone(self, it: object, then: Callable[[], None]) -> Gone:
        """Make the call in the thread once nobody refers to ``it``, as long as the result is kept."""
        gone = Gone(it, self._inbox.put)
        gone.then = then
        return gone

    def rest(self) -> None:
        """End the thread, if there is nothing to wait for."""
        with self._lock:
            thread = self._thread
            if thread is None or self._alarms or self._watch() < math.inf:
                return
            self._ending, self._thread = True, None
            self._inbox.put(None)
        await_end(thread)

    def _run(self) -> None:
        roused = False
        while True:
            self._wakes_at = math.inf
            with self._lock:
                now = self._monotonic()
                due = [key for key, (when, _) in self._alarms.items() if when <= now]
                calls = [self._alarms.pop(key)[1] for key in due]
            for call in calls:
                self._call(call)
            if calls:
                continue
            with self._lock:
                next_one = min((when for when, _ in self._alarms.values()), default=math.inf)
            watched = self._watched()
            now = self._monotonic()
            timeout = max(min(next_one - now, watched, _LINGER if roused else _LONGEST), 0.01)
            self._wakes_at = now + timeout
            try:
                item = self._inbox.get(timeout=timeout)
            except Empty:
                roused = False
                continue
            roused = item is None
            if item is not None:
                self._call(item.then)
            elif self._ending:
                return

    def _watched(self) -> float:
        try:
            return self._watch()
        except Exception as error:
            log_warning_apart(f"what is looked after in the background failed: {error!r}")
            return 1.0

    def _call(self, call: Callable[[], None]) -> None:
        try:
            call()
        except BaseException as error:  # if this thread ended, no lease would end on time
            log_warning_apart(f"what is looked after in the background failed: {error!r}")
