"""One process's look-out over one pool's queue: who stands ahead, who has exited, and whether it is its turn to sweep.

The process is the unit, however many of its tickets wait. The first two processes in the queue that live and run sweep.
Each one further back watches the exit of the process right ahead, and looks now and then whether two that run are ahead
of it still. So a death is found at once by whoever stands behind it, and a stop by whoever looks.

Whoever receives for the process runs it (`wakeups`): a blocked event loop or thread of it keeps nobody waiting. Where
nobody receives, the looks of its tickets do.
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
ticket, before others would take back a grant of it (`grants.ACKNOWLEDGE_WITHIN`, a second after they ask)."""


class Stamp:
    """What this process knows of the last sweep. No clock is in it: it is compared with what one saw at the last look.

    :ivar nobody_swept: nobody has swept since the look before the last one.
    :ivar stands_in: nobody has for so long that those who should can't be running: this process sweeps in their place,
        until it sees another one's stamp.
    """

    def __init__(self, store: Store) -> None:
        self.nobody_swept = self.stands_in = False
        self._store = store
        self._last: bytes | None = None
        self._since = self._read_at = -math.inf

    def look(self, now: float, *, woken: bool, early: bool) -> bool:
        """Look, if a period has passed since the last look, or ``early``; returns whether it begins to stand in."""
        self.nobody_swept = False
        if now < self._read_at + polling.SWEEP_EVERY and not early:
            return False
        stamp = self._store.sweeper.stamp()
        self._read_at = now
        # Who has never looked before may have been woken by one that has just swept.
        self.nobody_swept = stamp == self._last if self._last is not None else not woken
        if stamp != self._last:
            self._last, self._since, self.stands_in = stamp, now, False
        elif now - self._since >= polling.UNSWEPT and not self.stands_in:
            self.stands_in = True
            return True
        return False

    def note_own(self, now: float) -> None:
        """This process has swept."""
        self._last, self._since, self._read_at = self._store.sweeper.own_stamp, now, now


class Lookout:
    """What one process does about one queue while it waits there.

    :ivar store: whose queue it is.
    :ivar due: when it is to look, on the monotonic clock.
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
        self._lock = threading.Lock()  # held by the thread that looks
        self._state = threading.RLock()  # who waits, and when to look; a waiter's end may come anywhere
        self._looked: dict[str, float] = {}  # for each own ticket, when its waiter looked last
        self._since = -math.inf
        self._waits_long = True
        self._is_alone = False
        self._asked_at = math.inf
        self._was_deaf = False
        self._stamp = Stamp(store)
        self._neighbours: list[Process] | None = None
        self._pause = 0.0
        self._retry_at = -math.inf
        self._changes_at = math.inf

    # -- tickets ----------------------------------------------------------------------------------------------------

    def add(self, name: str, now: float, *, watched: bool, alone: bool) -> None:
        """A ticket of this process has queued.

        :param watched: wake-ups reach this process.
        :param alone: it stands first, so that it is to sweep at once.
        """
        with self._state:  # or it is ended by one that has just seen that nobody waits
            self._watched = watched
            self._looked[name] = now
            self._watch.attend(self)
            self._since = now
            self._is_alone = alone
            # Who has waited for long will do so again: to look at once is cheaper than to wake up for it.
            soon = now if self._waits_long else now + polling.ATTACH_AFTER
            self.look_by(-math.inf if alone else soon)

    def remove(self, name: str) -> None:
        """It has left the queue."""
        self._looked.pop(name, None)
        self._waits_long = self._own.effects.monotonic() > self._since + polling.ATTACH_AFTER
        self._exits.forget_ticket(name)
        if self._looked:
            self.notify()  # another one of them is the first now
        elif self._lock.acquire(blocking=False):  # else whoever looks at the moment sees it
            try:
                self._end_if_nobody_waits()
            finally:
                self._lock.release()

    def _end_if_nobody_waits(self) -> None:
        """Call only with the lock of who looks."""
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
        """Look at that time, if not before; where nobody waits there is nothing to look for.

        Else the next ticket would find it due already and tell nobody, while the thread that receives waits for ever.
        """
        with self._state:
            if when >= self.due or not self._looked:
                return
            self.due = when
        if self._watched:
            self._watch.wake_by(when)
        elif when == -math.inf:
            # Its tickets look by themselves, and one of them is enough.
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
        """Look if that is due. One thread does; what comes meanwhile is due once more."""
        if now < self.due or not self._lock.acquire(blocking=False):
            return
        try:
            with self._state:
                woken, self.due = self.due == -math.inf, math.inf
            if self._looked:
                self.look_by(now + self._look(now, woken))
            self._end_if_nobody_waits()
        except (OSError, StoreError):
            self.look_by(now + polling.FAR_LOOK)  # whoever asks for a slot is told what is wrong; it fails nobody here
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
        exited, self._exits.came = self._exits.came, False  # before the sweep: what exits during it wakes once more
        # At the first look after queueing its time has not come yet: in a busy pool it never does.
        stands_in = now > self._since and self._stamp.look(now, woken=woken, early=now >= self._changes_at)
        at_once, self._is_alone = exited or self._is_alone or stands_in, False
        if not woken:
            self.store.snapshots.see_grants()
        if not (woken or exited or self._stamp.stands_in) and self._is_as_before():
            return self._pause
        standing = polling.standing(self.store.entries.names(QUEUE), self._own.id)
        if standing is None:
            return polling.SELDOM_LOOK
        # The first two sweep in any case, and that finds the dead ahead of them as well.
        expected = (woken or now <= self._since) and not exited  # that all ahead of it run
        running = self._walk(standing, expected) if standing.rank > 2 else []
        on_duty = standing.rank <= 2 or len(running) < (2 if standing.rank == 3 else 1) or self._stamp.stands_in
        if not on_duty:
            self._pause = polling.process_look(standing.rank, on_duty=False, covered=False, watched=self._watched)
            return self._pause
        self._neighbours = None
        if self._changes_at <= now:
            self._changes_at = math.inf  # should somebody else have swept just now, one period is soon enough
        if at_once or self._stamp.nobody_swept:
            self._changes_at = now + self.store.sweeper.sweep(everything=at_once)
            self._stamp.note_own(now)
        covered = not woken and self._cover(standing, now)
        pause = polling.process_look(standing.rank, on_duty=True, covered=covered, watched=self._watched)
        # A pause ends, the next grant may follow, a slot has cooled down: nobody wakes anybody for that.
        return min(pause, max(self._changes_at - now, polling.FIRST_LOOK))

    def _is_as_before(self) -> bool:
        """Whether those run still whom it knows, while somebody sweeps: then the whole queue tells nothing more."""
        presence = self._own.effects.presence
        return self._neighbours is not None and all(presence(*identity) == "runs" for identity in self._neighbours)

    def _walk(self, standing: Standing, expected: bool) -> list[Entry]:
        """Walk from the process right ahead towards the head, and watch those passed up to the first one that runs.

        Returns a ticket of each that runs, as far as it matters: the third has to see by itself that the first two run;
        further back the one ahead does, and the sweeps say that somebody sweeps. What those have in the queue that have
        exited is removed.

        :param expected: all of them run, as far as is known: then it does to watch the one right ahead.
        """
        peers = self.store.peers
        if expected and standing.rank > 3 and self._watched:
            nearest = parse_entry(standing.ahead[0])
            identity = peers.identity(nearest)
            if identity is not None and self._exits.watch([identity]):
                self._neighbours = [identity]
                return [nearest]
        enough = 2 if standing.rank == 3 else 1
        running: list[Entry] = []
        watch: list[Process] = []
        blind = False
        for ticket in map(parse_entry, standing.ahead):
            if not ticket.token:
                continue  # not ours
            identity = peers.identity(ticket)
            blind = blind or identity is None  # it is looked at each time, by its lock
            if identity is not None and self._watched and not (running and watch):
                self._exits.watch([*watch, identity])  # before the look: did it exit in between, nobody would tell
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
        if self._watched:
            self._exits.watch(watch)
        if peers.gone or peers.dead:
            self.store.reconciler.transact()  # first: somebody may be granted a slot that they kept
            bury(self.store.entries, self.store.peers, self.store.reconciler.notify)
        return running

    def _cover(self, standing: Standing, now: float) -> bool:
        """Whether exits wake it, so that it need not look for the dead.

        Asked when a period is over in which nothing came: in a pool that is busy this would cost more than it saves.
        """
        if not self._watched or not self.store.effects.sees_exits or now < self._retry_at:
            return False
        peers, declarer = self.store.peers, self.store.sweeper.declarer()
        ahead = [peers.identity(parse_entry(name)) for name in standing.ahead[:2]]
        others = [process for process in (*ahead, declarer) if process is not None]
        covered = self._exits.watch(others) and self._exits.cover(standing.first)
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
