"""What is done inside the critical section: read a snapshot, carry the plan out, and then wake who was granted a slot.

Every effect goes through `Effects`. Grants, publications and take-backs are made here alone.
"""

from __future__ import annotations

import math

from leasecap._decisions import grants
from leasecap._decisions.entry import Group, parse_entry
from leasecap._decisions.limits import declarers
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING
from leasecap._file_store import former_program
from leasecap._file_store.notices import Done, whom_to_notify
from leasecap._file_store.peers import Looks
from leasecap._file_store.removal import bury
from leasecap._file_store.thefts import HELD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._decisions.entry import Entry
    from leasecap._decisions.grants import Plan
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._feedback.state import State
    from leasecap._file_store.entries import Entries
    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._file_store.peers import Peers
    from leasecap._file_store.policy import Policy
    from leasecap._file_store.section import Section
    from leasecap._file_store.snapshots import Snapshots
    from leasecap._file_store.thefts import Thefts

BURIED_AT_ONCE = 64
"""The most entries of the dead that a process removes when it leaves the section. The rest is left to the next one or
to a sweep, and harms nobody: what is known to be dead counts for nothing."""


class Reconciler:
    """Makes one open pool match the plan. The threads of a process share it.

    :ivar section: the lock, which one process at a time holds.
    :ivar waker: wakes the waiter of the ticket with this name, in the process with this id. ``notify`` has the process
        itself look who stands ahead of it. Both are called outside the section.
    :ivar unanswered: whether somebody wasn't granted a slot only because the provider's own count is missing.
    :ivar others_wait: whether somebody waited when this process was last inside; ``others_waited``: beside its
        newcomer.
    :ivar noticed_at: when this process last notified the first two (monotonic clock, seconds).
    """

    def __init__(
        self,
        entries: Entries,
        section: Section,
        thefts: Thefts,
        peers: Peers,
        snapshots: Snapshots,
        policy: Policy,
        *,
        waker: Callable[[str, str], None],
        notify: Callable[[str, str], None],
        refresh: Callable[[], None],
    ) -> None:
        """:param refresh: has ``policy`` follow the configuration if that has changed; never raises."""
        self.effects = entries.effects
        self.section = section
        self.waker = waker
        self.notify = notify
        self.unanswered = False
        self.others_wait = self.others_waited = False
        self.noticed_at = -math.inf
        self._entries = entries
        self._directory = entries.directory
        self._can_be_stolen = entries.pool.kind != "os"
        self._thefts = thefts
        self._peers = peers
        self._snapshots = snapshots
        self._policy = policy
        self._refresh = refresh
        self._unseen = self._asks_at_once = False
        self._passed_over: dict[str, float] = {}  # tickets that could not be moved, and until when they are passed over
        self._done: Done | None = None
        self._to_wake: list[Entry] = []
        self._woken: set[str] = set()
        self._looks_back = ""
        self._is_new = True

    def transact(self, act: Callable[[], object] | None = None, *, entered: bool = False) -> bool:
        """Try to enter, do ``act`` inside, leave, and reconcile for as long as that is called for.

        It never waits: if another process is inside, that one looks again when it leaves.

        :param act: what to do in place of the first `reconcile`.
        :param entered: the section is entered already.
        :return: whether all is done that is called for. If not, somebody else is inside, who is relied on to do it.
        """
        owed = True
        while owed and (entered or self.section.try_enter()):
            entered = False
            try:
                (act or self.reconcile)()
            finally:
                owed = self.leave()
            act = None
        self._peers.forget_seen()
        return not owed

    def place(self, own_entry: OwnEntry, *, may_queue: bool) -> bool:
        """Inside the section: grant the staged entry at once if the whole queue allows; else queue it if it may queue.

        Returns whether it was granted.
        """
        plan, snapshot = self._plan(own_entry.entry)
        granted = own_entry.entry in plan.grant
        self.others_waited = len(snapshot.queue) > 1
        self._carry_out(plan, snapshot, own_entry)
        if self._is_new or not granted:
            self._is_new, self._looks_back = False, own_entry.entry.process
        if not granted and may_queue:
            self._directory.rename(f"{STAGING}/{own_entry.name}", f"{QUEUE}/{own_entry.name}")
            behind = min((name for name in snapshot.queue.names if name > own_entry.name), default=None)
            if self._done is not None:
                # The one behind has another process to watch from now on.
                self._done = self._done._replace(
                    behind=() if behind is None else (parse_entry(behind),),
                    lowers=own_entry.entry.limit is not None and [*declarers(snapshot)] == [own_entry.entry],
                )
        return granted

    def reconcile(self) -> None:
        """Inside the section: do what the pool's state calls for."""
        plan, snapshot = self._plan(None)
        self._carry_out(plan, snapshot, None)

    def update_feedback(self, change: Callable[[State, float], State], *, anew: bool) -> bool:
        """Inside the section: change the feedback's state, and `reconcile`; False: the section was taken from this
        process, and nothing is changed.

        :raises StoreError: as `Feedback.update` does.
        """
        found = self._snapshots.update_feedback(change, self.follow, self._is_ours, anew=anew)
        self.reconcile()
        return found

    def _is_ours(self) -> bool:
        """Inside the section: whether it wasn't taken from this process. What others have written since into the
        feedback's state, a pause say, must not be written over."""
        return not self._can_be_stolen or self.section.is_ours()

    def _plan(self, newcomer: Entry | None) -> tuple[Plan, Snapshot]:
        """Decide, and take back the grants that the plan takes back: the rest of the plan counts on their slots.

        What the plan changes in the feedback is written before anything is granted. If that fails, nothing is granted.
        """
        stuck: set[str] = set()
        while True:
            plan, snapshot = self._work_out(newcomer, stuck)
            kept = {entry.name for entry in plan.take_back if not self._park(entry)}
            if not kept:
                return plan, snapshot
            # These were acknowledged in this very moment, or can't be moved. They go on to count, and aren't late any
            # more.
            stuck |= kept
            self._snapshots.note_late(kept)

    def follow(self) -> None:
        """Inside the section: have the policy follow the configuration."""
        # The limit is read inside the section, so that nobody has decided by a newer one. A holder read it when it
        # acquired, perhaps hours ago; a waiter that was suspended and taken for dead begins again with an old one.
        self._refresh()
        self._policy.keep()

    def _work_out(self, newcomer: Entry | None, stuck: set[str]) -> tuple[Plan, Snapshot]:
        snapshot, view = self._snapshots.take_all(self.follow)
        now = self.effects.monotonic()
        if stuck:  # these are no grants to take back; as leases they count all the same
            held = {*snapshot.leases.names, *(stuck & set(snapshot.granted.names))}
            snapshot = snapshot._replace(granted=snapshot.granted.without(stuck), leases=Group(sorted(held)))
        if self._passed_over:
            over = self._passed_over = {name: until for name, until in self._passed_over.items() if now < until}
            queue = snapshot.queue.without(over)
            parked = [name for name in snapshot.queue.names if name in over]
            snapshot = snapshot._replace(queue=queue, parked=Group((*snapshot.parked.names, *parked)))
        if newcomer is not None:
            queue = Group((*snapshot.queue.names, newcomer.name))
            snapshot = snapshot._replace(queue=queue, newcomer=newcomer.name)
        looks = Looks(self._peers)
        snapshot = looks.at_the_slow(snapshot, now)
        while True:
            plan = grants.decide(snapshot, now)
            seen = looks.at_the_granted(plan, snapshot, newcomer)
            if seen is not None:
                snapshot = seen
            elif plan.over and not snapshot.suspect and (suspect := self._thefts.suspects(snapshot)):
                snapshot = snapshot._replace(suspect=suspect)
            elif view is not None and view.grow(plan, snapshot):
                snapshot = snapshot._replace(admission=view.admission())
            else:
                self._unseen = looks.too_many
                robbed = view is not None and not self._is_ours()  # then `leave` has it decided once more
                if self._unseen or robbed:
                    plan = plan._replace(grant=(), spent=False, high=None)
                if view is not None and not robbed:
                    view.keep(plan, snapshot)
                self._asks_at_once = plan.ask and view is not None and view.asks_at_once()
                return plan, snapshot

    def _carry_out(self, plan: Plan, snapshot: Snapshot, own_entry: OwnEntry | None) -> None:
        revoked = tuple(entry for entry in plan.revoke if self._entries.discard(LEASES, entry.name))
        plan = plan._replace(revoke=revoked)  # what can't be removed goes on to count
        granted: list[Entry] = []
        missed = False
        for entry in plan.grant:
            if own_entry is not None and entry == own_entry.entry:
                self._thefts.sign(f"{STAGING}/{entry.name}", self.section.token)
                self._directory.rename(f"{STAGING}/{entry.name}", f"{LEASES}/{entry.name}")
            elif not self._grant(entry):
                missed = True
                continue
            granted.append(entry)
        # Whoever granted these may have died before waking their waiters, which may not look before they are parked.
        self._to_wake += (entry for entry in snapshot.granted if entry.name not in self._woken)
        self._woken = {*snapshot.granted.names, *(entry.name for entry in granted)}
        self._done = Done(plan, snapshot, granted, missed, asks_at_once=self._asks_at_once)
        self.unanswered = plan.ask
        self.others_wait = self._done.others_wait
        for entry in plan.revoke:
            self._entries.delete(entry.name)

    def _grant(self, entry: Entry) -> bool:
        try:
            self._thefts.sign(f"{QUEUE}/{entry.name}", self.section.token)
            self._directory.rename(f"{QUEUE}/{entry.name}", f"{GRANTED}/{entry.name}")
        except FileNotFoundError:
            return False  # it was withdrawn meanwhile, so the slot is for the next one
        except OSError:
            # It can't be moved, or not by this process. No request fails for that, and the slot is for the next one.
            self._passed_over[entry.name] = self.effects.monotonic() + grants.ACKNOWLEDGE_WITHIN
            return False
        self._to_wake.append(entry)
        return True

    def _park(self, entry: Entry) -> bool:
        try:
            return self._entries.remove(GRANTED, entry.name, PARKED)
        except OSError:
            return False  # the grant goes on to count, and no request fails

    def leave(self) -> bool:
        """Leave the section and wake those who were granted a slot; True if `reconcile` is called for once more.

        A process that releases while this one is inside can't enter, and relies on this one to look once more on its
        way out. And a section that was stolen must look at what it granted.
        """
        to_wake, self._to_wake = self._to_wake, []
        done, self._done = self._done, None
        looks_back, self._looks_back = self._looks_back, ""
        unseen, self._unseen = self._unseen, False
        self._peers.forget_seen()
        ours = self.section.leave()
        for entry in to_wake:
            self.waker(entry.process, entry.name)
        if to_wake:
            self.effects.give_way()
        # All the rest comes after that: it would take the processor, or the section, from those who were granted a
        # slot.
        if done is None:
            return not ours
        again = not ours or unseen or self._is_called_for(done)
        left = former_program.suspects(looks_back, done.snapshot) if looks_back else []
        if left and former_program.remove(self._entries, self._peers, self.notify, left):
            again = True
        if done.granted:
            self.noticed_at = self.effects.monotonic()  # before they are notified, since this may take long
        for entry in whom_to_notify(done, self.effects.others_see_exits):
            self.notify(entry.process, entry.name)
        if unseen:
            self._peers.look_at_all(self._entries.names(QUEUE))
        elif self._peers.dead or self._peers.gone:
            bury(self._entries, self._peers, self.notify, BURIED_AT_ONCE)
        return again

    def _is_called_for(self, done: Done) -> bool:
        """Whether something that `done` relied on has changed since."""
        plan, snapshot = done.plan, done.snapshot
        if not done.others_wait and not self._can_be_stolen:
            return False  # nobody waits for the answer, and with many leases it takes long
        gone = {entry.name for entry in (*plan.revoke, *plan.take_back)}
        held = [group.without(gone) for group in (snapshot.granted, snapshot.leases, Group.of(done.granted))]
        counted = {name for group in held for name in group.names}
        if self._can_be_stolen and self._thefts.granted_beside(counted):
            return True
        if not done.others_wait or done.missed:
            return done.others_wait
        # Waiters are kept out by all that is held, and by tickets if the limit that holds is theirs. Where it isn't,
        # two short listings are enough.
        declaring: set[str] = set()
        if any(declarers(snapshot)):
            tickets = [group.without(gone) for group in (snapshot.queue, snapshot.parked)]
            declaring = {entry.name for group in tickets for entry in group if entry.limit is not None}
        places = (QUEUE, PARKED, *HELD) if declaring else HELD
        return not counted | declaring <= {name for where in places for name in self._entries.names(where)}

    def has_to_wake(self, snapshot: Snapshot) -> bool:
        """Whether somebody was granted a slot whom this process has not woken yet; `reconcile` wakes them."""
        return any(name not in self._woken for name in snapshot.granted.names)
