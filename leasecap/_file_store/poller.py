"""What the waiter of a ticket looks at, and how often."""

from __future__ import annotations

import math

from leasecap._decisions import polling
from leasecap._decisions.limits import effective_limit
from leasecap._decisions.places import QUEUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.lookout import Lookout
    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._file_store.store import Store

_FULL_LOOK = 0.05
"""Seconds between looks at the whole queue, for a waiter that nobody wakes. Its looks in between ask only what became
of its own ticket."""


class Poller:
    """A waiter's looks at its ticket."""

    def __init__(self, store: Store, own_entry: OwnEntry, lookout: Lookout) -> None:
        self._store = store
        self._own_entry = own_entry
        self._lookout = lookout
        self._full_at = -math.inf  # a machine's clock may stand below zero
        self._began = self._beat_at = self._near_since = 0.0
        self._first_position = self._position = 0
        self._limit = 1

    def look(self, now: float, watched: bool, *, serves: bool) -> float | None:
        """Look; returns the seconds until the next look, or None if the ticket left the queue.

        :param watched: wake-ups reach this process.
        :param serves: this waiter runs its process's look-out as well.
        """
        if not self._began:
            self._began = now
            self._beat_at = now + self._own_entry.record.heartbeat
        self._lookout.looked(self._own_entry.name, now)
        if not self._is_queued() and not self._take_up():
            return None
        if not watched and now >= self._full_at:
            self._look_at_the_queue(now)
        if serves:
            self._lookout.run(now)
        beat_in = self._beat_at - now
        if beat_in <= polling.FIRST_LOOK:
            self._beat(now)
            beat_in = self._own_entry.record.heartbeat  # in which it is tried again, at the latest
        pause = min(polling.poll_interval(self._wait(now, watched)), beat_in)
        if serves:
            pause = min(pause, max(self._lookout.due - now, 0.0))
        return pause

    def _is_queued(self) -> bool:
        try:
            self._store.directory.stat(f"{QUEUE}/{self._own_entry.name}")
        except FileNotFoundError:
            return False
        return True

    def _take_up(self) -> bool:
        """Acknowledge a grant, or go back into the queue; returns whether it is queued."""
        store, own_entry = self._store, self._own_entry
        # granted/ is tried first: an entry moves from there to parked/ and never back.
        if store.entries.acknowledge(own_entry) or not store.entries.unpark(own_entry):
            return False
        store.notify_behind(own_entry.name)  # the ticket has come to stand before them
        store.reconciler.transact()
        return True

    def find_position(self) -> int:
        """The ticket's place in the queue; 0 if it has none."""
        queue, name = self._store.directory.list(QUEUE), self._own_entry.name
        return 1 + sum(other < name for other in queue) if name in queue else 0

    def _look_at_the_queue(self, now: float) -> None:
        self._full_at = now + _FULL_LOOK
        self._position = self.find_position()
        self._first_position = self._first_position or self._position
        self._limit = effective_limit(self._store.snapshots.take()) or 1
        if not polling.is_near(self._position, self._limit):
            self._near_since = 0.0
        elif not self._near_since:
            self._near_since = now

    def _wait(self, now: float, watched: bool) -> polling.Wait:
        waited = now - self._began
        return polling.Wait(
            position=self._position,
            limit=self._limit,
            waited=waited,
            near_for=now - self._near_since if self._near_since else 0.0,
            rate=(self._first_position - self._position) / waited if waited else 0.0,
            watched=watched,
        )

    def _beat(self, now: float) -> None:
        try:
            self._store.beat(self._own_entry)
        except OSError:
            return  # a waiter that is taken for dead without it begins again, and that raises what is wrong
        self._beat_at = now + self._own_entry.record.heartbeat  # the beat may have changed the interval
