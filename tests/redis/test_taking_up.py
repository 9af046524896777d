"""Who hears of its grant begins at once: the slot is its own, whatever becomes of the answer."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest
from redis_pools import place, settle
from redis_pools import token as token_of
from referee import Team, until

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._config.root import root_path
from leasecap._config.store_address import parse_address
from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN
from leasecap._errors import Unreachable
from leasecap._liveness.record import PENDING
from leasecap._redis_store import taking_up, ticket
from leasecap._redis_store.client import Client
from leasecap._redis_store.connections import MOST
from leasecap._redis_store.keys import PARTS
from leasecap._redis_store.lua.tickets import LOOK
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.renewals import Renewals
from leasecap._redis_store.script import Command, command_of
from leasecap._redis_store.taking_up import LATEST, STANDS_FOR, Looked, TakingUp, granted_at
from leasecap._redis_store.ticket import RedisTicket
from leasecap._runtime import runtime
from leasecap._store.ticket import Want

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from redis_server import RedisServer

    from leasecap._redis_store.answer import Answer
    from leasecap._redis_store.own_store import OwnStore

    T = TypeVar("T")

pytestmark = pytest.mark.redis

LOOKED = Looked(100.0, 5000.0)


@pytest.mark.parametrize(
    "notice, now, granted",
    [
        (5001.0, 101.0, 101.0),  # at once
        (5001.0, 101.0 + LATEST - 0.01, 101.0),
        (5001.0, 101.0 + LATEST, None),  # late
        (5000.0, 100.1, None),  # no newer than the look: the grant was taken back
        (4999.9, 100.1, None),
        (5001.001, 101.0005, 101.0005),  # the store counts whole milliseconds, and no look is older than its grant
        (5002.0, 101.0, None),  # in the future: the store's clock was moved
    ],
)
def test_message_is_believed_where_the_grant_must_still_stand(notice: float, now: float, granted: float | None) -> None:
    assert granted_at(notice, LOOKED, now) == pytest.approx(granted)


@dataclass
class Scene:
    """A pool of one slot, which somebody elsewhere holds, and one who waits for it here and looks only when told.

    :ivar answers: what becomes of the look by which a grant is taken up: called with what waits for the answer.
    :ivar calls: which calls were made since.
    """

    pool: Pool
    own: OwnStore
    answers: Callable[[Callable[[], Answer]], Answer] = lambda answer: answer()
    calls: list[str] = field(default_factory=list)
    taken: list[TakingUp] = field(default_factory=list)

    def grant(self) -> None:
        """Release the slot elsewhere, once this process waits and can be told."""
        until(lambda: bool(self.own._waiting), "it waits")
        since = self.pool.picture().seen.now
        # A grant in the millisecond of the last look may be older than that: its ticket looks.
        until(lambda: self.pool.picture().seen.now > since, "a millisecond is over")
        self.pool.end(token_of(1), by_holder=True)

    def acquire(self, **about: Any) -> leasecap.Lease:
        granter = threading.Thread(target=self.grant, daemon=True)
        granter.start()
        lease = leasecap.acquire("p", timeout=20, **about)
        granter.join(20)
        return lease

    def held(self) -> list[str]:
        return [name[21:37] for name in self.pool.picture().seen.leases]


@pytest.fixture
def scene(server: RedisServer, client: Client, team: Team, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    pool = Pool(client, pool_name("p"), time.monotonic)
    settle(pool, ttl=600)
    place(pool, 1)
    with pytest.raises(leasecap.AcquireTimeout):
        leasecap.acquire("p", timeout=0.5)  # from here on messages reach this process
    scene = Scene(pool, runtime.on_server(runtime.root(root_path()).config.pool("p")).own)
    until(lambda: scene.own.subscription.proven and not scene.own._takes_over, "nothing else wakes")
    for seconds in ("DUTY", "_WATCHED"):
        monkeypatch.setattr(ticket, seconds, 60.0)
    begin, look, end = Pool.begin_look, Pool.look, Pool.end

    def begun(pool: Pool, token: str) -> Callable[[], Answer] | None:
        answer = begin(pool, token)
        return None if answer is None else lambda: noted("answer", lambda: scene.answers(answer))

    def looked(pool: Pool, token: str, **about: Any) -> Answer:
        return noted("look", lambda: look(pool, token, **about))

    def ended(pool: Pool, token: str, **about: Any) -> bool:
        return noted("end", lambda: end(pool, token, **about)) if pool is not scene.pool else end(pool, token, **about)

    def noted(what: str, call: Callable[[], T]) -> T:
        try:
            return call()
        finally:
            scene.calls.append(what)

    class Noted(TakingUp):
        def __init__(self, *about: Any) -> None:
            super().__init__(*about)
            scene.taken.append(self)
            scene.calls.clear()

    monkeypatch.setattr(Pool, "begin_look", begun)
    monkeypatch.setattr(Pool, "look", looked)
    monkeypatch.setattr(Pool, "end", ended)
    monkeypatch.setattr(taking_up, "TakingUp", Noted)
    yield scene


def unreachable(answer: Callable[[], Answer]) -> Answer:
    answer()
    raise Unreachable("lost", path="", remedy="")


@pytest.mark.parametrize("in_loop", [False, True], ids=["thread", "task"])
def test_call_returns_before_the_store_has_answered(scene: Scene, in_loop: bool) -> None:
    goes_on = threading.Event()

    def late(answer: Callable[[], Answer]) -> Answer:
        assert goes_on.wait(20)
        return answer()

    async def in_task() -> leasecap.Lease:
        return await leasecap.acquire_async("p", timeout=20)

    scene.answers = late
    if in_loop:
        granter = threading.Thread(target=scene.grant, daemon=True)
        granter.start()
        lease = asyncio.run(in_task())
    else:
        lease = scene.acquire()
    assert scene.calls == [] and not scene.taken[0].kept.is_settled
    # The store knows it all the same: what takes it up was sent before.
    until(lambda: scene.held() == [lease.id], "it is taken up")
    goes_on.set()
    until(lambda: scene.taken[0].kept.is_settled, "the answer has come")
    assert not lease.lost
    lease.release()
    assert scene.calls == ["answer", "end"]


def test_lease_is_lost_before_its_slot_is_given_to_another_where_no_answer_comes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*about: Any, **named: Any) -> Any:
        raise Unreachable("lost", path="", remedy="")

    monkeypatch.setattr(Pool, "begin_look", lambda pool, token: away)  # what was sent never arrives
    monkeypatch.setattr(Pool, "look", away)
    lease = scene.acquire()
    kept = scene.taken[0].kept
    [granted] = scene.pool.picture().seen.granted.values()
    place(scene.pool, 2, process=2)
    until(lambda: bool(lease.lost), "it is told")
    since_boot = time.time() - scene.own.effects.boot_clock() / 1e9
    assert kept.sent + kept.ttl + since_boot < granted + ACKNOWLEDGE_WITHIN

    def is_given() -> bool:
        scene.pool.renew((), ())  # somebody calls: then the grant that isn't taken up goes to the next
        return [name[21:37] for name in scene.pool.picture().seen.granted] == [token_of(2)]

    until(is_given, "the slot is another's")
    lease.release()


def test_answer_comes_whatever_keeps_the_errands(scene: Scene) -> None:
    """One node of a cluster that is silent keeps all of them for seconds."""
    goes_on = threading.Event()
    for _ in range(4):
        scene.own.errands.do(lambda: goes_on.wait(20))
    lease = scene.acquire()
    until(lambda: scene.taken[0].kept.is_settled, "the answer has come")
    goes_on.set()
    assert not lease.lost
    lease.release()


def grant_to_one_that_ends_in(scene: Scene, seconds: float) -> list[float]:
    """Release the slot elsewhere once a ticket waits that has this much time left; returns when that is over."""
    ends: list[float] = []

    def grant() -> None:
        until(lambda: bool(scene.own._waiting), "it waits")
        [waits] = scene.own.renewals.all()
        ends.append(scene.own.effects.boot_clock() / 1e9 + seconds)
        waits.ttl = ends[0] - waits.sent
        scene.grant()

    threading.Thread(target=grant, daemon=True).start()
    return ends


def test_lease_ends_with_its_ticket_where_that_comes_first(scene: Scene) -> None:
    ends = grant_to_one_that_ends_in(scene, 1.8)
    begun: list[float] = []

    def begins(answer: Callable[[], Answer]) -> Answer:
        kept = scene.taken[0].kept
        begun.append(kept.sent + kept.ttl)
        return answer()

    scene.answers = begins
    lease = leasecap.acquire("p", timeout=20)
    until(lambda: bool(begun), "it is asked")
    assert begun[0] == pytest.approx(ends[0])
    lease.release()


def test_ticket_whose_own_time_is_nearly_over_looks(scene: Scene) -> None:
    """Its renewals don't come through: the lease would be lost before the store can have answered."""
    grant_to_one_that_ends_in(scene, 0.5)
    lease = leasecap.acquire("p", timeout=20)
    assert not scene.taken and not lease.lost and scene.held() == [lease.id]
    lease.release()


def test_answer_that_is_lost_is_asked_for_again(scene: Scene) -> None:
    scene.answers = unreachable
    lease = scene.acquire()
    until(lambda: scene.taken[0].kept.is_settled, "it was asked again")
    assert "look" in scene.calls and not lease.lost and scene.held() == [lease.id]
    lease.release()


def test_lease_whose_grant_was_taken_back_is_lost_and_leaves_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking_up, "STANDS_FOR", 600.0)  # it isn't lost by its time

    def passed_over(answer: Callable[[], Answer]) -> Answer:
        return answer()._replace(state="queued")

    scene.answers = passed_over
    lease = scene.acquire()
    until(lambda: bool(lease.lost), "it is told")
    until(lambda: not scene.held(), "it doesn't wait on for what nobody wants")
    lease.release()
    assert not scene.pool.picture().seen.queue


def test_lease_that_somebody_ends_while_its_answer_is_on_its_way_is_lost_as_soon_as_that_comes(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "beat", 600.0)
    goes_on = threading.Event()

    def late(answer: Callable[[], Answer]) -> Answer:
        found = answer()
        assert goes_on.wait(20)
        return found

    scene.answers = late
    scene.pool.configure(limit="2")
    another = leasecap.acquire("p", timeout=20)
    lease = scene.acquire()
    until(lambda: scene.held() == [another.id, lease.id], "it is taken up")
    asked = threading.Event()
    renew = Pool.renew

    def renewed(pool: Pool, *about: Any) -> tuple[str, ...]:
        try:
            return renew(pool, *about)
        finally:
            asked.set()

    monkeypatch.setattr(Pool, "renew", renewed)
    scene.pool.end(lease.id, by_holder=False)
    assert asked.wait(20), "the others are asked for at once"
    assert not lease.lost
    goes_on.set()
    until(lambda: bool(lease.lost), "it is told")
    assert not another.lost
    lease.release()
    another.release()


def test_lease_that_is_begun_while_its_ticket_is_told_to_be_gone_is_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has ended what was granted. The answer about the ticket came late, and was taken for one about the lease
    that had its name by then: nobody renewed that any more, and nobody told its holder."""
    told, applied = threading.Event(), threading.Event()
    renew, renew_all, takes_up = Pool.renew, Renewals._renew, RedisTicket._takes_up

    def renewed(pool: Pool, leases: list[str], tickets: list[str]) -> tuple[str, ...]:
        answers = renew(pool, leases, tickets)
        if tickets and answers == ("lost",):
            told.set()
            until(lambda: any(kept.is_lease for kept in scene.own.renewals.all()), "its lease is begun")
        return answers

    def all_renewed(renewals: Renewals, pool: Pool) -> None:
        renew_all(renewals, pool)
        if told.is_set():
            applied.set()

    def taken_up(waits: RedisTicket) -> bool:
        return (waits._notice is None or told.wait(20)) and takes_up(waits)

    def late(answer: Callable[[], Answer]) -> Answer:
        assert applied.wait(20)
        return answer()

    def grant() -> None:
        scene.grant()
        [waits] = scene.own._waiting
        scene.pool.end(waits, by_holder=False)

    monkeypatch.setattr(Pool, "renew", renewed)
    monkeypatch.setattr(Renewals, "_renew", all_renewed)
    monkeypatch.setattr(RedisTicket, "_takes_up", taken_up)
    scene.answers = late
    threading.Thread(target=grant, daemon=True).start()
    lease = leasecap.acquire("p", timeout=20)
    until(lambda: bool(lease.lost), "it is told")
    assert scene.taken and not scene.own.renewals.all()
    lease.release()


@pytest.mark.parametrize("is_over", [False, True], ids=["holders are waited for", "that is over"])
def test_lease_that_a_server_has_forgotten(scene: Scene, server: RedisServer, is_over: bool) -> None:
    def forgotten(answer: Callable[[], Answer]) -> Answer:
        answer()
        server.command("FLUSHALL")
        if is_over:
            settle(scene.pool, ttl=600)
        return scene.pool.look(scene.taken[0].kept.name[21:37])

    scene.answers = forgotten
    lease = scene.acquire()
    if is_over:
        until(lambda: bool(lease.lost), "it is told")
    else:
        until(lambda: scene.taken[0].kept.is_settled, "the server takes it for held")
        assert not lease.lost and scene.held() == [lease.id]
        until(lambda: bool(scene.pool.picture().records.get(lease.id)), "it is described anew")
    lease.release()


@pytest.mark.parametrize("does", ["release", "describe"])
def test_what_is_done_with_a_lease_comes_after_the_answer(scene: Scene, does: str) -> None:
    """Else a slot that was used wouldn't cool down, and the server wouldn't note when the time of a lease is over."""
    goes_on, waits = threading.Event(), threading.Event()

    def late(answer: Callable[[], Answer]) -> Answer:
        assert goes_on.wait(20)
        return answer()

    def settle() -> None:
        waits.set()
        scene.taken[0].settle()

    scene.answers = late
    lease = scene.acquire()
    kept = scene.taken[0].kept
    kept.settle = settle
    done = threading.Thread(target=lease.release if does == "release" else kept.describe, daemon=True)
    done.start()
    assert waits.wait(20)
    until(lambda: scene.held() == [lease.id], "the server has read what was sent")
    assert scene.calls == []
    goes_on.set()
    done.join(20)
    assert scene.calls == ["answer", "end"][: 1 + (does == "release")]
    lease.release()


def test_what_is_told_of_a_lease_comes_after_the_answer(scene: Scene, client: Client) -> None:
    """Else a lease with a time to end would never be given away: the server doesn't know yet that it is one."""
    lease = scene.acquire(max_hold=500)
    name = scene.taken[0].kept.name
    over = scene.pool._keys[PARTS.index("over")]
    until(lambda: client.command("ZSCORE", over, name) is not None, "the server knows when its time is over")
    lease.release()


def test_lease_is_renewed_in_time_where_the_policy_has_a_shorter_one_since_the_last_look(scene: Scene) -> None:
    def pushed(answer: Callable[[], Answer]) -> Answer:
        answer()
        scene.pool.configure(ttl="3000")
        return scene.taken[0].kept.pool.look(scene.taken[0].kept.name[21:37])

    scene.answers = pushed
    lease = scene.acquire()
    kept = scene.taken[0].kept
    until(lambda: kept.is_settled, "the answer has come")
    settled = kept.sent
    assert kept.ttl == 3.0
    until(lambda: bool(lease.lost) or kept.sent > settled, "it is renewed")
    assert not lease.lost
    lease.release()


def test_call_in_trouble_looks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is seen that the trouble is over."""
    look = Pool.look
    failed = threading.Event()

    def fails_once(pool: Pool, token: str, **about: Any) -> Answer:
        if not failed.is_set():
            failed.set()
            raise Unreachable("lost", path="", remedy="")
        return look(pool, token, **about)

    monkeypatch.setattr(Pool, "look", fails_once)

    def grant() -> None:
        until(lambda: bool(scene.own._waiting), "it waits")
        scene.own._wake_first()
        until(lambda: scene.own.trouble(scene.own.pool(pool_name("p"))) != "", "it is in trouble")
        scene.grant()

    threading.Thread(target=grant, daemon=True).start()
    lease = leasecap.acquire("p", timeout=20)
    assert not scene.taken and scene.own.trouble(scene.own.pool(pool_name("p"))) == ""
    lease.release()


def test_lease_that_a_garbage_collection_ends_while_its_answer_comes(scene: Scene) -> None:
    lease: list[leasecap.Lease] = []
    begun = threading.Event()

    def collected(answer: Callable[[], Answer]) -> Answer:
        assert begun.wait(20)
        lease.pop().release()  # a generator has it, and is ended by whichever thread collects
        return answer()

    scene.answers = collected
    lease.append(scene.acquire())
    begun.set()
    until(lambda: scene.calls == ["end", "answer"], "nobody waits for himself")
    assert not scene.held()


def test_server_that_has_forgotten_a_lease_adopts_none_that_has_ended(scene: Scene, server: RedisServer) -> None:
    begun = threading.Event()
    lease: list[leasecap.Lease] = []

    def forgotten(answer: Callable[[], Answer]) -> Answer:
        assert begun.wait(20)
        answer()
        lease.pop().release()
        server.command("FLUSHALL")
        return scene.pool.look(scene.taken[0].kept.name[21:37])

    scene.answers = forgotten
    lease.append(scene.acquire())
    begun.set()
    until(lambda: scene.taken[0]._is_over, "it is over")
    assert not scene.held()


def test_answer_is_asked_for_again_where_a_signals_handler_raised_while_it_was_awaited(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TakingUp, "follow", lambda self: None)  # the holder is the first to wait for it
    lease = scene.acquire()
    kept = scene.taken[0].kept
    times: list[int] = []

    def raises(signum: int, frame: object) -> None:
        if not times:
            times.append(signum)
            raise TimeoutError

    def interrupted(answer: Callable[[], Answer]) -> Answer:
        found = answer()
        signal.raise_signal(signal.SIGINT)
        return found

    was = signal.signal(signal.SIGINT, raises)
    try:
        scene.answers = interrupted
        with pytest.raises(TimeoutError):
            kept.describe()
        assert kept.describe() and kept.is_settled and not lease.lost
        assert [each._places.qsize() for each in scene.own.client._connections.values()] == [MOST]
    finally:
        signal.signal(signal.SIGINT, was)
    lease.release()


def test_renewal_doesnt_make_a_lease_of_what_was_passed_over(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on = threading.Event()

    def late(answer: Callable[[], Answer]) -> Answer:
        assert goes_on.wait(20)
        return answer()

    scene.answers = late
    lease = scene.acquire()
    renewed: list[str] = []
    monkeypatch.setattr(Pool, "renew", lambda pool, leases, tickets: renewed.extend(leases))
    scene.own.renewals._renew(scene.taken[0].kept.pool)
    assert renewed == []
    goes_on.set()
    lease.release()


def test_who_ends_what_may_be_lost_waits_for_the_answer(scene: Scene) -> None:
    scene.pool.configure(holding='{"when_unsure":"end"}')
    lease = scene.acquire()
    assert not scene.taken and scene.held() == [lease.id]
    lease.release()


def test_command_isnt_ended_by_a_policy_that_came_while_the_answer_is_awaited(scene: Scene) -> None:
    """Until then the lease seems to last for two seconds alone, of which a command may need more to end."""
    seen: list[object] = []

    def pushed(answer: Callable[[], Answer]) -> Answer:
        kept = scene.taken[0].kept
        kept.kill_after = 5.0
        scene.pool.configure(holding='{"when_unsure":"end"}')
        answered = kept.pool.look(kept.name[21:37])
        seen.append(kept.ends_in(kept.sent + STANDS_FOR * 0.9))  # so late it may come where the server is slow
        return answered

    scene.answers = pushed
    lease = scene.acquire()
    until(lambda: scene.taken[0].kept.is_settled, "the answer has come")
    assert seen == [None] and scene.taken[0].kept.pool.holding.when_unsure == "end"
    lease.release()


def test_look_that_cant_be_sent_leaves_its_connections_place(
    client: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.command("PING")
    [connections] = client._connections.values()

    def raises(command: Command, server: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(Command, "packed", raises)
    with pytest.raises(MemoryError):
        connections.send(command_of("PING"))
    assert connections._places.qsize() == MOST


def test_nothing_is_sent_where_that_might_take_time(client: Client, server: RedisServer, scene: Scene) -> None:
    def send(through: Client) -> Callable[[], Any] | None:
        return through.send(LOOK, scene.pool._keys, scene.pool._words(token_of(1), 0))

    assert send(Client(parse_address(server.url()))) is None, "there is no connection yet"
    client.command("PING")
    behind_sentinels = Client(parse_address("redis+sentinel://127.0.0.1/s/0"))
    behind_sentinels._connections, behind_sentinels._route.master = client._connections, client._route.master
    assert send(behind_sentinels) is None, "they say first who the master is"
    forked = Client(client.address)
    forked._connections, forked._pid = client._connections, 0
    assert send(forked) is None, "the connections are another process's"
    scene.pool.look(token_of(1))
    answers = [answer for answer in (send(client) for _ in range(MOST + 1)) if answer is not None]
    assert 1 <= len(answers) <= MOST
    assert send(client) is None, "all are in use"
    assert [answer().partition(b" ")[0] for answer in answers] == [b"held"] * len(answers)
    assert client.command("PING") == b"PONG"
    server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert send(client) is None, "the connection has come to its end"
    assert [client.command("PING") for _ in range(MOST + 1)] == [b"PONG"] * (MOST + 1)


def test_message_of_a_ticket_that_has_ended_says_nothing_of_the_next_one(scene: Scene) -> None:
    """After a FLUSHALL the server's clock may be behind what the message says."""
    store = runtime.on_server(runtime.root(root_path()).config.pool("p"))
    asks = store.ticket(Want(0, None, None, None, (), None, 0.0, None, lambda: None))
    asks._hear(5.0)
    asks._leave_queue()
    assert asks._notice is None


def test_lease_counts_that_is_held_though_nothing_can_be_decided(scene: Scene) -> None:
    place(scene.pool, 2, process=2)
    scene.pool.configure(feedback="?")
    with pytest.raises(leasecap.StoreError, match="provider"):
        scene.pool.look(token_of(1))
    answer = partial(scene.pool._raw, LOOK, token_of(1), 0)
    assert scene.pool._looked(token_of(1), answer).state == "held"


@pytest.mark.parametrize("is_over", [False, True], ids=["holders are waited for", "that is over"])
def test_command_of_a_lease_that_a_server_has_forgotten(scene: Scene, server: RedisServer, is_over: bool) -> None:
    lease = scene.acquire()
    until(lambda: scene.taken[0].kept.is_settled, "the answer has come")
    server.command("FLUSHALL")
    if is_over:
        settle(scene.pool, ttl=600)
    lease.note_child(PENDING)
    assert bool(lease.lost) == is_over
    assert (b"child" in scene.pool.picture().records.get(lease.id, b"")) != is_over
    lease.release()
