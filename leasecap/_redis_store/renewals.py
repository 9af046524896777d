"""One thread renews all that a process has in a store, so that a blocked event loop keeps its leases and tickets.

A lease is lost for its holder one ``ttl`` after the last renewal was *sent* that the store has confirmed: the store
counts from when that came, so the holder knows before its slot can be another's. `Alarms` sees to it, on a clock that
goes on while the machine sleeps; no answer and no time-out of the network can make that late.
"""

from __future__ import annotations

import math
import threading

from leasecap._log import log_warning_apart
from leasecap._redis_store.holding import ends_in
from leasecap._redis_store.lua.state import BEATS
from leasecap._threads import await_end, start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._host.effects import Effects
    from leasecap._liveness.record import Record
    from leasecap._redis_store.pool import Pool

_RETRY = 1.0  # seconds at most between tries of a renewal that failed
_LOOK_SHARE = 1 / 20  # of a ttl, between looks at a lease that can't be renewed
_LOOK_EVERY = 1.0  # seconds; the clock that threads wait by may stand while the machine sleeps


def _nothing() -> None:
    pass


class Kept:
    """An entry that is renewed.

    :ivar sent: when the last renewal was sent that was confirmed (boot clock, seconds). A ticket's looks are such.
    :ivar ttl: for how long that one holds.
    :ivar on_gone: called once it is found to be gone; for a lease that is when it is lost.
    :ivar is_lease: else it is a ticket, which the store never adopts.
    :ivar unconfirmed: it is a lease whose time is over though nobody has said that it was taken.
    :ivar kill_after: seconds that what runs under it has to end.
    :ivar on_unsure: called once that has to end soon, unless a renewal comes through.
    :ivar settle: waits until the store has said that a lease is held which has begun before (`taking_up`).
    """

    __slots__ = (
        "_is_unsure",
        "_telling",
        "is_lease",
        "kill_after",
        "name",
        "on_gone",
        "on_unsure",
        "pool",
        "record",
        "sent",
        "settle",
        "ttl",
        "unconfirmed",
    )

    def __init__(
        self, pool: Pool, name: str, sent: float, record: Record, on_gone: Callable[[], None], *, is_lease: bool
    ) -> None:
        self.pool = pool
        self.name = name
        self.sent = sent
        self.ttl = pool.ttl
        self.record = record
        self.on_gone = on_gone
        self.is_lease = is_lease
        self.unconfirmed = False
        self.kill_after = 0.0
        self.on_unsure = self.settle = _nothing
        self._is_unsure = False
        self._telling = threading.Lock()

    @property
    def look_every(self) -> float:
        """Seconds between looks at its time."""
        return min(_LOOK_EVERY, self.pool.ttl * _LOOK_SHARE)

    @property
    def is_settled(self) -> bool:
        """Whether the store knows of the lease."""
        return self.settle is _nothing

    def confirm(self, sent: float, ttl: float) -> None:
        """The store knows of it, as of something that was sent at that moment and holds for ``ttl``."""
        if sent >= self.sent:  # an event loop that was blocked reads the answer to a look that renewals have followed
            self.sent = sent  # before the other: at no moment it seems to last longer than it does
            self.ttl = ttl
        self.settle = _nothing

    def describe(self) -> bool:
        """Tell the store what the record says; False if the entry is gone.

        :raises StoreError: when it can't be told.
        """
        self.settle()
        with self._telling:  # an earlier record must not arrive after a later one
            return self.pool.describe(self.name[21:37], self.record)

    def ends_in(self, now: float) -> float | None:
        """Seconds until what runs under it must have ended; None: it need not, as far as is known.

        :param now: boot clock, seconds.
        """
        if self.pool.holding.when_unsure != "end" or not (self.is_settled or self.unconfirmed):
            return None  # one that the store doesn't know yet was begun where the policy said otherwise
        return ends_in(self.sent, self.ttl, self.kill_after, now)

    def becomes_unsure(self, now: float) -> bool:
        """Whether what runs under it has to end soon, which wasn't so at the last look."""
        was, self._is_unsure = self._is_unsure, self.ends_in(now) is not None
        return self._is_unsure and not was


class Renewals:
    """The thread and what it renews. Nothing is raised: what fails is tried again until the lease is lost."""

    def __init__(self, effects: Effects, watch: Callable[[float], None]) -> None:
        """:param watch: has `check` called at that moment (monotonic) at the latest."""
        self._effects = effects
        self._watch = watch
        self._changed = threading.Condition(threading.RLock())
        self._kept: dict[str, Kept] = {}
        self._due: dict[Pool, float] = {}
        self._suspect: set[Pool] = set()  # where something may have been taken
        self._unasked: set[Pool] = set()  # such ones, with a lease that nothing could be asked of yet
        self._failing: dict[Pool, float] = {}  # since when
        self._told: set[Pool] = set()
        self._thread: threading.Thread | None = None
        self._wakes_at = math.inf

    def add(self, kept: Kept) -> None:
        """Renew it from now on."""
        with self._changed:
            self._kept[kept.name] = kept
            self._schedule(kept)
        if kept.is_lease:
            left = kept.sent + kept.ttl - self._effects.boot_clock() / 1e9
            self._watch(self._effects.monotonic() + min(left, kept.look_every))

    def _schedule(self, kept: Kept) -> None:
        now, pool = self._effects.monotonic(), kept.pool
        # The pool may know of a longer policy since: what is kept was not renewed by that.
        beat = min(pool.beat, kept.ttl / BEATS) if kept.is_settled else pool.beat
        due = self._due[pool] = min(self._due.get(pool, math.inf), now + beat)
        if self._thread is None:
            self._start()
        elif due < self._wakes_at:
            self._changed.notify()

    def confirm(self, kept: Kept, sent: float, ttl: float) -> None:
        """The store knows of a lease, see `Kept.confirm`. It may have said another ttl than before."""
        with self._changed:
            kept.confirm(sent, ttl)
            if self._kept.get(kept.name) is not kept:
                return
            if kept.pool in self._unasked:  # it may have been taken since it was answered for
                self._unasked.discard(kept.pool)
                self._suspect.add(kept.pool)
                self._due[kept.pool] = self._effects.monotonic()
            self._schedule(kept)

    def adopts(self, kept: Kept) -> bool:
        """Whether the store, which doesn't know the lease, takes it for held: it may have forgotten that.

        Nothing that its holder has ended, or knows to be lost, may be adopted: nobody would renew or end it.

        :raises StoreError: when the store can't be asked.
        """
        return self.keeps(kept) and kept.pool.renew([kept.name], []) != ("lost",)

    def note_look(self, ticket: Kept, sent: float, ttl: float) -> None:
        """A look, sent at that moment (boot clock, seconds), has renewed the ticket for ``ttl``."""
        with self._changed:
            before = ticket.ttl
            ticket.confirm(sent, ttl)
        if ticket.ttl < before:  # somebody has pushed another policy: the next renewal must come sooner
            self.add(ticket)

    def _start(self) -> None:
        try:
            self._thread = start_thread("redis-renewals", self._run)
        except RuntimeError as error:
            log_warning_apart(f"no renewals: {error}. Leases in a store are lost after their ttl")

    def all(self) -> list[Kept]:
        """All that is renewed."""
        with self._changed:
            return list(self._kept.values())

    def has_in(self, pool: Pool) -> bool:
        """Whether anything of that pool is renewed."""
        with self._changed:
            return any(kept.pool is pool for kept in self._kept.values())

    def keeps(self, kept: Kept) -> bool:
        """Whether it is renewed."""
        return kept.name in self._kept

    def remove(self, name: str) -> None:
        """Renew it no more."""
        with self._changed:
            self._kept.pop(name, None)

    def lose(self, kept: Kept) -> None:
        """It is gone: renew it no more, and tell its holder, unless that has ended it."""
        with self._changed:
            is_kept = self._kept.get(kept.name) is kept
            if is_kept:
                del self._kept[kept.name]
        if is_kept:
            kept.on_gone()

    def soon(self) -> None:
        """Renew all at once: something may have been taken."""
        with self._changed:
            now = self._effects.monotonic()
            self._due = dict.fromkeys(self._due, now)
            self._suspect = set(self._due)
            self._changed.notify()

    def check(self) -> float:
        """Tell the holders of leases whose time is over; returns the seconds until the next look."""
        now = self._effects.boot_clock() / 1e9
        next_one = math.inf
        over: list[Kept] = []
        unsure: list[Kept] = []
        with self._changed:
            for kept in list(self._kept.values()):
                if not kept.is_lease:
                    continue
                left = kept.sent + kept.ttl - now
                if left <= 0:
                    kept.unconfirmed = True
                    over.append(self._kept.pop(kept.name))
                else:
                    if kept.becomes_unsure(now):
                        unsure.append(kept)
                    next_one = min(next_one, left, kept.look_every)
        for kept in unsure:
            kept.on_unsure()
        for kept in over:
            kept.on_gone()
        return next_one

    def rest(self) -> None:
        """End the thread, if there is nothing to renew."""
        with self._changed:
            thread = self._thread
            if thread is None or self._kept:
                return
            self._thread = None  # by that it knows that it is to end
            self._changed.notify_all()
        await_end(thread)

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._thread is not threading.current_thread():
                    return
                pool = self._next()
                if pool is None:
                    self._wakes_at = min(self._due.values(), default=math.inf)
                    wait = self._wakes_at - self._effects.monotonic()
                    self._changed.wait(None if wait == math.inf else max(wait, 0.001))
                    continue
            self._renew(pool)

    def _next(self) -> Pool | None:
        """A pool that is to be renewed now. Those that fail are the last: if one node of a cluster is silent, each of
        its pools takes seconds, in which what is held on the others would run out."""
        now = self._effects.monotonic()
        due = [pool for pool, when in self._due.items() if when <= now]
        if not due:
            return None
        # Only now, or each acquire of many short ones would rouse the thread.
        pools = {kept.pool for kept in self._kept.values()}
        self._due = {pool: when for pool, when in self._due.items() if pool in pools or when > now}
        return min(pools.intersection(due), key=lambda pool: (pool in self._failing, self._due[pool]), default=None)

    def _renew(self, pool: Pool) -> None:
        with self._changed:
            everything = pool in self._suspect
            self._suspect.discard(pool)
            all_of_it = [kept for kept in self._kept.values() if kept.pool is pool]
            entries = [kept for kept in all_of_it if kept.is_settled]
            if everything and len(entries) < len(all_of_it):
                self._unasked.add(pool)
        sent = self._effects.boot_clock() / 1e9
        leases = [kept for kept in entries if kept.is_lease]
        # To look renews a ticket as well. One whose waiter is blocked has half of its time left.
        tickets = [kept for kept in entries if not kept.is_lease and (everything or kept.sent + kept.ttl / 2 <= sent)]
        if not leases and not tickets:
            left = min((kept.sent + kept.ttl / 2 - sent for kept in entries), default=0.0)
            with self._changed:
                self._due[pool] = self._effects.monotonic() + max(left, 0.01)
            return
        before = pool.ttl
        try:
            answers = pool.renew([kept.name for kept in leases], [kept.name for kept in tickets])
        except Exception as error:  # whatever it is, the next try may go well, and the thread goes on
            self._note_failure(pool, leases, error)
            return
        self._failing.pop(pool, None)
        self._told.discard(pool)
        gone: list[Kept] = []
        ttl = min(before, pool.ttl)  # an answer that was read since may tell of a longer policy, pushed after this one
        with self._changed:
            if pool not in self._suspect:  # else somebody has asked for another look meanwhile
                self._due[pool] = self._effects.monotonic() + min(pool.beat, ttl / BEATS)
            for kept, answer in zip((*leases, *tickets), answers, strict=True):
                if answer != "lost":
                    kept.confirm(sent, ttl)
                elif self._kept.get(kept.name) is kept:  # else the ticket is a lease by now, which asks for itself
                    del self._kept[kept.name]
                    gone.append(kept)
        for kept in gone:
            kept.on_gone()
        for kept, answer in zip(leases, answers, strict=False):
            if answer == "adopted":
                try:
                    kept.describe()
                except Exception:
                    pass  # the next renewal asks for it again, and the thread goes on

    def _note_failure(self, pool: Pool, leases: list[Kept], error: Exception) -> None:
        now = self._effects.monotonic()
        with self._changed:
            self._due[pool] = now + min(pool.beat, _RETRY)
        since = self._failing.setdefault(pool, now)
        if not leases or pool in self._told or now - since < pool.beat:
            return
        self._told.add(pool)
        left = min(kept.sent + kept.ttl for kept in leases) - self._effects.boot_clock() / 1e9
        ids = ", ".join(kept.name[21:37] for kept in leases[:3]) + (", ..." if len(leases) > 3 else "")
        log_warning_apart(
            f"{len(leases)} lease(s) of pool {pool.name.text!r} ({ids}) can't be renewed, and are lost in "
            f"{max(left, 0):.0f} s unless that changes: {error}"
        )
