"""A lease in a store, for the process that holds it."""

from __future__ import annotations

from functools import partial

from leasecap._durations import format_duration
from leasecap._errors import LeasecapError, StoreError
from leasecap._liveness.max_hold import hold_of
from leasecap._liveness.record import Child
from leasecap._log import log_warning
from leasecap._redis_store.keeper import Keeper
from leasecap._redis_store.renewals import Kept
from leasecap._threads import is_in_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from leasecap._liveness.record import Record
    from leasecap._redis_store.alarms import Gone
    from leasecap._redis_store.answer import Answer
    from leasecap._redis_store.open_pool import OpenPool


def _nothing() -> None:
    pass


class HeldLease:
    """See `_store.lease.HeldLease`."""

    owes = False  # a slot that is released is handed off by the store itself

    def __init__(self, store: OpenPool, kept: Kept, granted: float, since: float) -> None:
        """
        :param kept: what renews it.
        :param granted: when it was granted, by the store's clock.
        :param since: the same, by the monotonic one.
        """
        self.pool = store.name
        self.token = kept.name[21:37]
        self.place = store.place
        self.granted = granted
        self.hold = hold_of(kept.record, since)
        self._store = store
        self._kept = kept
        self._holder: Gone | None = None
        self._keeper: Keeper | None = None

    @property
    def record(self) -> Record:
        return self._kept.record

    def now(self) -> float:
        return self._store.monotonic()

    def keep(self, lease: object, on_gone: Callable[[], None], on_dropped: Callable[[], None]) -> None:
        own = self._store.own
        self._kept.on_gone = on_gone
        if not self._store.own.renewals.keeps(self._kept):
            on_gone()  # it was lost before anybody could be told
        pool = self._store.pool
        self._holder = own.alarms.when_gone(lease, lambda: own.errands.do(own.after_reports(pool, on_dropped)))

    def set_alarm(self, when: float, on_alarm: Callable[[], None]) -> None:
        own = self._store.own
        own.alarms.set(self._kept, when, partial(own.errands.do, on_alarm))

    def release(self, *, hand_off: bool = True) -> bool:
        self._stop()
        if self._keeper is not None:
            self._keeper.end()
        if is_in_loop():
            self._store.own.release_soon(self._store.pool, self.token, self._end)
            return True
        self._store.own.await_reports(self._store.pool)  # a task's, perhaps, which leaves the release to a thread
        return self._end()

    def _end(self) -> bool:
        self._kept.settle()
        try:
            return self._store.pool.end(self.token, by_holder=True)
        except LeasecapError as error:  # a ConfigError too: a password's file may be gone
            why = str(error).splitlines()[0]
            log_warning(f"lease {self.token} of pool {self.pool!r} could not be released ({why}); trying on")
            self._store.own.end_again(self._store.pool, self.token, self._kept.sent + self._kept.ttl)
            return True

    def hand_off(self) -> None:
        pass

    def describe(self, **fields: Any) -> bool:
        record = self._kept.record = self._kept.record._replace(**fields)
        if not (self._kept.describe() or (self._store.own.renewals.adopts(self._kept) and self._kept.describe())):
            return False
        process = record.child if record.proof == "lock" else Child(record.pid, record.start or 0)
        if process is not None and process.pid and self._keeper is None:
            self._keeper = Keeper(self._store.own.address, self._kept, process)
        return True

    def note_answer(self) -> None:
        self._store.own.errands.send(partial(self._store.pool.note_answer, self.token))  # for people: it may fail

    def let_go(self) -> None:
        self._stop()
        if self._keeper is not None:
            self._keeper.let_go()

    def _stop(self) -> None:
        self._store.own.renewals.remove(self._kept.name)
        self._store.own.alarms.cancel(self._kept)
        self._holder = None
        self._kept.on_gone = self._kept.on_unsure = _nothing

    def watch_doubt(self, on_doubt: Callable[[], None]) -> None:
        self._kept.on_unsure = on_doubt

    def ends_in(self) -> float | None:
        if not (self._kept.unconfirmed or self._store.own.renewals.keeps(self._kept)):
            return None  # it was taken, or given back: that is known
        return self._kept.ends_in(self._store.boot_clock())

    def give_away(self) -> bool | None:
        if not self._store.force:
            return False
        try:
            self._store.pool.renew([], [])  # what is known of the policy may be a beat old, or as old as an outage
            if not self._store.force:
                return False
            self._store.pool.end(self.token, by_holder=False)
        except StoreError:
            return None
        return True

    def removed(self) -> str:
        if not self._kept.unconfirmed:
            return ""
        return f"no renewal has reached {self._store.path} for {format_duration(self._kept.ttl)}"

    def inheritable(self) -> int | None:
        return None


def found_held(store: OpenPool, ticket: Kept | None, record: Record, sent: float, found: Answer) -> Kept | None:
    """The lease that an answer tells of; None: its time is over, since its caller was stopped or blocked for that long.

    :param ticket: its ticket, if it had one. The renewals of that have renewed the lease as well.
    :param sent: when it was asked for (boot clock, seconds).
    """
    kept = Kept(store.pool, found.name, sent, record, lambda: None, is_lease=True)
    kept.ttl = found.ttl  # not the pool's, which may know of a longer policy by now
    if ticket is not None:
        kept.confirm(ticket.sent, ticket.ttl)
    if kept.sent + kept.ttl <= store.boot_clock():
        return None
    if record.max_hold is not None:
        store.own.errands.do(kept.describe)  # from the grant on: only now it is known when that was
    return kept
