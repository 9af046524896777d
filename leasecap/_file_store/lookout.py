"""One process's look-out over one pool's queue: who stands ahead, who has exited, and whether it is its turn to sweep.

The process is the unit, however many of its tickets wait. The first two processes in the queue that live and run sweep.
Each one further back watches the exit of the process right ahead, and looks now and then whether two that run are still
ahead of it. So the process behind finds a death at once; a stop, which wakes nobody, is found by those looks.

Whoever receives for the process runs the look-out (`wakeups`), so a blocked event loop or thread of the process keeps
nobody waiting. Where nobody receives, the looks of the tickets run it.
"""

from __future__ import annotations

import math
import threading

from leasecap._decisions import polling
from leasecap._decisions.entry import parse_entry
from leasecap._decisions.places import PARKED, QUEUE
from leasecap._errors import StoreError
from leasecap._file_store.exits import Exits
from leasecap._file_store.removal import bury
from leasecap._file_store.sweep_stamp import SweepStamp
from leasecap._log import log_warning_apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._decisions.entry import Entry
    from leasecap._decisions.polling import Standing
    from leasecap._file_store.own_process import OwnProcess
    from leasecap._file_store.store import Store
    from leasecap._file_store.wakeups import Watch

    Process = tuple[int, int]  # pid and start

ANSWER_WITHIN = 0.8
"""Seconds that a waiter has to look when its process was asked. After that the process itself parks the waiter's
ticket, and so does before others take back its grant (`grants.ACKNOWLEDGE_WITHIN`)."""


class Lookout:
    """What one process does about one queue while it waits there.

    :ivar store: the pool that the queue belongs to.
    :ivar due: when the next look is due, on the monotonic clock.
    """

    def __init__(self, own: OwnProcess, store: Store, watch: Watch, answer: Callable[[], None]) -> None:
        """:param answer: removes the marks of this process, if there are any (`marks`)."""
        self.due = math.inf
        self._own = own
        self.store = store
        self._watch = watch
        self._answer = answer
        self._watched = False
        self._exits = Exits(own, store, watch, self.notify)
        self._lock = threading.Lock()  # the thread that looks holds it
        # For who waits and when to look. An RLock, since a waiter may be ended by a garbage collection while it is
        # held.
        self._state = threading.RLock()
        self._looked: dict[str, float] = {}  # for each own ticket, when its waiter looked last
        self._since = -math.inf
        self._waits_long = True
        self._is_alone = False
        self._asked_at = math.inf
        self._was_deaf = False
        self._stamp = SweepStamp(store)
        self._neighbours: list[Process] | None = None
        self._has_handle = False  # on a process ahead
        self._pause = 0.0
        self._retry_at = -math.inf
        self._changes_at = math.inf
        self._told_at = self._swept_at = -math.inf
        self._declarer: Process | None = None

    # -- tickets ----------------------------------------------------------------------------------------------------

    def add(self, name: str, now: float, *, watched: bool, alone: bool) -> None:
        """A ticket of this process has queued.

        :param watched: wake-ups reach this process.
        :param alone: it stands first, so that it is to sweep at once.
        """
        with self._state:  # else a thread that has just seen nobody waiting could end the look-out
            self._watched = watched
            self._looked[name] = now
            self._watch.attend(self)
            self._since = self._told_at = now
            self._is_alone = alone
            # A process that has waited for long is likely to do so again, and to look now is cheaper than to wake for
            # it.
            soon = now if self._waits_long else now + polling.ATTACH_AFTER
            self.look_by(-math.inf if alone else soon)

    def remove(self, name: str) -> None:
        """A ticket of this process has left the queue."""
        self._looked.pop(name, None)
        self._waits_long = self._own.effects.monotonic() > self._since + polling.ATTACH_AFTER
        if self._looked:
            self.notify()  # another ticket of this process may be its first now
        elif self._lock.acquire(blocking=False):  # else the thread that is looking sees that nobody waits
            try:
                self._end_if_nobody_waits()
            finally:
                self._lock.release()

    def _end_if_nobody_waits(self) -> None:
        """Call only with `_lock` held."""
        with self._state:
            if self._looked:
                return
            self.due = self._changes_at = self._asked_at = math.inf
            self._watch.leave(self)
        self._neighbours = None
        self._stamp.stands_in = False
        self._exits.close()

    def looked(self, name: str, now: float) -> None:
        """The waiter of this ticket has looked."""
        self._looked[name] = now

    def notify(self) -> None:
        """Something has changed in the queue."""
        self.look_by(-math.inf)

    def look_by(self, when: float) -> None:
        """Look at that time, if not before. Nothing is noted where nobody waits.

        If it were, the next ticket would find a look due already and wake nobody for it, while the thread that receives
        waits for ever.
        """
        with self._state:
            if when >= self.due or not self._looked:
                return
            self.due = when
        if self._watched:
            self._watch.wake_by(when)
        elif when == -math.inf:
            # Where nobody receives, the tickets look by themselves; to wake one of them is enough.
            self._own.wake_tickets(tuple(self._looked)[:1])

    def wake_all(self) -> None:
        """Have all waiters of this process look."""
        self._own.wake_tickets(tuple(self._looked))
        self.notify()

    def ask(self) -> None:
        """Somebody asks whether this process runs: have its waiters look, and see which of them do."""
        self._answer()
        now = self._own.effects.monotonic()
        if self._asked_at == math.inf:
            self._asked_at = now
        self._own.wake_tickets(tuple(self._looked))
        self.look_by(now + ANSWER_WITHIN)

    def come_back(self) -> None:
        """This process was taken for deaf, and its tickets were passed over."""
        self._was_deaf = True
        self.notify()

    # -- looking ----------------------------------------------------------------------------------------------------

    def run(self, now: float) -> None:
        """Look if that is due, in one thread at a time. What comes during a look makes one more look due."""
        if now < self.due or not self._lock.acquire(blocking=False):
            return
        try:
            with self._state:
                woken, self.due = self.due == -math.inf, math.inf
            if self._looked:
                self.look_by(now + self._look(now, woken))
            self._end_if_nobody_waits()
        except Exception as error:  # whoever receives goes on, whatever it is
            if not isinstance(error, (OSError, StoreError)):
                log_warning_apart(f"the queue of pool {self.store.pool.name.text!r} can't be looked at: {error!r}")
            self._own.wake_tickets(tuple(self._looked))  # it is no error here; callers that ask for a slot get it
            self.look_by(now + polling.FAR_LOOK)
        finally:
            self._lock.release()

    def _look(self, now: float, woken: bool) -> float:
        """Look; returns the seconds until the next time.

        :param woken: something has changed, or may have.
        """
        self._answer()
        if not woken:
            self.store.refresh()
        if self._was_deaf:
            self._was_deaf = False
            self.store.reconciler.transact()
        self._park_the_silent(now)
        return min(self._look_at_the_queue(now, woken), self._asked_at + ANSWER_WITHIN - now)

    def _look_at_the_queue(self, now: float, woken: bool) -> float:
        self._told_at = now if woken else self._told_at
        # reset before the sweep: an exit during it makes one more due
        exited, self._exits.came = self._exits.came, False
        # The first look after queueing doesn't read the stamp; in a busy pool there is no second one.
        stands_in = now > self._since and self._stamp.look(now, woken=woken, early=now >= self._changes_at)
        # Where the provider is asked for its count, a wake-up may say that a slot was released.
        asks = woken and self.store.feedback is not None and self.store.feedback.terms.gated
        at_once, self._is_alone = exited or self._is_alone or stands_in or asks, False
        if not woken:
            granted = [name for name in self.store.snapshots.see_grants() if name in self._looked]
            # Whoever grants may be killed before it can say so, or before it has granted all that it was to.
            self._own.wake_tickets(granted)
            if granted:
                self.store.notify_behind(*granted)
        if not (woken or exited or self._stamp.stands_in) and self._is_as_before():
            return self._pause
        standing = polling.standing(self.store.entries.names(QUEUE), self._own.id)
        if standing is None:  # all have been granted slots, or been parked
            self._own.wake_tickets(tuple(self._looked))
            return polling.SELDOM_LOOK
        # The first two sweep in any case, and that finds the dead ahead of them as well.
        expected = (woken or now <= self._since) and not exited  # whether all ahead of it are expected to run
        running = self._walk(standing, expected) if standing.rank > 2 else []
        on_duty = standing.rank <= 2 or len(running) < (2 if standing.rank == 3 else 1) or self._stamp.stands_in
        if not on_duty:
            self._swept_at = -math.inf
            # Without a handle on a process ahead nothing says that those have ended which look for all.
            told = self._watched and self._has_handle
            self._pause = polling.process_look(standing.rank, on_duty=False, covered=False, watched=told)
            return self._pause
        self._neighbours = None
        if self._changes_at <= now:
            self._changes_at = math.inf  # even if somebody else has swept just now, the next period is soon enough
        lacks_a_sweep = now >= self._told_at + 2 * polling.SWEEP_EVERY and not self._has_swept_since()
        if at_once or self._stamp.nobody_swept or lacks_a_sweep:
            swept = self.store.sweeper.sweep()
            self._stamp.note_own(now)
            self._changes_at, self._declarer = now + swept.changes_in, swept.declarer
            self._swept_at = -math.inf if swept.in_vain else now
        covered = not woken and self._has_swept_since() and self._cover(standing, now)
        pause = polling.process_look(standing.rank, on_duty=True, covered=covered, watched=self._watched)
        # Feedback alone can allow a grant: a pause ends, the stagger is over, a slot has cooled down. That wakes
        # nobody.
        return min(pause, max(self._changes_at - now, polling.FIRST_LOOK))

    def _has_swept_since(self) -> bool:
        """Whether it has itself swept, a period after it was last told that something has changed, and not in vain.

        It may have been told in advance (`Store.hand_off`), and whom else to watch it learns by its own sweep alone.
        """
        return self._swept_at >= self._told_at + polling.SWEEP_EVERY

    def _is_as_before(self) -> bool:
        """Whether the processes that it knows still run. While somebody sweeps, the whole queue would tell no more."""
        presence = self._own.effects.presence
        return self._neighbours is not None and all(presence(*identity) == "runs" for identity in self._neighbours)

    def _walk(self, standing: Standing, expected: bool) -> list[Entry]:
        """Walk from the process right ahead towards the head, and watch the processes up to the first one that runs.

        What processes that have exited have in the queue is removed.

        Returns a ticket of each process that runs, as far as that matters. The third has to see by itself that the
        first two run. For those further back it is enough that the one ahead runs, and that the stamp shows that
        somebody sweeps.

        :param expected: all of them are expected to run; then only the one right ahead is watched, and not looked at.
        """
        peers = self.store.peers
        if expected and standing.rank > 3 and self._watched:
            nearest = parse_entry(standing.ahead[0])
            identity = peers.identity(nearest)
            if identity is not None and self._exits.watch([identity]):
                self._neighbours, self._has_handle = [identity], True
                return [nearest]
        enough = 2 if standing.rank == 3 else 1
        running: list[Entry] = []
        watch: list[Process] = []
        blind = False
        for ticket in map(parse_entry, standing.ahead):
            if not ticket.token:
                continue  # the name isn't one that leasecap gives
            identity = peers.identity(ticket)
            blind = blind or identity is None  # a process that can't be seen is judged by its lock, at each look
            if identity is not None and self._watched and not (running and watch):
                self._exits.watch([*watch, identity])  # watched before it is looked at, so that no exit is missed
            seen = peers.look(ticket)
            if seen in ("gone", "dead"):
                continue
            if identity is not None and not (running and watch):
                watch.append(identity)
            if seen == "runs":
                running.append(ticket)
                if identity is not None and len(running) >= enough:
                    break
        self._neighbours = None if blind else watch
        self._has_handle = self._watched and self._exits.watch(watch) and bool(watch)
        if peers.gone or peers.dead:
            self.store.reconciler.transact()  # before they are buried: somebody may be granted a slot that they kept
            bury(self.store.entries, self.store.peers, self.store.reconciler.notify)
        return running

    def _cover(self, standing: Standing, now: float) -> bool:
        """Whether exits wake this process, so that it need not look for the dead.

        It is asked only after a period in which nothing came: in a busy pool it would cost more than it saves.
        """
        if not self._watched or not self.store.effects.sees_exits or now < self._retry_at:
            return False
        ahead = [self.store.peers.identity(parse_entry(name)) for name in standing.ahead[:2]]
        others = [process for process in (*ahead, self._declarer) if process is not None]
        covered = self._exits.watch(others) and self._exits.cover()
        if not covered:
            self._retry_at = now + polling.COVERED_SWEEP
        return covered

    def _park_the_silent(self, now: float) -> None:
        """Park the tickets of those waiters that have not looked though they were asked: their loop is blocked."""
        if now < self._asked_at + ANSWER_WITHIN:
            return
        asked_at, self._asked_at = self._asked_at, math.inf
        silent = [name for name, looked in tuple(self._looked.items()) if looked < asked_at]
        parked = [name for name in silent if self.store.entries.discard(QUEUE, name, PARKED)]
        if parked:
            self.store.notify_behind(*parked)
            self.store.reconciler.transact()
