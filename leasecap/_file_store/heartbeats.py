"""One daemon thread per process writes the heartbeats of all its leases, and notices lost and dropped leases.

Heartbeats of tickets are written by their waiters' looks (`poller`).
"""

from __future__ import annotations

import math
import threading
import time
from _weakref import ref

from leasecap._log import log_warning, log_warning_apart
from leasecap._threads import are_greenlets, await_end, start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _queue import SimpleQueue
    from collections.abc import Callable

    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._file_store.store import Store


_LINGER = 5.0
"""Seconds for which the thread sleeps on with nothing to look after, before it waits to be woken. Else each short lease
would wake it in vain, which costs much of an acquire's CPU time."""

_LOOK_EVERY = 0.05  # seconds between looks into the inbox, where threads are greenlets

_LONGEST = 86400.0  # seconds; a longer wait overflows


class Gone(ref):  # type: ignore[type-arg]
    """Has ``then`` called in the thread once an object is gone. If this reference is dropped before, nothing is called.

    The interpreter itself puts it into the thread's queue. That can happen at any moment: in a signal handler, while a
    lock of ours is held, in a garbage collection of another thread, at the interpreter's exit. No line of Python runs
    then, so nothing can wait for a lock or be interrupted.
    """

    __slots__ = ("then",)
    then: Callable[[], None]


def _end() -> None:
    """The call that ends the thread when it is put into the inbox."""


class Beating:
    """One entry that is kept alive.

    :ivar ending: the entry was to be ended, which failed; it is tried again in place of a heartbeat.
    :ivar failures: heartbeats in a row that could not be written.
    :ivar alarm: when to call ``on_alarm``.
    :ivar holder: notices when nobody refers to the lease any more.
    """

    __slots__ = ("alarm", "due", "ending", "failures", "holder", "on_alarm", "on_gone", "own_entry", "store")

    def __init__(self, store: Store, own_entry: OwnEntry, on_gone: Callable[[], None] | None, ending: bool) -> None:
        self.store = store
        self.own_entry = own_entry
        self.on_gone = on_gone
        self.ending = ending
        self.due = time.monotonic() + own_entry.record.heartbeat
        self.failures = 0
        self.alarm = math.inf
        self.on_alarm: Callable[[], None] | None = None
        self.holder: Gone | None = None


class Heartbeats:
    """The thread and what it looks after. A heartbeat that fails is counted and a warning logged; nothing is raised.

    It keeps no reference to a lease: a lease to which nobody else refers gives its slot back.
    """

    def __init__(self) -> None:
        # An RLock, since a garbage collection may come while it is held, and run a finalizer that releases a lease.
        self._changed = threading.RLock()
        self._beating: dict[str, Beating] = {}
        self._later: list[tuple[float, Callable[[], object]]] = []
        self._thread: threading.Thread | None = None
        self._inbox: SimpleQueue[Callable[[], object] | Gone | None] | None = None
        self._wakes_at = math.inf
        self._warned = False

    def prepare(self) -> SimpleQueue[Callable[[], object] | Gone | None]:
        """The queue that the thread waits at. The first call must be under the lock that forks wait for: it imports."""
        if self._inbox is None:
            from _queue import Empty, SimpleQueue

            self._empty = Empty
            self._inbox = SimpleQueue()
        return self._inbox

    def add(
        self, store: Store, own_entry: OwnEntry, on_gone: Callable[[], None] | None = None, *, ending: bool = False
    ) -> None:
        """Keep ``own_entry`` alive; ``on_gone`` is called, in the thread, once its entry is found to be gone.

        :param ending: end it instead, as soon as that is possible.
        """
        with self._changed:
            beating = self._beating[own_entry.name] = Beating(store, own_entry, on_gone, ending)
            if self._thread is None:
                self.start()
            elif beating.due < self._wakes_at:
                self._wake_by(beating.due)

    def follow(self, own_entry: OwnEntry, lease: object, then: Callable[[], None]) -> None:
        """Call ``then``, in the thread, once nobody refers to ``lease``, if ``own_entry`` is still kept alive."""
        beating = self._beating.get(own_entry.name)
        if beating is not None:
            beating.holder = self.when_gone(lease, then)

    def when_gone(self, it: object, then: Callable[[], None]) -> Gone:
        """Call ``then``, in the thread, once nobody refers to ``it`` any more, as long as the result is kept."""
        gone = Gone(it, self.prepare().put)
        gone.then = then
        return gone

    def call(self, then: Callable[[], object]) -> bool:
        """Have ``then`` called in the thread; False if the thread doesn't run. A finalizer may call this too."""
        if self._thread is None:
            return False
        self.prepare().put(then)
        return True

    def call_later(self, seconds: float, then: Callable[[], object]) -> bool:
        """Have ``then`` called in the thread after so long, or when it ends before; False if none can be started."""
        with self._changed:
            if not self.start():
                return False
            when = time.monotonic() + seconds
            self._later.append((when, then))
            self._wake_by(when)
            return True

    def set_alarm(self, own_entry: OwnEntry, when: float, on_alarm: Callable[[], None]) -> None:
        """Call ``on_alarm``, in the thread, at the moment ``when``, if ``own_entry`` is still kept alive then."""
        with self._changed:
            beating = self._beating.get(own_entry.name)
            if beating is not None:
                beating.alarm, beating.on_alarm = when, on_alarm
                self._wake_by(when)

    def _wake_by(self, when: float) -> None:
        if when < self._wakes_at and self._inbox is not None:
            # The thread is woken only if it would sleep too long: waking it costs more than an acquire.
            self._wakes_at = when
            self._inbox.put(None)

    def start(self) -> bool:
        """Start the thread, if it doesn't run; False if no thread can be started."""
        with self._changed:
            if self._thread is not None:
                return True
            try:
                self._thread = start_thread("heartbeat", self._run, self.prepare())
            except RuntimeError as error:
                # The slot is held already, so this must not fail. The next lease tries again.
                if not self._warned:
                    self._warned = True
                    log_warning(f"no heartbeats: {error}. Where the pool has OS locks, the lease is safe without them")
                return False
            return True

    def rest(self) -> None:
        """End the thread if it has nothing to look after, and wait for that. The next lease starts another one."""
        with self._changed:
            thread, inbox = self._thread, self._inbox
            if thread is None or inbox is None or self._beating:
                return
            self._thread = self._inbox = None
            for _, then in self._later:
                inbox.put(then)
            self._later.clear()
            inbox.put(_end)  # the thread does what is in the inbox before
        await_end(thread)

    def remove(self, own_entry: OwnEntry) -> None:
        """Stop looking after ``own_entry``. When this returns no heartbeat for it is under way, and none will come."""
        with self._changed:
            self._beating.pop(own_entry.name, None)

    def _run(self, inbox: SimpleQueue[Callable[[], object] | Gone | None]) -> None:
        idle = False
        while True:
            to_call = self._round(idle)
            if not to_call:
                woken = self._sleep(inbox)
                if woken is None:
                    return
                idle = not woken and not self._beating
            for call in to_call:
                self._call(call)

    def _round(self, idle: bool) -> list[Callable[[], object]]:
        """Write the heartbeats that are due; returns what is to be called outside the lock, since it may release
        leases."""
        to_call: list[Callable[[], object] | None] = []
        now = time.monotonic()
        # A process that only holds reads an edited config.toml nowhere else. Not under this lock: it takes the one that
        # forks wait for, and a garbage collection under that may end a generator, which releases and needs this one.
        for store in {beating.store for beating in list(self._beating.values()) if beating.due <= now}:
            store.refresh()
        with self._changed:
            to_call += [then for when, then in self._later if when <= now]
            self._later = [one for one in self._later if one[0] > now]
            for beating in list(self._beating.values()):
                if beating.due <= now:
                    alive = self._beat(beating)
                    beating.due = now + beating.own_entry.record.heartbeat  # the beat may have changed the interval
                    if not alive:
                        self._beating.pop(beating.own_entry.name, None)
                        to_call.append(beating.on_gone)
                if beating.alarm <= now:
                    beating.alarm = math.inf
                    to_call.append(beating.on_alarm)
            nothing = math.inf if idle else now + _LINGER
            # A copy: a garbage collection in the midst of it may release a lease.
            due = [min(one.due, one.alarm) for one in list(self._beating.values())]
            self._wakes_at = min((*due, *(when for when, _ in self._later)), default=nothing)
        return [call for call in to_call if call is not None]

    def _sleep(self, inbox: SimpleQueue[Callable[[], object] | Gone | None]) -> bool | None:
        """Sleep until something is due or comes, and do what has come.

        Returns whether anything has come; None when the thread is to end.
        """
        until = self._wakes_at
        timeout = None if until == math.inf else min(max(until - time.monotonic(), 0.01), _LONGEST)
        try:
            item = self._look(inbox, timeout) if are_greenlets() else inbox.get(timeout=timeout)
        except self._empty:
            return False
        if item is _end:
            return None
        if item is not None:
            self._call(item.then if isinstance(item, Gone) else item)
        return True

    def _look(
        self, inbox: SimpleQueue[Callable[[], object] | Gone | None], timeout: float | None
    ) -> Callable[[], object] | Gone | None:
        """``inbox.get`` where threads are greenlets, all of which it would block: this looks now and then."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while inbox.empty() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_EVERY))
        return inbox.get_nowait()

    def _call(self, call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # if this thread ended, all heartbeats would
            log_warning_apart(f"what is looked after in the background failed: {error!r}")

    def _beat(self, beating: Beating) -> bool:
        try:
            if beating.ending:
                beating.store.finish(beating.own_entry)
                return False
            alive = beating.store.beat(beating.own_entry)
        except OSError as error:
            beating.failures += 1
            if beating.failures in (1, 10, 100):
                path = beating.store.directory.full(beating.own_entry.name)
                token = beating.own_entry.entry.token
                log_warning_apart(f"heartbeat of lease {token} failed {beating.failures} times ({path}: {error})")
            return True
        beating.failures = 0
        return alive
