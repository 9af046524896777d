"""One call for a slot of a pool on disk: an entry that is built aside, placed, and moved on by whoever grants."""

from __future__ import annotations

import math
from functools import partial

from leasecap._decisions.entry import make_entry
from leasecap._decisions.limits import full_limit
from leasecap._decisions.places import LEASES, QUEUE
from leasecap._errors import LeasecapError
from leasecap._faults import store_error
from leasecap._file_store.held_lease import HeldLease
from leasecap._file_store.layout import inode_of
from leasecap._file_store.queued import Queued
from leasecap._file_store.section import SECTION_GRACE, entering
from leasecap._file_store.self_record import describe_self
from leasecap._log import log_warning
from leasecap._origin import Origin
from leasecap._store.ticket import AgentHolds, NoLimit, Standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from leasecap._file_store.agents import AgentsEntry
    from leasecap._file_store.open_root import OpenRoot
    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._file_store.own_process import OwnProcess
    from leasecap._file_store.store import Store
    from leasecap._liveness.record import Child
    from leasecap._store.ticket import Want

_STAGINGS = 3
"""Attempts at building an entry in ``staging/``."""

_ANSWER_LOOK = 0.02
"""Seconds between looks whether the provider has answered, for whoever tries once."""


def _nothing() -> None:
    pass


_HELD, _REFUSED, _GONE = Standing("held"), Standing("refused"), Standing("gone")


class FileTicket:
    """See `_store.ticket.Ticket`."""

    def __init__(
        self, own: OwnProcess, root: OpenRoot, store: Store, want: Want, on_move: Callable[[Store], None]
    ) -> None:
        """:param on_move: told which pool stands at the path now, if the one that was open was forgotten."""
        self._own = own
        self._root = root
        self._store = store
        self._want = want
        self._on_move = on_move
        self._origin = Origin(own)
        self._order = self._take_place()
        self._asked = own.effects.boot_clock()
        self._deadline: float | None = None
        self._own_entry: OwnEntry | None = None
        self._queued: Queued | None = None
        self._has_queued = False
        self._other: AgentsEntry | None = None
        self._look_in = 0.0
        self._done: Callable[[], None] = _nothing

    def _take_place(self) -> int:
        place, next_one = self._want.place, partial(self._store.order.next, self._want.task_since)
        if place is None:
            return next_one()
        return place.order(inode_of(self._store.pool.directory, ""), next_one)

    # -- asking -----------------------------------------------------------------------------------------------------

    def offer(self, *, may_queue: bool, deadline: float | None) -> Generator[float, None, Standing]:
        self._deadline = deadline
        own_entry = self._stage()
        try:
            if may_queue:
                granted = yield from self._place(own_entry, may_queue=True)
                if granted is False and self._other is not None:
                    return self._look_at_the_other(self._other)
                if granted is False:  # and in the queue the first two sweep, at once if nobody did
                    self._has_queued = True
                    self._queued = Queued(self._own, self._root, self._store, own_entry, self._want)
                    return self.look()
            else:
                granted = yield from self._try_once(own_entry)
        except OSError as error:
            if not self._can_begin_again(own_entry, error):
                raise
            # Somebody took us for dead (a foreign kernel judges by heartbeats), or the lock directory was stolen while
            # we were inside: nothing is held, so begin again, in the old place.
            self.end()
            return _GONE
        return _HELD if granted else _REFUSED

    def _stage(self) -> OwnEntry:
        # A sweeper's probe may hold the liveness lock for the moment between making its file and taking it, and what is
        # half-made for as long as stale_after is swept away. So once more, under another name.
        for _ in range(_STAGINGS - 1):
            try:
                return self._stage_once()
            except BlockingIOError:
                pass
            except FileNotFoundError:
                if not self._reopen():
                    self._store.repair()
        try:
            return self._stage_once()
        except FileNotFoundError as error:
            raise store_error(error, self._store.directory.path) from error

    def _can_begin_again(self, own_entry: OwnEntry, error: OSError) -> bool:
        if isinstance(error, LeasecapError):
            return False
        if isinstance(error, FileNotFoundError) and self._reopen():
            return True
        return self._store.can_begin_again(own_entry, error)

    def _reopen(self) -> bool:
        """Use the pool that stands at the path now, if the one that was open was forgotten meanwhile.

        None is forgotten in which somebody queued: from under who has waited it was removed with all its holders.
        """
        if self._has_queued:
            return False
        with self._own.lock:
            store = self._root.standing(self._store)
            if store is self._store:
                return False
            done = self._own.keep_open(store)
        self.end()  # in the old one. Not under the lock: the thread of heartbeats takes that while it holds its own
        self._store, self._done = store, done
        self._on_move(store)
        return True

    def _stage_once(self) -> OwnEntry:
        store, want = self._store, self._want
        entry = make_entry(
            token=self._own.effects.token(),
            process=self._own.id,
            order=self._order,
            priority=want.priority,
            # Where only declarations give the pool a limit, it takes on the one it found: else the pool would be left
            # with waiters and no limit when those who declared it are gone.
            limit=self._limit_of_others() if want.limit is None else want.limit,
            ancestors=self._ancestors(),
        )
        # A fork must copy no descriptor that is open and not yet known, and no half-done import, which would stay so.
        with self._own.lock:
            record = describe_self(
                store.effects, store.pool, store.observer, label=want.label, argv=want.argv, purpose=want.purpose
            )
            if want.agent is not None:
                record = record._replace(agent=want.agent)
            if want.max_hold is not None:
                record = record._replace(max_hold=want.max_hold, kill_after=want.kill_after)
            self._own_entry = store.entries.stage(entry, record, self._asked)
            self._own.own_entries.add(self._own_entry)
        return self._own_entry

    def _limit_of_others(self) -> int | None:
        """The lowest declared limit where the configuration gives none.

        :raises NoLimit: where there is none of those either.
        """
        if self._store.policy.is_limited:
            return None
        found = full_limit(self._store.snapshots.take()._replace(configured=None))
        if found is None:
            raise NoLimit
        return found

    def _ancestors(self) -> tuple[str, ...]:
        tokens = self._want.lenders
        if not tokens:
            return ()
        held = {lease.token: lease for lease in self._store.snapshots.take().leases}
        # With each one's own ancestors: who was handed a part of the chain alone would, once its lender ends, move to
        # a lender further out and raise the pool's load.
        line = (one for token in tokens if token in held for one in (token, *held[token].ancestors))
        return tuple(dict.fromkeys(token for token in line if token in held))  # one that's gone never comes back

    def _place(self, own_entry: OwnEntry, *, may_queue: bool) -> Generator[float, None, bool | None]:
        """Whether it was granted a slot; None: the time was over before the section could be entered."""
        store, granted = self._store, False
        if not (yield from entering(store.section, store.effects.monotonic, store.directory.path, self._deadline)):
            return None

        def place() -> None:
            nonlocal granted
            if self._want.agent is not None and self._share(self._want.agent):
                store.reconciler.reconcile()  # whoever could not enter meanwhile relies on it
            else:
                granted = store.reconciler.place(own_entry, may_queue=may_queue)

        store.reconciler.transact(place, entered=True)
        if self._other is not None and self._other.held:
            raise AgentHolds(self._other.entry.token)
        if granted and store.pool.kind != "os":
            # A robbed section may have granted too much, and this is what was taken back.
            granted = self._still_held(own_entry)
        if granted:
            store.entries.note_grant(own_entry)
        return granted

    def _share(self, agent: Child) -> bool:
        """Inside the section: whether the agent has a lease, or another hook queued for one in its name."""
        from leasecap._file_store import agents  # here alone: hooks need it

        store, want = self._store, self._want
        kill_after = None if want.max_hold is None else want.kill_after
        while True:
            found = self._other = agents.entry_of(store, agent)
            if found is None or not found.held or agents.renew(store, found, want.max_hold, kill_after):
                return found is not None

    def _look_at_the_other(self, other: AgentsEntry) -> Standing:
        """See what became of the ticket of the agent's other hook."""
        from leasecap._file_store import agents

        if agents.is_pending(self._store, other) and not agents.take_place(self._store, other):
            self._look_in = min(2 * self._look_in, agents.LONGEST_LOOK) if self._look_in else agents.FIRST_LOOK
            return Standing("queued", self._look_in)
        self._look_in = 0.0
        self.end()
        return _GONE

    def _still_held(self, own_entry: OwnEntry) -> bool:
        try:
            self._store.directory.stat(f"{LEASES}/{own_entry.name}")
        except FileNotFoundError:
            return False
        return True

    def _try_once(self, own_entry: OwnEntry) -> Generator[float, None, bool | None]:
        granted = yield from self._place(own_entry, may_queue=False)
        if granted is not False:
            return granted
        rises_in = self._store.policy.rises_in
        if rises_in < math.inf:  # it has waited for no slot yet, but for the end of an edit
            yield from self._sleep(rises_in)
            granted = yield from self._place(own_entry, may_queue=False)
            if granted is not False:
                return granted
        unanswered = self._store.reconciler.unanswered
        try:
            self._store.sweeper.sweep()  # beside a dead holder there is room
        except OSError:
            pass  # what can't be swept fails nobody's request: it goes on to count
        if unanswered:
            yield from self._hear_answer()
        return (yield from self._place(own_entry, may_queue=False))

    def _sleep(self, seconds: float) -> Generator[float, None, None]:
        until = self._own.effects.monotonic() + seconds
        while (left := until - self._own.effects.monotonic()) > 0:
            yield left

    def _hear_answer(self) -> Generator[float, None, None]:
        """Wait until the provider has said how much it counts, where that is all that is missing."""
        assert self._store.feedback is not None
        files = self._store.feedback.files
        self._store.ask()
        end = self._own.effects.monotonic() + files.rules.usage_timeout + SECTION_GRACE
        while self._own.effects.monotonic() < end and files.awaits_answer():
            yield _ANSWER_LOOK

    # -- waiting ----------------------------------------------------------------------------------------------------

    def look(self) -> Standing:
        if self._other is not None:
            return self._look_at_the_other(self._other)
        own_entry, queued, store = self._own_entry, self._queued, self._store
        assert own_entry is not None and queued is not None
        try:
            store.directory.renew()
            if store.entries.acknowledge(own_entry):
                return self._leave_queue(_HELD)
            pause = queued.look()
            if own_entry.entry.limit is None and not store.policy.is_limited:
                self._limit_of_others()  # as a newcomer, it fails where no limit is left
        except OSError as error:
            if not self._can_begin_again(own_entry, error):
                raise
            pause = None
        if pause is not None:
            return Standing("queued", pause)
        if own_entry.granted:
            return self._leave_queue(_HELD)
        self.end()
        return _GONE

    def withdraw(self) -> Generator[float, None, Standing]:
        if False:
            yield 0.0  # it needs no other process
        if self._other is not None:
            self.end()
            return _GONE
        assert self._own_entry is not None
        if not self._store.withdraw(self._own_entry):
            return self._leave_queue(_HELD)
        self.end()
        return _GONE

    def find_position(self) -> int:
        if self._other is not None:
            queue = sorted(self._store.directory.list(QUEUE))
            return queue.index(self._other.entry.name) + 1 if self._other.entry.name in queue else 0
        return 0 if self._queued is None else self._queued.poller.find_position()

    def _leave_queue(self, standing: Standing) -> Standing:
        queued, self._queued = self._queued, None
        if queued is not None:
            queued.end()
        return standing

    # -- the end ----------------------------------------------------------------------------------------------------

    def lease(self) -> HeldLease:
        assert self._own_entry is not None
        held = HeldLease(self._own, self._root.path, self._store, self._own_entry)
        self._own_entry = None  # only now: who can't be handed its lease ends the entry
        self._done()
        return held

    def end(self) -> None:
        if not self._origin.is_here():
            return  # a fork's child unwinds: wake-up, handles and entry are its parent's
        self._leave_queue(_GONE)
        self._done()
        own_entry, self._own_entry = self._own_entry, None
        if own_entry is None:
            return
        own_entries = self._own.own_entries
        try:
            self._store.finish(own_entry)
        except OSError as error:
            where = self._store.directory.full(own_entry.name)
            log_warning(f"what a failed acquire left could not be removed ({where}: {error}); trying on")
            self._own.heartbeats.add(self._store, own_entry, lambda: own_entries.discard(own_entry), ending=True)
        else:
            own_entries.discard(own_entry)
