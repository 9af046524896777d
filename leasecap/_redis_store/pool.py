"""One pool in a server: the scripts as calls, and the decisions that they leave to Python. Each call blocks."""

from __future__ import annotations

from functools import partial

from redis.exceptions import RedisError, ResponseError

from leasecap._errors import LeasecapError, StoreError, Unreachable
from leasecap._feedback.adaptive import is_awaited
from leasecap._feedback.rules import Rules
from leasecap._liveness.max_hold import hold_of
from leasecap._liveness.record import decode_record, encode_record
from leasecap._redis_store.answer import answer_of, other_format, picture_of
from leasecap._redis_store.deciding import decision, decision_or_fault, report_change, rules_of, state_of
from leasecap._redis_store.eviction import Eviction
from leasecap._redis_store.faults import fault
from leasecap._redis_store.holding import Holding
from leasecap._redis_store.keys import agent_field, latency_key, pool_keys, pools_key
from leasecap._redis_store.latency import Latency
from leasecap._redis_store.lua.leases import ANSWERED, BEGIN_ANEW, DESCRIBE, RENEW, TO_WATCH
from leasecap._redis_store.lua.pools import COMMIT, CONFIGURE, FORGET, SNAPSHOT, WAKE_ALL
from leasecap._redis_store.lua.state import BEATS, FORMAT, TTL
from leasecap._redis_store.lua.tickets import END, LOOK, PLACE, WITHDRAW
from leasecap._redis_store.subscription import channel
from leasecap._store.terms import Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from typing import Any

    from leasecap._config.pool_name import PoolName
    from leasecap._feedback.adaptive import Report
    from leasecap._feedback.state import State
    from leasecap._liveness.record import Record
    from leasecap._redis_store.answer import Answer, Picture, Seen
    from leasecap._redis_store.client import Client
    from leasecap._redis_store.deciding import Change, Decided
    from leasecap._redis_store.script import Script, Server, Word

_DECISIONS = 8
"""Attempts to decide while others change the pool. Then the next of them decides, or who waits first."""

_PATIENCE = 2.0  # seconds in which a call that failed is sent again


def _nothing() -> None:
    pass


class Pool:
    """One pool in a server, as this process uses it.

    :ivar path: where it stands, for people.
    :ivar ttl: seconds for which an entry lasts without a renewal, as the last answer had it.
    :ivar holding: what the policy says of holders, likewise.
    :ivar latency: how long its requests took.
    :ivar by_task: whether calls of earlier tasks go first, as the last answer had it; None: it isn't known yet.
    :ivar terms: how this process asks the provider for its count.
    :ivar rules: what the policy says of feedback, as the last snapshot had it.
    """

    def __init__(self, client: Client, name: PoolName, monotonic: Callable[[], float]) -> None:
        address = client.address
        self.name = name
        self.path = f"{address.shown} pool {name.text}"
        self.ttl = TTL
        self.holding = Holding()
        self.by_task: bool | None = None
        self.terms = Terms(Rules())
        self.rules = self.terms.rules
        self._client = client
        self._monotonic = monotonic
        self._keys = pool_keys(address.prefix, name)
        self._hint = pools_key(address.prefix)
        self._latency_key = latency_key(address.prefix, name)
        self.latency = Latency(client, self._keys[0], self._latency_key)
        self._is_noted = False
        self._eviction = Eviction(client, self._keys[0], self.path)
        self._channel = channel(address, "")

    @property
    def beat(self) -> float:
        """Seconds between renewals."""
        return min(self.ttl, TTL) / BEATS

    @property
    def counts(self) -> bool:
        """Whether this process asks the provider for its count, whatever the policy says."""
        return self.terms.count is not None

    # -- one entry --------------------------------------------------------------------------------------------------

    def place(
        self,
        *,
        priority: int,
        order: int | None,
        task_age: float = 0.0,
        token: str,
        process: str,
        limit: int | None,
        may_queue: bool,
        record: bytes,
        lenders: Sequence[str],
        agent: str = "",
        within: float = 0.0,
        ask: Callable[[], object] = _nothing,
    ) -> Answer:
        """Ask for a slot.

        :param task_age: seconds since the task began that it is part of, which count where calls of earlier tasks go
            first.
        :param agent: a word for the process that it is for, which has one slot, however often it asks.
        :param ask: asks the provider for its count, in the background; called when that is missing.
        """
        self._eviction.refuse()
        words: list[Word] = [f"{500 - priority:03d}", "" if order is None else order, int(task_age * 1e6)]
        words += [token, process, f"{limit or 0:x}", int(may_queue), record, agent, *lenders]
        found = self._run(PLACE, *words, within=within)
        if not self._is_noted:
            self._note_name()
        if found.seen is None:
            return found
        decided = self._decide(found, found.name, newcomer=True, ask=ask, within=within)
        found = self.look(token, within=within, ask=ask)
        if found.state == "queued" and not may_queue:
            found = self.withdraw(token, within=within)
            unanswered = decided is not None and decided.unanswered
            return found if found.state == "held" else found._replace(state="refused", unanswered=unanswered)
        return found

    def _note_name(self) -> None:
        self._is_noted = True
        try:
            self._client.command("SADD", self._hint, self.name.text)
        except LeasecapError:
            pass  # it is a hint for lists

    def look(
        self, token: str, *, proof: bool = False, within: float = 0.0, ask: Callable[[], object] = _nothing
    ) -> Answer:
        """See what became of a ticket.

        :param proof: have a message sent that proves that messages come through.
        :param ask: see `place`.
        """
        found = self._run(LOOK, token, int(proof), within=within)
        if found.seen is None:
            return found
        self._decide(found, found.name, ask=ask, within=within)
        return self._run(LOOK, token, 0, within=within)

    def begin_look(self, token: str) -> Callable[[], Answer] | None:
        """Send a look; returns what waits for its answer, and raises as `look` does. None: it wasn't sent."""
        answer = self._client.send(LOOK, self._keys, self._words(token, 0))
        return None if answer is None else partial(self._looked, token, answer)

    def _looked(self, token: str, answer: Callable[[], Any]) -> Answer:
        try:
            found = self._noted(answer_of(answer()))
        except ResponseError:  # another node has the pool by now, or the server doesn't know the script any more
            return self.look(token)
        except (RedisError, OSError) as error:
            raise fault(self._client.address, error) from error
        return self._settled(found) if found.seen is None or found.state == "held" else self.look(token)

    def withdraw(self, token: str, *, within: float = _PATIENCE) -> Answer:
        """Leave the queue."""
        return self._settled(self._run(WITHDRAW, token, within=within))

    def end(self, token: str, *, by_holder: bool, within: float = _PATIENCE) -> bool:
        """End an entry, wherever it stands, and hand its slot off; False if it held none."""
        return self._settled(self._run(END, token, int(by_holder), within=within)).state == "ended"

    def renew(self, leases: Sequence[str], tickets: Sequence[str]) -> tuple[str, ...]:
        """Renew entries; returns what has become of each one: kept, adopted or lost."""
        return self._settled(self._run(RENEW, len(leases), *leases, *tickets)).each

    def to_watch(self, known: Collection[str], *, holders: bool, waiting: int) -> tuple[set[str], dict[str, bytes]]:
        """The tokens of all that is held or passed over, if ``holders``, and of a ticket of each of the first processes
        that wait, so many as ``waiting``; and the records of those that aren't ``known``."""
        tokens, records = self._raw(TO_WATCH, int(holders), waiting, *known)
        pairs = zip(records[::2], records[1::2], strict=True)
        return {token.decode() for token in tokens}, {token.decode(): record for token, record in pairs}

    def describe(self, token: str, record: Record) -> bool:
        """Change what an entry says of its process; False if it is gone."""
        hold = hold_of(record, 0.0)
        over: Word = "" if hold is None else int(hold.give_away_at * 1000)
        words = self._words(token, encode_record(record), over, agent_field(record))
        return bool(self._client.run(DESCRIBE, self._keys, words, within=_PATIENCE))

    def begin_anew(self, token: str, **fields: Any) -> bool:
        """Let the time of a lease begin anew, with these fields of what it says changed; False if it is gone."""
        data = self._raw(BEGIN_ANEW, token, within=_PATIENCE)
        if data is None:
            return False
        record = decode_record(data)
        return record is None or self.describe(token, record._replace(**fields))

    def note_answer(self, token: str) -> None:
        """Note that the answer has begun of the request that the lease is for."""
        self._client.run(ANSWERED, self._keys, self._words(token))

    # -- the pool ---------------------------------------------------------------------------------------------------

    def picture(self, *, within: float = _PATIENCE) -> Picture:
        """The pool as it stands."""
        return picture_of(self._raw(SNAPSHOT, within=within))

    def configure(self, **fields: str) -> None:
        """Set what holds for everybody; "" takes a field out."""
        words = [word for pair in fields.items() for word in pair]
        self._settled(self._run(CONFIGURE, *words, within=_PATIENCE))

    def forget(self) -> str:
        """Remove the pool if nobody uses it: used, forgotten or unknown."""
        keys = (*self._keys, self._latency_key)
        found = bytes(self._client.run(FORGET, keys, self._words(), within=_PATIENCE)).decode()
        if found == "forgotten":
            self._client.command("SREM", self._hint, self.name.text, within=_PATIENCE)
        return found

    def change_feedback(self, change: Callable[[State, float], State], *, anew: bool = False) -> bool:
        """Try to change the feedback's state and reconcile the pool with it; False: others change it all the time."""
        return self._change(lambda seen, ago: change, anew=anew)

    def take_up(self, report: Report, ago: Callable[[], float] = lambda: 0.0) -> bool:
        """`change_feedback` by a report that was made ``ago()`` seconds ago."""

        def change(seen: Seen, ago: float) -> Change:
            return decision_or_fault(self.path, lambda: report_change(seen, report, ago))

        return self._change(change, ago)

    def _change(
        self, change_in: Callable[[Seen, float], Change], ago: Callable[[], float] = lambda: 0.0, *, anew: bool = False
    ) -> bool:
        """`change_feedback` by what the pool's state at that moment makes of it."""
        sent, until = None, self._monotonic() + _PATIENCE
        for _ in range(_DECISIONS):
            # Before the state is asked for: it is counted back from that, and must not lead to before it was made.
            since = ago()
            seen = self.picture().seen
            if seen.feedback == sent:
                return True  # only the answer was lost
            decided = self._decision(seen, change=change_in(seen, since), anew=anew)
            try:
                if self._commit(decided, "").state == "done":
                    return True
                sent = None  # another was faster, perhaps with the very same change
            except Unreachable:
                if self._monotonic() > until:
                    raise
                sent = decided.feedback
        return False

    def awaits_answer(self) -> bool:
        """Whether grants wait for the provider's count."""
        seen = self.picture().seen

        def awaits() -> bool:
            usage = state_of(seen).usage
            return usage is not None and is_awaited(usage, rules_of(seen), seen.now)

        return decision_or_fault(self.path, awaits)

    def wake_all(self) -> None:
        """Have all waiters look."""
        self._client.run(WAKE_ALL, self._keys, self._words(), within=_PATIENCE)

    # -- deciding ---------------------------------------------------------------------------------------------------

    def _settled(self, found: Answer) -> Answer:
        """Decide, if that is left to do. What fails here is left to who waits first, since it isn't the caller's."""
        if found.seen is not None:
            try:
                self._decide(found, "")
            except LeasecapError:
                pass
        return found

    def _decide(
        self,
        found: Answer,
        own: str,
        *,
        newcomer: bool = False,
        ask: Callable[[], object] = _nothing,
        within: float = 0.0,
    ) -> Decided | None:
        """Decide, until that could be carried out; returns what was decided last.

        :param own: the caller's own ticket, "" if it has none; ``newcomer``: it was queued just now.
        """
        decided: Decided | None = None
        for _ in range(_DECISIONS):
            seen = found.seen
            if seen is None:
                break
            decided = self._decision(seen, newcomer=own if newcomer else None)
            found = self._commit(decided, own, within=within)
        if decided is not None and decided.may_ask:
            ask()
        return decided

    def _decision(
        self, seen: Seen, *, newcomer: str | None = None, change: Change | None = None, anew: bool = False
    ) -> Decided:
        def decide() -> Decided:
            self.rules = rules_of(seen)
            return decision(seen, newcomer, change, anew=anew, counts=self.counts)

        return decision_or_fault(self.path, decide)

    def _commit(self, decided: Decided, own: str, *, within: float = 0.0) -> Answer:
        due = 0 if decided.may_ask else int(decided.due * 1000) + 1
        words: list[Word] = [decided.version, own, decided.feedback, due]
        words += [len(decided.take_back), *decided.take_back, *decided.grant]
        return self._run(COMMIT, *words, within=within)

    def _run(self, script: Script, *words: Word, within: float = 0.0) -> Answer:
        return self._noted(answer_of(self._raw(script, *words, within=within)))

    def _noted(self, found: Answer) -> Answer:
        self.ttl, self.by_task, self.holding = found.ttl, found.by_task, found.holding
        return found

    def _raw(self, script: Script, *words: Word, within: float = 0.0) -> Any:
        try:
            return self._client.run(script, self._keys, self._words(*words), within=within)
        except StoreError as error:
            _, of_format, number = str(error).partition("LEASECAPFORMAT ")
            if of_format:
                raise other_format(number.split()[0], FORMAT, self.path) from None
            raise

    def _words(self, *words: Word) -> list[Word]:
        def run_id(server: Server) -> str:
            return server.run_id

        def age(server: Server) -> int:
            return int(max(self._monotonic() - server.started, 0.0) * 1000)

        return [self._channel, run_id, age, *words, int(self.counts)]
