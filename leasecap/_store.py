"""A pool on disk: the snapshot is read here and the plan carried out, every effect through `Effects`.

An entry is a directory, and where it stands is its state::

    staging/ ──publish──▶ queue/ ──grant──▶ granted/ ──acknowledge──▶ leases/
       │                    ▲                  │                        ▲
       │                 unpark ── parked/ ◀─ take back                 │
       └──────────── granted at once ───────────────────────────────────┘

and from anywhere to ``trash/``: release, withdraw, reap and revoke are all that one rename. It succeeds for exactly one
process, and can't hit a successor since the name holds a token. Grants, publications and take-backs are done inside the
critical section; a release, an acknowledgement and a reap need none, since they never raise what is held.
"""

from __future__ import annotations

from leasecap import _decide, _entry
from leasecap._entry import Group
from leasecap._errors import StoreError
from leasecap._guarded import HELD, Guarded
from leasecap._pool import GRANTED, LEASES, PARKED, QUEUE, RESTS, STAGING
from leasecap._rules import OPEN
from leasecap._sweep import Sweeper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._effects import Effects
    from leasecap._entries import Claim
    from leasecap._entry import Entry
    from leasecap._learning import Learning
    from leasecap._lessons import Lessons
    from leasecap._pool import Pool

_EMPTY = 2  # links of a directory without directories: its own name and its "."


class Store(Guarded):
    """One open pool, as one process uses it; its threads share it.

    :ivar configured: the limit that the configuration gives, or None; whoever re-reads the file sets it here.
    :ivar owes: slots were released and not yet handed on.
    :ivar waker: wakes the process with the given id, for the ticket of the given name; called outside the section.
    :ivar force: whether the slots of those who hold them for too long are given away; set as ``configured`` is.
    :ivar refresh: sets ``configured`` anew if the configuration has changed; never raises for it.
    :ivar ask: asks the provider for its own count, in the background.
    :ivar unanswered: whether somebody wasn't granted a slot for want of that count.
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
        listens: Callable[[str], bool] = lambda process: False,
        refresh: Callable[[], None] = lambda: None,
        learning: Learning | None = None,
    ) -> None:
        super().__init__(effects, pool, stale_after=stale_after, heartbeat=heartbeat)
        self.configured = configured
        self.force = False
        self.refresh = refresh
        self.learning = learning
        self.ask: Callable[[], None] = lambda: None
        self.unanswered = False
        self.waker = waker
        self._listens = listens
        self._granted_since: dict[str, float] = {}
        self._passed_over: dict[str, float] = {}  # tickets that could not be moved, and until when
        self._last_look = 0.0
        self._sweeper = Sweeper(self)
        self.owes = False
        self._relied_on: set[str] = set()
        self._relied_in: tuple[str, ...] = ()
        self._counted: set[str] = set()
        self._settle_again = False
        self._to_wake: list[Entry] = []
        self._to_tell: list[Entry] = []
        self._to_rouse: tuple[Entry, ...] = ()
        self._rung: set[str] = set()

    # -- inside the section -----------------------------------------------------------------------------------------

    def place(self, claim: Claim, *, may_queue: bool) -> bool:
        """Inside the section: grant the staged claim at once if the whole queue allows, else queue it if it may.

        Returns whether it was granted.
        """
        plan, snapshot = self._plan(claim.entry)
        granted = claim.entry in plan.grant
        self._carry_out(plan, snapshot, claim)
        if not granted and may_queue:
            self.directory.rename(f"{STAGING}/{claim.name}", f"{QUEUE}/{claim.name}")
        return granted

    def has_to_ring(self, snapshot: _decide.Snapshot) -> bool:
        """Whether somebody was granted a slot and not woken by this process yet; `settle` does that."""
        return any(name not in self._rung for name in snapshot.granted.names)

    def settle(self) -> None:
        """Inside the section: do what the pool's state calls for."""
        plan, snapshot = self._plan(None)
        self._carry_out(plan, snapshot, None)

    def _plan(self, newcomer: Entry | None) -> tuple[_decide.Plan, _decide.Snapshot]:
        """Decide, and take back the grants that are to be: the rest of the plan counts on their slots.

        What the plan makes of the feedback is written before anything is granted: if it can't be, nothing is.
        """
        # Inside the section, where no limit can have been set since and settled for. A holder read its limit when it
        # acquired, hours ago; a waiter that was suspended, and taken for dead meanwhile, begins again with an old one.
        self.refresh()
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

    def _work_out(self, newcomer: Entry | None, stuck: set[str]) -> tuple[_decide.Plan, _decide.Snapshot]:
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
        while True:
            plan = _decide.decide(snapshot, now)
            dead = {ticket.name for ticket in plan.grant if ticket is not newcomer and not self._lives(ticket)}
            if dead:
                snapshot = snapshot._replace(dead=snapshot.dead | dead)
            elif plan.over and not snapshot.suspect and (suspect := self._suspects(snapshot, stuck)):
                snapshot = snapshot._replace(suspect=suspect)
            elif lessons is not None and lessons.grow(plan, snapshot):
                snapshot = snapshot._replace(admission=lessons.admission())
            else:
                if lessons is not None:
                    lessons.keep(plan)
                return plan, snapshot

    def _lives(self, ticket: Entry) -> bool:
        # Who listens lives: that takes two system calls, to read its record and look for its process seven and 200 us.
        return self._listens(ticket.process) or self.observer.lives(QUEUE, ticket.name)

    def snapshot(self) -> _decide.Snapshot:
        """The pool as it stands, with what is known of the provider.

        :raises StoreError: when that can't be read.
        """
        return self.snapshot_with(self.lessons())

    def snapshot_with(self, lessons: Lessons | None) -> _decide.Snapshot:
        """The pool as it stands: four listings, in the order in which entries move on, so that none is missed."""
        queue, parked, granted, leases = (self._group(where) for where in (QUEUE, PARKED, GRANTED, LEASES))
        now = self.effects.monotonic()
        # It may have been taken back and granted again since. Not sooner than this: those far back, who look once per
        # `FAR_SWEEP`, would never take back anything, and with three stopped at the head the pool stood still.
        if now - self._last_look > _decide.ACKNOWLEDGE_WITHIN:
            self._granted_since.clear()
        self._last_look = now
        since = self._granted_since
        self._granted_since = {name: since.get(name, now) for name in granted.names}
        snapshot = _decide.Snapshot(
            configured=self.configured,
            queue=queue,
            parked=parked,
            granted=granted,
            leases=leases,
            granted_since=self._granted_since,
        )
        return snapshot if lessons is None else lessons.seen_in(snapshot)

    def lessons(self) -> Lessons | None:
        """What is known of the provider now; None: nothing.

        :raises StoreError: when that can't be read.
        """
        return None if self.learning is None else self.learning.lessons()

    def _group(self, where: str) -> Group:
        names = self.names(where)
        return Group([name for name in names if name[0] != "."]) if names else _decide.NOBODY

    def names(self, where: str) -> list[str]:
        """The names in ``where``; empty without a listing where the link count says so.

        That saves 6 of 8 us, six times in a hand-off. Not in ``leases/``: the link counts of a rename change one after
        the other, so an entry on its way there could be in neither. Others come where they go to by the section alone;
        and the listing of ``leases/``, which comes last, waits for a rename that has begun.
        """
        if self.pool.counts and where != LEASES and self.directory.stat(where).st_nlink == _EMPTY:
            return []
        return self.directory.list(where)

    def _carry_out(self, plan: _decide.Plan, snapshot: _decide.Snapshot, claim: Claim | None) -> None:
        for entry in plan.reap:
            self.discard(QUEUE, entry.name)
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
        self._to_tell += plan.first
        if self.effects.sees_ends and (granted or snapshot.admission != OPEN):
            self._to_rouse = plan.stay
        self.unanswered = plan.ask
        others_wait = len(snapshot.queue) > len(plan.grant)
        self._settle_again = missed and others_wait
        self._relied_on = set()
        if others_wait or self.section.token:  # else nobody asks, and with 1000 leases it costs 100 us
            gone = {entry.name for entry in (*plan.reap, *plan.revoke, *plan.take_back)}
            held = [group.without(gone) for group in (snapshot.granted, snapshot.leases, Group.of(granted))]
            self._counted = {name for group in held for name in group.names}
        if others_wait:
            # What keeps them out: all that is held, and tickets that declare a lower limit than else holds. Where none
            # does, to look once more on the way out is two short listings instead of four, a quarter of a hand-off.
            limits = (self.configured, *(group.lowest for group in held))
            lowest = min((limit for limit in limits if limit is not None), default=_decide.UNLIMITED)
            tickets = [group.without(gone) for group in (snapshot.queue, snapshot.parked)]
            tighter = [group for group in tickets if (group.lowest or lowest) < lowest]
            declaring = {entry.name for group in tighter for entry in group if (entry.limit or lowest) < lowest}
            self._relied_on = self._counted | declaring
            self._relied_in = (QUEUE, PARKED, *HELD) if declaring else HELD
        for entry in (*plan.reap, *plan.revoke):
            self.delete(entry.name)

    def _grant(self, entry: Entry) -> bool:
        try:
            self._sign(f"{QUEUE}/{entry.name}")
            self.directory.rename(f"{QUEUE}/{entry.name}", f"{GRANTED}/{entry.name}")
        except FileNotFoundError:
            return False  # withdrawn meanwhile: the slot is for the next one
        except OSError:
            # It can't be moved, or not by us: that fails nobody's request, and the slot is for the next one.
            self._passed_over[entry.name] = self.effects.monotonic() + _decide.ACKNOWLEDGE_WITHIN
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
        relied_on, counted, settle_again = self._relied_on, self._counted, self._settle_again
        to_wake, self._to_wake = self._to_wake, []
        to_tell, self._to_tell = self._to_tell, []
        to_rouse, self._to_rouse = self._to_rouse, ()
        ours = self.section.leave()
        for entry in to_wake:
            self.waker(entry.process, entry.name)
        again = settle_again or not ours or self._robbed_grants_beside(counted)
        again = again or (bool(relied_on) and not relied_on <= self._names_relied_on())
        # Last: they would take the processor from who was granted a slot. Who rests is asked for after the grants, too,
        # since whoever says so only now sees them (`_ends`).
        for entry in (*to_tell, *(ticket for ticket in to_rouse if self._rests(ticket))):
            self.waker(entry.process, entry.name)
        return again

    def _rests(self, ticket: Entry) -> bool:
        try:
            self.directory.stat(f"{QUEUE}/{ticket.name}/{RESTS}")
        except OSError:
            return False
        return True

    def _names_relied_on(self) -> set[str]:
        return {name for where in self._relied_in for name in self.names(where)}

    # -- sweeping ---------------------------------------------------------------------------------------------------

    def enter_and_settle(self) -> None:
        """Try to enter, and settle until nothing more is called for. Never waits: whoever is inside looks again."""
        again = True
        while again and self.section.try_enter():
            try:
                self.settle()
            finally:
                again = self.leave()

    def release(self, claim: Claim, *, hand_on: bool = True) -> bool:
        """End a lease and hand its slot on; False if it had been taken already.

        :param hand_on: else `owes` is set, and the caller sees to it.
        :raises OSError: when the lease can't be removed; it is still held then.
        """
        self._cool(claim.entry)
        kept = self.retire(claim)
        if kept is not None:
            self.owes = True
            if hand_on:
                self.hand_on()
        if not kept:
            self.close(claim)
            self.delete(claim.name)
        return kept is not None

    def finish(self, claim: Claim) -> None:
        """End the claim wherever it stands, and hand on what it kept from others.

        :raises OSError: when it can't be removed. To be tried again: while its process lives nobody else may.
        """
        where = self.drop(claim)
        if where == QUEUE:
            self.tell_first(claim.name)
        if where is not None:
            self.hand_on()

    def end(self, name: str) -> bool:
        """End the lease of that name, whoever holds it, and hand its slot on; False if it is no more.

        :raises OSError: when it can't be removed.
        """
        if not self.remove(LEASES, name):
            return False
        self.hand_on()  # before the clean-up: somebody waits
        self.delete(name)
        return True

    def _cool(self, entry: Entry) -> None:
        if self.learning is not None and self.learning.rules.cooldown:
            try:
                self.learning.files.cool(entry)
            except OSError:
                pass  # a full disk must not keep a slot for ever

    def hand_on(self) -> None:
        """Grant what was released to those who wait, if any; never raises."""
        self.owes = False  # first: what is released from now on may come too late for this
        try:
            # Who queues after this look was inside the section after our rename, or looks once more on its way out.
            # Where somebody waited when this process was last inside, the look would only be made twice.
            if self._relied_on or self.names(QUEUE):
                self.enter_and_settle()
        except (OSError, StoreError):
            pass  # the slot is free all the same; the first in the queue sweeps and grants it, or says what is wrong

    def withdraw(self, claim: Claim) -> bool:
        """Leave the queue; False if the ticket was granted meanwhile, and then it is a lease now."""
        if not self.remove(QUEUE, claim.name):
            if self.acknowledge(claim):
                return False
            self.remove(PARKED, claim.name)  # not there either: somebody took us for dead, and we're out all the same
        else:
            self.tell_first(claim.name)
        self.close(claim)
        self.delete(claim.name)
        if claim.entry.limit is not None:
            self.hand_on()  # the limit that it declared no longer holds
        return True

    def tell_first(self, left: str) -> None:
        """Wake the first two in the queue if the ticket ``left``, which was withdrawn or reaped, stood before them.

        They sweep, and who comes to be one of them would else learn it at its next look, `_decide.SELDOM_LOOK` later.
        """
        try:
            first = sorted(self.directory.list(QUEUE))[:2]
        except OSError:
            return  # they look by themselves
        for name in first if left < max(first, default="") else ():
            self.waker(_entry.parse(name).process, name)

    def sweep(self) -> float:
        """`Sweeper.sweep`."""
        return self._sweeper.sweep()

    def stamp(self) -> bytes:
        """`Sweeper.stamp`."""
        return self._sweeper.stamp()
