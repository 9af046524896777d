"""How long requests took, on the way to their pools.

A request notes its times without a lock or a file. What was noted is written together, at most once a second, in the
thread that writes heartbeats; what is left at the end when the process ends.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque

from leasecap._config.time_outs import TimeOuts, is_local
from leasecap._durations import LONGEST
from leasecap._errors import LeasecapError
from leasecap._feedback.histogram import histogram
from leasecap._feedback.latency import Kind, Row, added, cliff, describe, kind_of
from leasecap._host.deferred_signals import DeferredSignals
from leasecap._log import log_warning, log_warning_apart
from leasecap._named_tuple import NamedTuple
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from leasecap._config.config import PoolConfig
    from leasecap._feedback.latency import Table
    from leasecap._provider.reading import RequestFacts

EVERY = 1.0
"""Seconds."""

_MOST_NOTES, _MOST_UNWRITTEN = 20_000, 100
"""More are not kept where nothing can be written."""

_TRIES = (0.0, 0.002, 0.01)
_LAST_TRIES = (*_TRIES, 0.05, 0.15, 0.3)
"""Seconds before each try, since another process may be writing; it takes a moment."""


class _Note(NamedTuple):
    pool: tuple[str, str]  # its root and name
    hour: int
    kind: Kind
    local: bool
    whole: bool
    seconds: float


class Latencies:
    """Those of this process."""

    def __init__(self) -> None:
        self._told: set[Hashable] = set()
        self._log: Callable[[str], None] = log_warning
        self.start()

    def start(self) -> None:
        """Begin with nothing: a fork's child writes nothing of what its parent has noted."""
        self._notes: deque[_Note] = deque(maxlen=_MOST_NOTES)
        self._unwritten: dict[tuple[tuple[str, str], int], Table] = {}
        self._failed: dict[tuple[str, str], LeasecapError | OSError] = {}
        self._is_due = False
        self._written_at = 0.0
        self._lock = threading.Lock()

    def note(
        self, root: str, pool: str, kind: Kind, *, first: float | None = None, whole: float | None = None,
        local: bool = False,
    ) -> None:  # fmt: skip
        """Note what a request with a slot of ``pool`` took; never raises.

        :param first: seconds until its answer began, or until its time was over; None: nothing of that.
        :param whole: seconds until its answer had ended; None: likewise.
        :param local: it was made of a server on this machine.
        """
        hour = int(time.time() // 3600)
        for took, is_whole in ((first, False), (whole, True)):
            if took is not None:
                seconds = float(min(max(took, 0.0), LONGEST))
                self._notes.append(_Note((root, pool), hour, kind, local, is_whole, seconds))
        if self._is_due:
            return
        self._is_due = runtime.own.heartbeats.call_later(EVERY, self.write)
        if not self._is_due and time.monotonic() - self._written_at >= EVERY:
            self.write()  # no thread is to be had here

    def write(self) -> None:
        """Write what was noted. What can't be written is kept for the next time; never raises."""
        # This is the heartbeats' thread, which a log handler must not keep.
        if not self._tried(_TRIES, log_warning_apart):
            self._is_due = runtime.own.heartbeats.call_later(EVERY, self.write)

    def end(self) -> None:
        """Write what is left, since the process ends, or what makes requests in it."""
        self._tried(_LAST_TRIES, log_warning, is_last=True)

    def _tried(self, pauses: Iterable[float], log: Callable[[str], None], *, is_last: bool = False) -> bool:
        """Returns False if something is left, since others were writing all the time or it failed.

        A failure is told when the next time fails as well: nothing is lost by one, and most pass (a crowd of
        connections took all descriptors for a moment).
        """
        with DeferredSignals(), self._lock:
            self._is_due, self._written_at, self._log = False, time.monotonic(), log
            failed_before, self._failed = self._failed, {}
            try:
                self._gather()
                for pause in pauses:
                    if pause:
                        time.sleep(pause)
                    if self._write():
                        break
                for pool, error in self._failed.items():
                    if is_last or pool in failed_before:
                        self._tell(pool, f"pool {pool[1]!r}: how long requests took could not be noted: {error}")
            except Exception as error:
                self._tell("fault", f"how long requests took could not be noted: {error!r}")
                return True
            return not self._unwritten

    def _gather(self) -> None:
        """Count what was noted."""
        series: dict[tuple[tuple[str, str], int, Kind, bool], tuple[list[float], list[float]]] = {}
        while self._notes:
            one = self._notes.popleft()
            found = series.setdefault((one.pool, one.hour, one.kind, one.local), ([], []))
            found[one.whole].append(one.seconds)
        for (pool, hour, kind, local), (first, whole) in series.items():
            row = Row(histogram(first), histogram(whole), local)
            self._unwritten[pool, hour] = added(self._unwritten.get((pool, hour), {}), {kind: row})
        while len(self._unwritten) > _MOST_UNWRITTEN:
            del self._unwritten[next(iter(self._unwritten))]

    def _write(self) -> bool:
        """Returns whether there is nothing to try again in a moment."""
        is_busy = False
        for (pool, hour), table in list(self._unwritten.items()):
            try:
                done = _add(pool, hour, table, self._log)
            except (LeasecapError, OSError) as error:
                self._failed[pool] = error
                continue
            if done is None:
                is_busy = True
                continue
            del self._unwritten[pool, hour]
            self._warn(pool[1], table, *done)
        return not is_busy

    def _warn(self, pool: str, table: Table, whole: Table, settings: PoolConfig | None) -> None:
        """Warn of time-outs that come near, of kinds of requests that this process makes."""
        for kind, row in whole.items():
            if kind not in table or settings is None:
                continue
            time_outs = TimeOuts(settings.requests, local=row.local)
            found = cliff(kind, row, time_outs.until_it_begins(kind.streamed))
            if found is not None:
                self._tell((pool, kind), f"pool {pool!r}: {describe(found)}")

    def _tell(self, what: Hashable, message: str) -> None:
        """Log it, once."""
        if what not in self._told:
            self._told.add(what)
            self._log(message)


def _add(
    pool: tuple[str, str], hour: int, table: Table, log: Callable[[str], None]
) -> tuple[Table, PoolConfig | None] | None:
    """Add to a pool's counts; returns what that hour counts now, and the pool's settings. None: another process is at
    it."""
    root = runtime.root(pool[0])
    settings = root.pool(pool[1])
    if settings.store is None and not runtime.is_used(root.path, settings.name):  # a server sees to that itself
        return {}, None  # it was removed since, and is not made again for this
    with runtime.using(root, pool[1]) as store:
        whole = store.add_latency(hour, table, log)
    return None if whole is None else (whole, settings)


class Timed:
    """One request with a slot, which is sent now.

    :ivar ttfb: seconds until its answer began.
    """

    __slots__ = ("_kind", "_local", "_pool", "_sent", "ttfb")

    def __init__(self, root: str, pool: str, facts: RequestFacts, host: str) -> None:
        """
        :param root, pool: of its slot.
        :param host: of its URL.
        """
        self._pool = root, pool
        self._kind = kind_of(facts.model, bool(facts.streams))
        self._local = is_local(host)
        self._sent = time.monotonic()
        self.ttfb = 0.0

    def begins(self) -> None:
        """Its answer begins, or the time for that is over."""
        self.ttfb = time.monotonic() - self._sent

    def note_begin(self) -> None:
        """Note how long it took to begin, since it was no refusal."""
        latencies.note(*self._pool, self._kind, first=self.ttfb, local=self._local)

    def note_end(self) -> None:
        """It has ended, whole: note how long all of it took."""
        took = time.monotonic() - self._sent
        latencies.note(*self._pool, self._kind, whole=took, local=self._local)


def note_report(root: str, pool: str, status: int | None, kind: str | None, ttfb: float) -> None:
    """Note the time to the first byte that a program reports, which doesn't say of which model.

    That of an error says nothing about load.
    """
    if kind in (None, "neutral") and (status or 200) < 400:
        latencies.note(root, pool, Kind("", True), first=ttfb)


latencies = Latencies()
atexit.register(latencies.end)

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=latencies.start)
