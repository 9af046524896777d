"""One call for a slot of a pool in a store.

In a thread each step asks the store and waits for the answer. In an event loop, and where the store hasn't answered yet
or is in trouble, an errand asks (`Errands`), and the step says to come back when it is done.
"""

from __future__ import annotations

import math
from functools import partial

from leasecap._errors import LeasecapError, Unreachable
from leasecap._origin import Origin
from leasecap._redis_store.answer import order_in
from leasecap._redis_store.before_refusal import say_who_is_waited_for, wait_for_count, wait_for_holders
from leasecap._redis_store.call_record import held_record, question, record_of
from leasecap._redis_store.held_lease import HeldLease, found_held
from leasecap._redis_store.lua.state import DUTY
from leasecap._redis_store.open_pool import AGAIN_WITHIN, SAFETY
from leasecap._redis_store.renewals import Kept
from leasecap._redis_store.taking_up import Looked, take_up
from leasecap._store.ticket import AgentHolds, NoLimit, Standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeAlias, TypeVar

    from leasecap._liveness.record import Record
    from leasecap._redis_store.answer import Answer
    from leasecap._redis_store.errands import Errand
    from leasecap._redis_store.open_pool import OpenPool
    from leasecap._store.ticket import Want

    T = TypeVar("T")
    _Sent: TypeAlias = tuple[float, Answer]  # when it was asked (boot clock, seconds), and the answer

_WATCHED = 10.0
"""Seconds between looks, at most, of a ticket that messages reach."""

_POLL, _FAR_POLL = 0.05, 0.5
"""Seconds between looks of a ticket that no message reaches: near the head of the queue, and further back."""

_BEHIND = 0.2  # seconds between looks of a call whose agent has asked already
_RELIEVE_EVERY = 1.0  # seconds between looks whether that one lives
_NEAR = 2
_MOST_TRIES = 12  # of a call that tries once, while holders are waited for

_AGAIN = 0.5  # seconds between tries while the store is in trouble
_SLACK = 0.005  # seconds after a moment at which something runs out; the store counts whole milliseconds

_HELD, _REFUSED, _GONE = Standing("held"), Standing("refused"), Standing("gone")


class RedisTicket:
    """See `_store.ticket.Ticket`."""

    def __init__(self, store: OpenPool, want: Want) -> None:
        self._store = store
        self._want = want
        self._origin = Origin(store.own.process)
        self._order = None if want.place is None else want.place.known_order(store.place)
        self._token = ""
        self._record = record_of(store, want)
        self._declared: int | None = None
        self._unclaimed = 0
        self._errand: Errand[_Sent] | None = None
        self._again = self._placed = False
        self._notice: float | None = None
        self._looked = Looked(0.0, 0.0)
        self._relieve_at = 0.0
        self._trouble: Unreachable | None = None
        self._position = 0
        self._ticket: Kept | None = None
        self._lease: HeldLease | None = None

    # -- asking -----------------------------------------------------------------------------------------------------

    def offer(self, *, may_queue: bool, deadline: float | None) -> Generator[float, None, Standing]:
        self._placed = False
        own, pool = self._store.own, self._store.pool
        ending = own.ending()
        try:
            until = deadline if may_queue and deadline is not None else math.inf
            sent, found = yield from self._asked(may_queue=may_queue, until=until)
            if found.state == "refused" and found.closed_for:
                say_who_is_waited_for(self._store, found.closed_for)
            for _ in range(_MOST_TRIES):
                if found.state != "refused" or not found.closed_for:
                    break
                yield from wait_for_holders(self._store, found.closed_for + _SLACK)
                sent, found = yield from self._asked(may_queue=may_queue)
            if found.state == "refused" and found.unanswered:
                yield from wait_for_count(self._store, lambda: self._until_done(pool.awaits_answer))
                sent, found = yield from self._asked(may_queue=may_queue)
            # A dead process may have had the slot, or an event loop of this one.
            if found.state == "refused" and (yield from self._until_done(partial(own.sweep, pool, ending))):
                sent, found = yield from self._asked(may_queue=may_queue)
            return _REFUSED if found.state == "refused" else self._standing(sent, found)
        except Unreachable as error:
            if not may_queue:
                raise
            return self._in_trouble(error)

    def _asked(self, *, may_queue: bool, until: float = math.inf) -> Generator[float, None, _Sent]:
        self._token = self._store.own.effects.token()
        sending = self._sending(self._place(may_queue=may_queue))
        return (yield from self._until_done(sending, until, self._was_not_asked))

    def _until_done(
        self, call: Callable[[], T], until: float = math.inf, never: Callable[[], None] | None = None
    ) -> Generator[float, None, T]:
        self._errand = None
        return self._store.until_done(call, self._want.wake, until, never)

    def _was_not_asked(self) -> None:
        self._token = ""  # there is nothing to end

    def _place(self, *, may_queue: bool) -> Callable[[], Answer]:
        """What asks for a slot, after what was reported. It has its own token: the ticket may have been ended then."""
        want, store = self._want, self._store
        store.refresh()  # who held the pool closed, or a check of another server, may have taken seconds
        self._declared, self._unclaimed = store.declared(want.limit), store.own.unclaimed
        place = question(
            store, want, self._record,
            order=self._order, token=self._token, limit=self._declared, may_queue=may_queue,
        )  # fmt: skip
        asks = place if want.agent is None else partial(self._place_for_agent, place)
        return store.own.after_reports(store.pool, asks)

    def _place_for_agent(self, place: Callable[[], Answer]) -> Answer:
        """Ask; if another hook of the agent waits already, see now and then that it lives: no chain of looks does."""
        found, now = place(), self._store.monotonic()
        if found.state == "behind" and now >= self._relieve_at:
            self._relieve_at = now + _RELIEVE_EVERY
            self._store.own.relieve(self._store.pool, everybody=True)
            found = place()
        return found

    def _asks_directly(self) -> bool:
        return self._trouble is None and self._store.asks_directly()

    def _sending(self, call: Callable[[], Answer]) -> Callable[[], _Sent]:
        is_new = self._ticket is None

        def sent() -> _Sent:
            at, found = self._store.boot_clock(), call()
            self._store.own.note_trouble(self._store.pool, None)
            if is_new and found.state in ("held", "queued"):
                self._store.enter()
            return at, found

        return sent

    # -- waiting ----------------------------------------------------------------------------------------------------

    def look(self) -> Standing:
        errand = self._errand
        if errand is None:
            self._again = False
            if self._takes_up():
                return _HELD
            if self._asks_directly():
                return self._settled(self._sending(self._step()))
            self._send()
            return Standing("queued", SAFETY)
        if not errand.done:
            self._again = True
            return Standing("queued", SAFETY)
        self._errand = None
        again, self._again = self._again, False
        standing = self._settled(errand.result)
        if again and standing.state == "queued" and self._trouble is None:
            self._send()
        return standing

    def _send(self) -> None:
        self._errand = self._store.own.errands.send(self._sending(self._step()), self._want.wake)

    def _hear(self, granted: float | None = None) -> None:
        """A message has come, with the time of the grant if it tells of one; from any thread. It may be newer than the
        answer of an errand that is done."""
        self._again, self._notice = True, granted
        self._want.wake()

    def _step(self) -> Callable[[], Answer]:
        if not self._placed:
            self._token = self._token or self._store.own.effects.token()
            return self._place(may_queue=True)
        return partial(self._look, self._token, proof=self._store.own.subscription.wants_proof)

    def _look(self, token: str, *, proof: bool) -> Answer:
        found = self._store.pool.look(token, proof=proof, ask=self._store.ask)
        if proof and found.unwatched:  # nothing was heard for a while
            self._store.own.relieve(self._store.pool)
        return found

    def _settled(self, answer: Callable[[], _Sent]) -> Standing:
        try:
            return self._standing(*answer())
        except Unreachable as error:
            return self._in_trouble(error)

    def _in_trouble(self, error: Unreachable) -> Standing:
        self._trouble = error
        self._store.own.note_trouble(self._store.pool, error)
        return Standing("queued", _AGAIN)

    def _standing(self, sent: float, found: Answer) -> Standing:
        self._trouble = None
        state = found.state
        if found.name and state not in ("agent", "behind"):
            self._order = order = order_in(found.name)
            if self._want.place is not None:
                self._want.place.order(self._store.place, lambda: order)
        if state == "held":
            return self._take_found(sent, found)
        if state == "nolimit":
            raise NoLimit
        if state == "agent":
            return self._share(found.name[21:37])
        if state == "behind":  # another hook of the agent waits: see what becomes of it
            return Standing("queued", _BEHIND)
        if state == "deep":
            raise LeasecapError(
                f"more than ten leases of pool {self._store.name!r} are nested in each other here; an agent that "
                "starts itself without end is the likely cause. Pass borrow=False (--no-borrow) to take a slot of its "
                "own."
            )
        if state == "gone":
            self._leave_queue()
            return _GONE
        self._store.refresh()
        if self._store.declared(self._want.limit) != self._declared:
            self._own_end()  # the configuration has changed: ask again, in the old place, by what it says now
            return _GONE
        self._placed, self._position, self._looked = True, found.position, Looked(sent, found.now)
        ticket = self._ticket or self._join_queue(sent, found)
        self._store.own.renewals.note_look(ticket, sent, found.ttl)
        self._store.own.note_duty(self._store.pool, self._token, on_duty=found.on_duty)
        return Standing("queued", self._pause(found))

    def _share(self, token: str) -> Standing:
        """The agent has this lease already, whose time begins anew.

        :raises AgentHolds: unless it is gone meanwhile.
        """
        held = self._held_record()
        if not self._store.pool.begin_anew(token, max_hold=held.max_hold, kill_after=held.kill_after):
            return _GONE
        raise AgentHolds(token)

    def _pause(self, found: Answer) -> float:
        if self._store.own.is_reached:
            pause = DUTY if found.on_duty else _WATCHED
        else:
            pause = _POLL if found.position <= _NEAR else _FAR_POLL
        return min(pause, found.changes_in + _SLACK) if found.on_duty else pause

    def _join_queue(self, sent: float, found: Answer) -> Kept:
        own = self._store.own
        self._ticket = Kept(self._store.pool, found.name, sent, self._record, self._hear, is_lease=False)
        own.listen(self._store.pool, self._token, self._ticket.name, self._hear, self._unclaimed)
        own.renewals.add(self._ticket)
        return self._ticket

    def _leave_queue(self) -> None:
        ticket, self._ticket = self._ticket, None
        self._placed, self._position, self._notice = False, 0, None
        if ticket is not None:
            self._store.own.renewals.remove(ticket.name)
            self._store.own.stop_listening(self._store.pool, ticket.name[21:37])

    def _held_record(self) -> Record:
        return held_record(self._store, self._want, self._record)

    def _take_found(self, sent: float, found: Answer) -> Standing:
        kept = found_held(self._store, self._ticket, self._held_record(), sent, found)
        if kept is None:  # another may have the slot by now: ask again, in the old place
            self._own_end()
            return _GONE
        self._take(kept, found.since, found.now - found.since)
        return _HELD

    def _takes_up(self) -> bool:
        """Take up a grant of which a message has come, if the store needn't be waited for."""
        (notice, self._notice), ticket = (self._notice, None), self._ticket
        if notice is None or ticket is None or self._trouble is not None:
            return False
        taken = take_up(self._store, ticket, self._held_record(), notice, self._looked)
        if taken is not None:
            self._take(taken.kept, notice, self._store.boot_clock() - taken.kept.sent)
            self._store.own.answers.do(taken.follow)
        return taken is not None

    def _take(self, kept: Kept, granted: float, age: float) -> None:
        self._leave_queue()
        kept.kill_after = self._want.kill_after
        self._store.own.renewals.add(kept)
        self._lease = HeldLease(self._store, kept, granted, self._store.monotonic() - max(age, 0.0))

    # -- the end ----------------------------------------------------------------------------------------------------

    def withdraw(self) -> Generator[float, None, Standing]:
        if self._trouble is not None:
            self.end()
            raise self._trouble
        # If an errand takes a grant up meanwhile, the answer says so.
        withdraw = partial(self._store.pool.withdraw, self._token, within=AGAIN_WITHIN)
        sent, found = yield from self._until_done(self._sending(withdraw), self._store.monotonic())
        if found.state == "held":
            return self._take_found(sent, found)
        self._leave_queue()
        return _GONE

    def lease(self) -> HeldLease:
        lease, self._lease = self._lease, None
        assert lease is not None
        self._token = ""  # only now: who can't be handed its lease ends the entry
        return lease

    def find_position(self) -> int:
        return self._position

    def end(self) -> None:
        if self._origin.is_here():  # else a fork's child unwinds: the entry is its parent's
            self._own_end()

    def _own_end(self) -> None:
        token, self._token = self._token, ""
        lease, self._lease = self._lease, None
        errand, self._errand = self._errand, None
        if errand is not None:
            errand.abandon()
        self._leave_queue()
        if self._trouble is not None:
            self._store.own.note_trouble(self._store.pool, None)  # others who wait note their own
        if lease is not None:
            lease.let_go()
        if token:
            self._store.own.end_soon(token, partial(self._end, token))

    def _end(self, token: str) -> None:
        try:
            self._store.pool.end(token, by_holder=True)
        except LeasecapError:
            self._store.own.end_again(self._store.pool, token, self._store.boot_clock() + self._store.pool.ttl)
