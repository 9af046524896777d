"""What a waiter looks at, and how often."""

from __future__ import annotations

import math

from leasecap import _decide
from leasecap._pool import QUEUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._acquire import Acquisition
    from leasecap._ends import Ends
    from leasecap._entries import Claim

_FULL_LOOK, _FULL_LOOK_WATCHED = 0.05, 15.0
"""Seconds between looks at the whole queue; those in between only ask what became of one's own ticket. Who is woken
looks at it all when that happens, so 100 idle waiters cost a fifth of what they did (`scripts/bench`, F)."""


class Look:
    """A waiter's looks at the queue."""

    def __init__(self, acquisition: Acquisition, claim: Claim) -> None:
        self._acquisition = acquisition
        self._store = acquisition.store
        self._claim = claim
        self._due = math.inf  # the first look is one that something calls for
        self._full_at = self._looked_at = self._cover_at = -math.inf  # a machine's clock may stand below zero
        self._began = self._tell_at = self._beat_at = self._near_since = 0.0
        self._first_position = self._position = 0
        self._limit = 1
        self._changes_at = math.inf
        self._stamp: bytes | None = None
        self._deputy = False
        self._tell_every = 1.0
        self._ends: Ends | None = None

    def __call__(self, now: float, watched: bool) -> float | None:
        """Look; returns the seconds until the next look, or None if the ticket left the queue."""
        if not self._began:
            self._began = now
            self._tell_at = now + self._tell_every if self._acquisition.tells else math.inf
            self._beat_at = now + self._claim.record.heartbeat
        woken = now < self._due  # so something has changed
        if (woken or now >= self._full_at or not self._is_queued(watched)) and not self._full_look(now, watched):
            return None
        self._sweep(now)
        if _decide.is_near(self._position, self._limit):
            self._near_since = self._near_since or now
        else:
            self._near_since = 0.0
        waited = now - self._began
        pause = _decide.rest(
            _decide.Wait(
                position=self._position,
                limit=self._limit,
                waited=waited,
                near_for=now - self._near_since if self._near_since else 0.0,
                rate=(self._first_position - self._position) / waited if waited else 0.0,
                watched=watched,
                covered=watched and not woken and self._is_covered(now),
            )
        )
        if self._position <= 2:
            # A pause ends, the next grant may follow, a slot has cooled down: nobody wakes anybody for that.
            pause = min(pause, max(self._changes_at - now, _decide.FIRST_LOOK))
        if self._deputy:
            pause = min(pause, _decide.FAR_SWEEP)
        pause = min(pause, self._tell_at - now, self._claim.record.heartbeat)
        if now + pause > self._beat_at:
            self._beat(now)  # early, so that nobody has to wake for it
        self._due = now + pause
        return pause

    def close(self) -> None:
        """After the last one."""
        if self._ends is not None:
            self._ends.close()

    def _beat(self, now: float) -> None:
        try:
            self._store.beat(self._claim)
        except OSError:
            pass  # who is taken for dead for want of it begins again, and that fails with what is wrong
        self._beat_at = now + self._claim.record.heartbeat

    def _is_covered(self, now: float) -> bool:
        """Whether the ends of all holders wake it, so that it need not look for them.

        Asked when a pause is over and nothing came: in a pool that is busy this would cost more than it saves.
        """
        if self._position > 2 or now < self._cover_at or not self._store.effects.sees_ends:
            return False
        if self._ends is None:
            self._ends = self._acquisition.ends(self._claim)
        covered = self._ends.cover()
        if not covered:
            self._cover_at = now + _decide.FAR_SWEEP
        return covered

    def _is_queued(self, watched: bool) -> bool:
        if not watched:
            return True  # it sees the whole queue soon enough
        try:
            self._store.directory.stat(f"{QUEUE}/{self._claim.name}")
        except FileNotFoundError:
            return False
        return True

    def _full_look(self, now: float, watched: bool) -> bool:
        store, claim = self._store, self._claim
        queue = store.directory.list(QUEUE)
        if claim.name not in queue:
            # In this order: it moves from granted/ to parked/ and not back.
            if store.acknowledge(claim):
                return False
            if not store.unpark(claim):
                return False
            store.enter_and_settle()
            return True
        self._position = 1 + sum(name < claim.name for name in queue)
        self._acquisition.position = self._position
        self._first_position = self._first_position or self._position
        due = now >= self._tell_at
        if due or not watched:  # the limit says how near the head is, and that matters to nobody who is woken
            snapshot = store.snapshot()
            self._limit = _decide.effective_limit(snapshot) or 1
            if due:
                self._tell_every *= 2
                self._tell_at = now + self._tell_every
                self._acquisition.tell(snapshot)
        self._full_at = min(now + _FULL_LOOK_WATCHED, self._tell_at) if watched else now + _FULL_LOOK
        return True

    def _sweep(self, now: float) -> None:
        first = self._position <= 2
        # From its last look, by what it is now: what was due when it stood further back would be up to a second late.
        period = _decide.SWEEP_EVERY if first else _decide.FAR_SWEEP
        ended = self._ends is not None and self._ends.came
        if self._ends is not None:
            self._ends.came = False  # before the sweep: what ends during it wakes once more
        if not ended and now < min(self._looked_at + period, self._changes_at):
            return
        if self._changes_at <= now:
            self._changes_at = math.inf  # should somebody else have swept just now, one period is soon enough
        if self._looked_at > -math.inf:  # at first it has been inside the section just now, where that is done
            self._acquisition.refresh()
        self._looked_at = now
        stamp = self._store.stamp()
        # Unchanged since my own previous look: then nobody has swept for a whole period, and nobody else may.
        self._deputy = stamp == self._stamp
        if ended or self._deputy or (first and self._stamp is None):
            self._changes_at = now + self._acquisition.sweep()
            stamp = self._store.stamp()
        self._stamp = stamp
