"""The critical section of a pool from the inside: the snapshot is read, the plan carried out, who is granted is woken.

Every effect goes through `Effects`. Grants, publications and take-backs are done here alone.
"""

from __future__ import annotations

from leasecap._decisions import grants
from leasecap._decisions.entry import Group, parse_entry
from leasecap._decisions.limits import UNLIMITED
from leasecap._decisions.loads import NOBODY
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING
from leasecap._decisions.snapshot import Snapshot
from leasecap._file_store.notices import whom_to_notify
from leasecap._file_store.peers import Looks, Peers
from leasecap._file_store.removal import bury
from leasecap._file_store.thefts import HELD, Guarded
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from leasecap._decisions.entry import Entry
    from leasecap._file_store.feedback import Learning
    from leasecap._file_store.feedback_view import Lessons
    from leasecap._file_store.layout import Pool
    from leasecap._file_store.limit_in_force import LimitInForce
    from leasecap._file_store.marks import Marks
    from leasecap._file_store.own_entry import Claim
    from leasecap._host.effects import Effects

_EMPTY = 2  # links of a directory without directories: its own name and its "."

BURIED_AT_ONCE = 64
"""Entries of the dead that whoever leaves the section removes, at most; the others are left to the next one or a sweep.
They are in nobody's way: what is known to be dead counts for nothing."""


class Done(NamedTuple):
    """What was done inside, and what it was decided by.

    :ivar missed: a ticket that was to be granted was gone.
    :ivar behind: a ticket that stands right behind the one that has just queued.
    """

    plan: grants.Plan
    snapshot: Snapshot
    granted: list[Entry]
    missed: bool
    behind: tuple[Entry, ...] = ()

    @property
    def others_wait(self) -> bool:
        """Whether somebody waits on."""
        return len(self.snapshot.queue) > len(self.plan.grant)


class Settled(Guarded):
    """One open pool, as one process settles it; its threads share it.

    :ivar configured: the limit that is in force by the configuration, or None.
    :ivar limit: what keeps ``configured``; None leaves it as it is.
    :ivar waker: wakes the waiter of the ticket of the given name, in the process with the given id; called outside the
        section. ``notify`` does the same for the process, which then looks who stands ahead of it.
    :ivar peers: the processes that wait; ``marks`` of those that don't answer.
    :ivar refresh: sets ``configured`` anew if the configuration has changed; never raises for it.
    :ivar ask: asks the provider for its own count, in the background.
    :ivar unanswered: whether somebody wasn't granted a slot for want of that count.
    :ivar others_wait: whether somebody waited when this process was last inside; ``others_waited`` beside its newcomer.
    :ivar learning: what the provider's answers have taught; None leaves all that out.
    """

    def __init__(
        self,
        effects: Effects,
        pool: Pool,
        *,
        configured: int | None,
        stale_after: float,
        heartbeat: float,
        waker: Callable[[str, str], None],
        notify: Callable[[str, str], None] | None = None,
        listens: Callable[[str], bool] = lambda process: False,
        marks: Marks | None = None,
        refresh: Callable[[], None] = lambda: None,
        learning: Learning | None = None,
    ) -> None:
        super().__init__(effects, pool, stale_after=stale_after, heartbeat=heartbeat)
        self.configured = configured
        self.refresh = refresh
        self.learning = learning
        self.limit: LimitInForce | None = None
        self.ask: Callable[[], None] = lambda: None
        self.unanswered = False
        self.others_wait = self.others_waited = False
        self.waker = waker
        self.notify = notify or waker
        self.marks = marks
        self.peers = Peers(effects, self.observer, listens, marks.is_deaf if marks else lambda process: False)
        self._unseen = False
        self._granted_since: dict[str, float] = {}
        self._passed_over: dict[str, float] = {}  # tickets that could not be moved, and until when
        self._last_look = 0.0
        self._done: Done | None = None
        self._to_wake: list[Entry] = []
        self._rung: set[str] = set()

    def place(self, claim: Claim, *, may_queue: bool) -> bool:
        """Inside the section: grant the staged claim at once if the whole queue allows, else queue it if it may.

        Returns whether it was granted.
        """
        plan, snapshot = self._plan(claim.entry)
        granted = claim.entry in plan.grant
        self.others_waited = len(snapshot.queue) > 1
        self._carry_out(plan, snapshot, claim)
        if not granted and may_queue:
            self.directory.rename(f"{STAGING}/{claim.name}", f"{QUEUE}/{claim.name}")
            behind = min((name for name in snapshot.queue.names if name > claim.name), default=None)
            if behind is not None and self._done is not None:  # it has gone before: whose process is watched changes
                self._done = self._done._replace(behind=(parse_entry(behind),))
        return granted

    def has_to_ring(self, snapshot: Snapshot) -> bool:
        """Whether somebody was granted a slot and not woken by this process yet; `settle` does that."""
        return any(name not in self._rung for name in snapshot.granted.names)

    def settle(self) -> None:
        """Inside the section: do what the pool's state calls for."""
        plan, snapshot = self._plan(None)
        self._carry_out(plan, snapshot, None)

    def _plan(self, newcomer: Entry | None) -> tuple[grants.Plan, Snapshot]:
        """Decide, and take back the grants that are to be: the rest of the plan counts on their slots.

        What the plan makes of the feedback is written before anything is granted: if it can't be, nothing is.
        """
        # Inside the section, where no limit can have been set since and settled for. A holder read its limit when it
        # acquired, hours ago; a waiter that was suspended, and taken for dead meanwhile, begins again with an old one.
        self.refresh()
        if self.limit is not None:
            self.configured = self.limit.keep()
        stuck: set[str] = set()
        while True:
            plan, snapshot = self._work_out(newcomer, stuck)
            kept = {entry.name for entry in plan.take_back if not self._park(entry)}
            if not kept:
                return plan, snapshot
            # Acknowledged in this very moment, or not to be moved: it goes on to count, and isn't late any more.
            stuck |= kept
            now = self.effects.monotonic()
            self._granted_since.update(dict.fromkeys(kept, now))

    def _work_out(self, newcomer: Entry | None, stuck: set[str]) -> tuple[grants.Plan, Snapshot]:
        lessons = self.lessons()
        snapshot = self.snapshot_with(lessons)
        now = self.effects.monotonic()
        if self._passed_over:
            over = self._passed_over = {name: until for name, until in self._passed_over.items() if now < until}
            queue = snapshot.queue.without(over)
            parked = [name for name in snapshot.queue.names if name in over]
            snapshot = snapshot._replace(queue=queue, parked=Group((*snapshot.parked.names, *parked)))
        if newcomer is not None:
            queue = Group((*snapshot.queue.names, newcomer.name))
            snapshot = snapshot._replace(queue=queue, newcomer=newcomer.name)
        looks = Looks(self.peers)
        snapshot = looks.at_the_slow(snapshot, now)
        while True:
            plan = grants.decide(snapshot, now)
            seen = looks.at_the_granted(plan, snapshot, newcomer)
            if seen is not None:
                snapshot = seen
            elif plan.over and not snapshot.suspect and (suspect := self._suspects(snapshot, stuck)):
                snapshot = snapshot._replace(suspect=suspect)
            elif lessons is not None and lessons.grow(plan, snapshot):
                snapshot = snapshot._replace(admission=lessons.admission())
            else:
                self._unseen = looks.too_many
                if self._unseen:
                    plan = plan._replace(grant=(), spent=False, high=None)
                if lessons is not None:
                    lessons.keep(plan)
                return plan, snapshot

    def snapshot(self) -> Snapshot:
        """The pool as it stands, with what is known of the provider.

        :raises StoreError: when that can't be read.
        """
        return self.snapshot_with(self.lessons())

    def snapshot_with(self, lessons: Lessons | None) -> Snapshot:
        """The pool as it stands: four places, in the order in which entries move on, so that none is missed."""
        queue, parked, granted, leases = (self._group(where) for where in (QUEUE, PARKED, GRANTED, LEASES))
        snapshot = Snapshot(
            configured=self.configured,
            queue=queue,
            parked=parked,
            granted=granted,
            leases=leases,
            dead=frozenset(self.peers.dead),
            gone=frozenset(self.peers.gone),
            granted_since=self.see_grants(granted.names),
        )
        return snapshot if lessons is None else lessons.seen_in(snapshot)

    def see_grants(self, granted: Collection[str] | None = None) -> dict[str, float]:
        """Since when this process has seen each of the grants that are not taken up; ``granted`` are their names.

        Who does the sweeping can change at any time, and goes by what it has seen itself.
        """
        now = self.effects.monotonic()
        # It may have been taken back and granted again since. Not sooner than this: those far back, who look seldom,
        # would never take back anything, and with three stopped at the head the pool stood still.
        if now - self._last_look > grants.ACKNOWLEDGE_WITHIN:
            self._granted_since.clear()
        self._last_look = now
        since = self._granted_since
        names = self._group(GRANTED).names if granted is None else granted
        self._granted_since = {name: since.get(name, now) for name in names}
        return self._granted_since

    def lessons(self) -> Lessons | None:
        """What is known of the provider now; None: nothing.

        :raises StoreError: when that can't be read.
        """
        return None if self.learning is None else self.learning.lessons()

    def _group(self, where: str) -> Group:
        names = self.names(where)
        return Group([name for name in names if name[0] != "."]) if names else NOBODY

    def names(self, where: str) -> list[str]:
        """The names in ``where``; empty without a listing where the link count says so.

        That saves 6 of 8 us, five times in an acquire that waits and its release. Not in ``leases/``: the link counts
        of a rename change one after the other, so an entry on its way there could be in neither. Others come where they
        go to by the section alone; and the listing of ``leases/``, which comes last, waits for a rename that has begun.
        """
        if self.pool.counts and where != LEASES and self.directory.stat(where).st_nlink == _EMPTY:
            return []
        return self.directory.list(where)

    def _carry_out(self, plan: grants.Plan, snapshot: Snapshot, claim: Claim | None) -> None:
        for entry in plan.revoke:
            self.discard(LEASES, entry.name)
        granted: list[Entry] = []
        missed = False
        for entry in plan.grant:
            if claim is not None and entry == claim.entry:
                self._sign(f"{STAGING}/{entry.name}")
                self.directory.rename(f"{STAGING}/{entry.name}", f"{LEASES}/{entry.name}")
            elif not self._grant(entry):
                missed = True
                continue
            granted.append(entry)
        # Who granted it may have died before it woke the waiter, which may look no sooner than it would be parked.
        self._to_wake += (entry for entry in snapshot.granted if entry.name not in self._rung)
        self._rung = {*snapshot.granted.names, *(entry.name for entry in granted)}
        self._done = Done(plan, snapshot, granted, missed)
        self.unanswered = plan.ask
        self.others_wait = self._done.others_wait
        for entry in plan.revoke:
            self.delete(entry.name)

    def _grant(self, entry: Entry) -> bool:
        try:
            self._sign(f"{QUEUE}/{entry.name}")
            self.directory.rename(f"{QUEUE}/{entry.name}", f"{GRANTED}/{entry.name}")
        except FileNotFoundError:
            return False  # withdrawn meanwhile: the slot is for the next one
        except OSError:
            # It can't be moved, or not by us: that fails nobody's request, and the slot is for the next one.
            self._passed_over[entry.name] = self.effects.monotonic() + grants.ACKNOWLEDGE_WITHIN
            return False
        self._to_wake.append(entry)
        return True

    def _park(self, entry: Entry) -> bool:
        try:
            return self.remove(GRANTED, entry.name, PARKED)
        except OSError:
            return False  # it goes on to count, and fails nobody's request

    def leave(self) -> bool:
        """Leave the section and wake whom it granted; True if `settle` is called for once more.

        Somebody may have released while we were inside: its attempt to enter failed, so it relies on whoever is inside
        to look once more on the way out. And a robbed section must look at what it granted.
        """
        to_wake, self._to_wake = self._to_wake, []
        done, self._done = self._done, None
        unseen, self._unseen = self._unseen, False
        self.peers.seen_away = frozenset()
        ours = self.section.leave()
        for entry in to_wake:
            self.waker(entry.process, entry.name)
        if to_wake:
            self.effects.give_way()
        # What follows would take the processor, or the section, from who was granted a slot.
        if done is None:
            return not ours
        again = not ours or unseen or self._is_called_for(done)
        for entry in whom_to_notify(self, done):
            self.notify(entry.process, entry.name)
        if unseen:
            self.peers.look_at_all(self.names(QUEUE))
        elif self.peers.dead or self.peers.gone:
            bury(self, BURIED_AT_ONCE)
        return again

    def _is_called_for(self, done: Done) -> bool:
        """Whether something that `done` relied on has changed since."""
        plan, snapshot = done.plan, done.snapshot
        if not done.others_wait and self.pool.kind == "os":
            return False  # nobody asks, and with 1000 leases it costs 100 us
        gone = {entry.name for entry in (*plan.revoke, *plan.take_back)}
        held = [group.without(gone) for group in (snapshot.granted, snapshot.leases, Group.of(done.granted))]
        counted = {name for group in held for name in group.names}
        if self._robbed_grants_beside(counted):
            return True
        if not done.others_wait or done.missed:
            return done.others_wait
        # What keeps them out: all that is held, and tickets that declare a lower limit than else holds. Where none
        # does, to look once more on the way out is two short listings instead of four, a quarter of a hand-off.
        limits = (self.configured, *(group.lowest for group in held))
        lowest = min((limit for limit in limits if limit is not None), default=UNLIMITED)
        tickets = [group.without(gone) for group in (snapshot.queue, snapshot.parked)]
        tighter = [group for group in tickets if (group.lowest or lowest) < lowest]
        declaring = {entry.name for group in tighter for entry in group if (entry.limit or lowest) < lowest}
        return not counted | declaring <= self._names_in((QUEUE, PARKED, *HELD) if declaring else HELD)

    def _names_in(self, places: tuple[str, ...]) -> set[str]:
        return {name for where in places for name in self.names(where)}

    def enter_and_settle(self) -> None:
        """Try to enter, and settle until nothing more is called for. Never waits: whoever is inside looks again."""
        again = True
        while again and self.section.try_enter():
            try:
                self.settle()
            finally:
                again = self.leave()
