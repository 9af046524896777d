"""One process's look-out over one pool's queue: who stands ahead, who has exited, and whether it is its turn to sweep.

The process is the unit, however many of its tickets wait. The first two processes in the queue that live and run sweep.
Each one further back watches the exit of the process right ahead, and looks now and then whether two that run are ahead
of it still. So a death is found at once by whoever stands behind it, and a stop by whoever looks.

Whoever hears for the process runs it (`_watch`): a blocked event loop or thread of it keeps nobody waiting. Where
nobody hears, the looks of its tickets do.
"""

from __future__ import annotations

import math
import threading

from leasecap import _entry, _polling
from leasecap._errors import StoreError
from leasecap._exits import Exits
from leasecap._pool import PARKED, QUEUE
from leasecap._removal import bury, tell_behind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._local import Local
    from leasecap._polling import Standing
    from leasecap._store import Store
    from leasecap._watch import Watch

ANSWER_WITHIN = 0.8
"""Seconds that a waiter has to look when its process was asked. After that the process itself parks the waiter's
ticket, before others would take back a grant of it (`_decide.ACKNOWLEDGE_WITHIN`, a second after they ask)."""


class Lookout:
    """What one process does about one queue while it waits there.

    :ivar store: whose queue it is.
    :ivar due: when it is to look, on the monotonic clock.
    """

    def __init__(self, local: Local, store: Store, watch: Watch, answer: Callable[[], None]) -> None:
        """:param answer: removes the marks of this process, if there are any (`_marks`)."""
        self.due = math.inf
        self._local = local
        self.store = store
        self._watch = watch
        self._answer = answer
        self._watched = False
        self._exits = Exits(local, store, watch, self.notify)
        self._lock = threading.Lock()  # held by the thread that looks
        self._looked: dict[str, float] = {}  # for each own ticket, when its waiter looked last
        self._asked_at = math.inf
        self._was_deaf = False
        self._stamp: bytes | None = None
        self._stamp_since = -math.inf
        self._stands_in = False
        self._swept_at = self._retry_at = -math.inf
        self._changes_at = math.inf

    # -- tickets ----------------------------------------------------------------------------------------------------

    def add(self, name: str, now: float, *, watched: bool, alone: bool) -> None:
        """A ticket of this process has queued.

        :param watched: wake-ups reach this process.
        :param alone: it stands first, so that it is to sweep at once.
        """
        self._watched = watched
        self._looked[name] = now
        self.look_by(-math.inf if alone else now + _polling.ATTACH_AFTER)

    def remove(self, name: str) -> None:
        """It has left the queue."""
        self._looked.pop(name, None)
        self._exits.forget_ticket(name)
        if self._looked:
            self.notify()  # another one of them is the first now
        elif self._lock.acquire(blocking=False):  # else whoever looks at the moment sees it
            try:
                self._end_if_nobody_waits()
            finally:
                self._lock.release()

    def _end_if_nobody_waits(self) -> None:
        if not self._looked:
            self.due = math.inf
            self._stamp, self._stands_in = None, False
            self._swept_at, self._changes_at, self._asked_at = -math.inf, math.inf, math.inf
            self._exits.close()

    def looked(self, name: str, now: float) -> None:
        """The waiter of this ticket has looked."""
        self._looked[name] = now

    def notify(self) -> None:
        """Something has changed in the queue."""
        self.look_by(-math.inf)

    def look_by(self, when: float) -> None:
        """Look at that time, if not before."""
        if when < self.due:
            self.due = when
            if self._watched:
                self._watch.hear_until(when)
            elif when == -math.inf:
                self._local.wake_tickets(
                    tuple(self._looked)[:1]
                )  # one that looks by itself; the others are late enough

    def ask(self) -> None:
        """Somebody asks whether this process runs: have its waiters look, and see which of them do."""
        self._answer()
        now = self._local.effects.monotonic()
        if self._asked_at == math.inf:
            self._asked_at = now
        self._local.wake_tickets(tuple(self._looked))
        self.look_by(now + ANSWER_WITHIN)

    def come_back(self) -> None:
        """This process was taken for deaf, and its tickets were passed over."""
        self._was_deaf = True
        self.notify()

    # -- looking ----------------------------------------------------------------------------------------------------

    def run(self, now: float) -> None:
        """Look if that is due. One thread does; what comes meanwhile is due once more."""
        if now < self.due or not self._lock.acquire(blocking=False):
            return
        try:
            woken, self.due = self.due == -math.inf, math.inf
            if self._looked:
                self.look_by(now + self._look(now, woken))
            self._end_if_nobody_waits()
        except (OSError, StoreError):
            self.look_by(now + _polling.FAR_LOOK)  # whoever asks for a slot is told what is wrong; it fails nobody here
        finally:
            self._lock.release()

    def _look(self, now: float, woken: bool) -> float:
        """
        :param woken: something has changed, or may have.
        """
        store = self.store
        self._answer()
        if self._was_deaf:
            self._was_deaf = False
            store.enter_and_settle()
        self._park_the_silent(now)
        standing = _polling.standing(store.names(QUEUE), self._local.process)
        if standing is None:
            return _polling.PROCESS_LOOK
        runs, blind = self._who_runs(standing)
        exited, self._exits.came = self._exits.came, False  # before the sweep: what exits during it wakes once more
        began, on_duty = self._stands_in, self._is_unswept(now) or runs < 2
        covered = False
        if on_duty:
            self._sweep(now, exited or self._stands_in > began)
            covered = not woken and self._cover(standing, now)
        elif self._watched:
            self._watch_ahead(standing)
        pause = _polling.process_look(
            standing.rank, on_duty=on_duty, covered=covered, watched=self._watched and not blind
        )
        if on_duty:
            # A pause ends, the next grant may follow, a slot has cooled down: nobody wakes anybody for that.
            pause = min(pause, max(self._changes_at - now, _polling.FIRST_LOOK))
        return min(pause, self._asked_at + ANSWER_WITHIN - now)

    def _who_runs(self, standing: Standing) -> tuple[int, bool]:
        """How many of those ahead run, as far as it matters; and whether one of them can't be seen.

        What those have in the queue that have exited is removed.
        """
        peers = self.store.peers
        runs = 0
        blind = False
        for ticket in map(_entry.parse, standing.ahead):
            seen = peers.look(ticket) if ticket.token else "away"
            runs += seen == "runs"
            blind = blind or peers.identity(ticket) is None
            if runs == 2:
                break
        if peers.gone or peers.dead:
            self.store.enter_and_settle()  # first: somebody may be granted a slot that they kept
            bury(self.store)
        return runs, blind

    def _watch_ahead(self, standing: Standing, other: tuple[int, int] | None = None) -> bool:
        """Watch the process right ahead, or the nearest one before it that can be seen, and ``other``.

        Returns False if one can't be watched. Did it exit just now, nobody would tell: what it has left is removed, by
        which this process is told to look once more.
        """
        peers = self.store.peers
        names = ([standing.predecessor] if standing.predecessor else []) + list(reversed(standing.ahead))
        ahead = next((ticket for ticket in map(_entry.parse, names) if peers.identity(ticket) is not None), None)
        process = None if ahead is None else peers.identity(ahead)
        watched = self._exits.watch([each for each in (process, other) if each is not None])
        if not watched and ahead is not None and peers.look(ahead) == "gone":
            bury(self.store)
        return watched

    def _is_unswept(self, now: float) -> bool:
        """Whether nobody has swept for so long that those who should can't be running: then it stands in for them."""
        stamp = self.store.stamp()
        if stamp != self._stamp:
            self._stamp, self._stamp_since, self._stands_in = stamp, now, False
        elif now - self._stamp_since >= _polling.UNSWEPT:
            self._stands_in = True
        return self._stands_in

    def _sweep(self, now: float, at_once: bool) -> None:
        if not at_once and now < min(self._swept_at + _polling.SWEEP_EVERY, self._changes_at):
            return
        if self._changes_at <= now:
            self._changes_at = math.inf  # should somebody else have swept just now, one period is soon enough
        self.store.refresh()
        before, self._swept_at = self._swept_at, now
        # Unchanged since my own previous look: then nobody has swept for a whole period.
        if at_once or before == -math.inf or self._stamp_since <= before:
            self._changes_at = now + self.store.sweep(everything=at_once)
            self._stamp, self._stamp_since = self.store.stamp(), now
        else:
            self.store.see_grants()

    def _cover(self, standing: Standing, now: float) -> bool:
        """Whether exits wake it, so that it need not look for the dead.

        Asked when a period is over in which nothing came: in a pool that is busy this would cost more than it saves.
        """
        if not self._watched or not self.store.effects.sees_exits or now < self._retry_at:
            return False
        covered = self._watch_ahead(standing, self.store.declarer()) and self._exits.cover(standing.first)
        if not covered:
            self._retry_at = now + _polling.COVERED_SWEEP
        return covered

    def _park_the_silent(self, now: float) -> None:
        """Park the tickets of those waiters that have not looked though they were asked: their loop is blocked."""
        if now < self._asked_at + ANSWER_WITHIN:
            return
        asked_at, self._asked_at = self._asked_at, math.inf
        silent = [name for name, looked in tuple(self._looked.items()) if looked < asked_at]
        parked = [name for name in silent if self.store.discard(QUEUE, name, PARKED)]
        if parked:
            tell_behind(self.store, parked)
            self.store.enter_and_settle()
