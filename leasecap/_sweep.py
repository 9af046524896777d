"""Sweeping: what dead processes left is removed, and what nobody did meanwhile is done."""

from __future__ import annotations

import math

from leasecap import _decide, _entry
from leasecap._durations import format_duration
from leasecap._pool import GRANTED, LEASES, PARKED, QUEUE, STAGING, STOLEN, TRASH
from leasecap._report import tell
from leasecap._section import STAGED_LOCK
from leasecap._summary import called

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from leasecap._decide import Snapshot
    from leasecap._entry import Entry
    from leasecap._store import Store

_PROBED_HOLDERS = 200
"""Holders that one sweep looks at, in turns: 5 ms. With more of them a killed one's slot comes free that much later."""

_PROBED_TICKETS = 16
"""Tickets that a thorough sweep looks at, from the head: a waiter is looked at again before it is granted anything, so
one that died further back harms nobody yet."""

_THOROUGH_EVERY = 1.0
"""Seconds between sweeps that also look at what holds no slot. An idle queue is swept ten times a second, and most of
that was for nothing (`scripts/bench`, F). Not rarer than a heartbeat: such a gap starts an observer's count again."""


class Sweeper:
    """The sweeps of one process in one pool."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thorough_at = -math.inf  # a machine's clock may stand below zero
        self._next = 0
        self._calm: list[str] | None = None

    def sweep(self) -> float:
        """Reap what dead processes left, take back what isn't acknowledged, and grant.

        Returns the seconds until more can be granted without anybody's doing, as far as that is known. One entry that
        can't be removed is left where it is and goes on to count; it fails nobody's request.
        """
        store = self._store
        self._stamp()
        now = store.effects.monotonic()
        thorough = now >= self._thorough_at
        changes_in = math.inf
        leases = store.directory.list(LEASES)
        if not thorough and leases == self._calm and not store.names(GRANTED):
            # Nobody has moved since nothing was to be done, so only a death or a hold that has become too long can call
            # for anything: two listings and a look at each process, half of what the whole snapshot costs.
            reaped = self._clear(self._some_of([(LEASES, _entry.parse(name)) for name in leases]))
            called_for = bool(reaped)
        else:
            lessons = store.lessons()
            snapshot = store.snapshot_with(lessons)
            places = ((LEASES, snapshot.leases), (GRANTED, snapshot.granted), (PARKED, snapshot.parked))
            reaped = self._clear(self._some_of([(where, entry) for where, entries in places for entry in entries]))
            if thorough:
                self._thorough_at = now + _THOROUGH_EVERY
                self._sweep_corners(snapshot)
            plan = _decide.decide(snapshot, now)  # a look in advance: to enter costs more, and is mostly not called for
            called_for = bool(reaped or plan.grant or plan.take_back or plan.over or store.has_to_ring(snapshot))
            calm = not called_for
            if lessons is not None:
                called_for = called_for or lessons.teach(plan, snapshot)
                calm = calm and lessons.silent
                changes_in = snapshot.admission.changes_in
                if plan.ask and lessons.may_ask():
                    store.ask()
            self._calm = leases if calm else None
        if called_for or thorough:
            store.enter_and_settle()
        for name in reaped:
            store.delete(name)
        return min(changes_in, store.rises_in)

    def _some_of(self, held: list[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
        if len(held) <= _PROBED_HOLDERS:
            return held
        first = self._next % len(held)
        self._next = first + _PROBED_HOLDERS
        return (held + held)[first : self._next]

    def _clear(self, holders: list[tuple[str, Entry]]) -> list[str]:
        """`_reap`, and of those who live what is to be given away."""
        return self._reap(holders) + (self._give_away(holders) if self._store.force else [])

    def _reap(self, entries: Iterable[tuple[str, Entry]]) -> list[str]:
        """Move those whose owner is dead to ``trash/``; returns their names, to be deleted when there is time."""
        store = self._store
        dead = [(where, entry.name) for where, entry in entries if not store.observer.lives(where, entry.name)]
        return [name for where, name in dead if store.discard(where, name)]

    def _give_away(self, holders: Iterable[tuple[str, Entry]]) -> list[str]:
        """The same for leases held for too long, whose holders can't or don't do it themselves."""
        store = self._store
        given: list[str] = []
        for where, entry in holders:
            hold = store.observer.hold(entry.name)
            now = store.effects.monotonic()
            if hold is None or now < hold.give_away_at:
                continue
            record = store.observer.record(where, entry.name)
            if store.discard(where, entry.name):
                given.append(entry.name)
                late = f"{format_duration(now - hold.over_at)} over its max_hold of {format_duration(hold.max_hold)}"
                who = "" if record is None else f" {called(record)},"
                tell(f"the slot of{who} lease {entry.token} of pool {store.pool.name.text!r}, {late}, was given away")
        return given

    def _sweep_corners(self, snapshot: Snapshot) -> None:
        """What holds no slot."""
        store = self._store
        staging = store.directory.list(STAGING)
        staged = tuple(_entry.parse(name) for name in staging if not name.startswith(STAGED_LOCK))
        head = [_entry.parse(name) for name in sorted(snapshot.queue.names)[:_PROBED_TICKETS]]
        gone = self._reap((QUEUE, entry) for entry in head)
        if gone:
            store.tell_first(min(gone))
        self._reap((STAGING, entry) for entry in staged)
        for name in staging:
            if name.startswith(STAGED_LOCK):
                record = f"{STAGING}/{name}/{name.removeprefix(STAGED_LOCK)}"
                if not store.observer.judge_record(record).alive:
                    store.discard(STAGING, name)
        for name in store.directory.list(TRASH):
            store.delete(name)
        places = (snapshot.queue, snapshot.parked, snapshot.granted, snapshot.leases)
        everything = {name for place in places for name in place.names} | {entry.name for entry in staged}
        store.observer.forget_all_but(everything)
        self._forget_thefts()

    def _forget_thefts(self) -> None:
        """Remove the marks of robbed sections whose holder can't come back, once nothing is above the limit.

        Until then what it granted, or grants, has to be known by its token.
        """
        store = self._store
        stolen = store.directory.list(STOLEN)
        if not stolen or _decide.decide(store.snapshot(), store.effects.monotonic()).over:
            return
        for name in stolen:
            robbed = store.observer.judge_record(f"{STOLEN}/{name}")
            if not robbed.alive and robbed.certain:
                store.unlink(f"{STOLEN}/{name}")

    def stamp(self) -> bytes:
        """The mark of the last sweep, to compare with what one saw at one's own last look. No clock in it."""
        try:
            return self._store.directory.read("sweep", 16)
        except OSError:
            return b""

    def _stamp(self) -> None:
        try:
            self._store.directory.overwrite("sweep", self._store.effects.token().encode())
        except OSError:
            pass  # then others sweep as well
