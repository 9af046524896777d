"""What an event loop reads long after it was answered: it was blocked, or its process was stopped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from redis_pools import place, settle, token
from referee import Team, until

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._config.store_address import parse_address
from leasecap._redis_store import ticket as tickets
from leasecap._redis_store.errands import Errands
from leasecap._redis_store.held_lease import found_held
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.renewals import Kept, Renewals
from leasecap._redis_store.ticket import RedisTicket
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from redis_server import RedisServer

    from leasecap._redis_store.answer import Answer
    from leasecap._redis_store.client import Client
    from leasecap._redis_store.errands import Errand
    from leasecap._redis_store.own_store import OwnStore
    from leasecap._store.ticket import Standing

pytestmark = pytest.mark.redis

TTL = 1.5
"""Seconds without a renewal after which an entry ends."""


@pytest.fixture
def pool(server: RedisServer, client: Client, team: Team) -> Iterator[Pool]:
    """A pool of one slot, which this process uses, and by which others do."""
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    pool = Pool(client, pool_name("p"), time.monotonic)
    settle(pool, ttl=TTL)
    leasecap.acquire("p").release()
    yield pool


@pytest.fixture
def own(pool: Pool, server: RedisServer) -> OwnStore:
    return runtime.servers().at(parse_address(server.url()))


def now(own: OwnStore) -> float:
    return own.effects.boot_clock() / 1e9


def block_after_a_look(monkeypatch: pytest.MonkeyPatch, own: OwnStore) -> list[str]:
    """Have the event loop stand still right after the first look is sent, for longer than that renews its ticket.

    :return: the token of the ticket.
    """
    sends, tokens = RedisTicket._send, list[str]()

    def sent(ticket: RedisTicket) -> None:
        if not ticket._placed or tokens:
            sends(ticket)
            return
        tokens.append(ticket._token)
        began = now(own)
        sends(ticket)
        until(lambda: ticket._errand is not None and ticket._errand.done, "it was answered")
        until(lambda: now(own) > began + 1.5 * TTL, "its time would be over")

    monkeypatch.setattr(RedisTicket, "_send", sent)
    return tokens


def test_answer_that_is_read_late_takes_no_time_from_a_ticket_that_was_renewed_since(
    pool: Pool, own: OwnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease that was begun on the message of a grant ended with its ticket, and so at once."""
    holder = leasecap.acquire("p")
    left: list[float] = []
    note_look = Renewals.note_look

    def noted(renewals: Renewals, ticket: Kept, sent: float, ttl: float) -> None:
        note_look(renewals, ticket, sent, ttl)
        if now(own) > sent + ttl and not left:
            left.append(ticket.sent + ticket.ttl - now(own))
            own.errands.do(holder.release)

    monkeypatch.setattr(Renewals, "note_look", noted)
    tokens = block_after_a_look(monkeypatch, own)

    async def acquire() -> leasecap.Lease:
        return await leasecap.acquire_async("p", timeout=20)

    lease = asyncio.run(acquire())
    assert lease.id == tokens[0] and left[0] > 0
    until(lambda: [name[21:37] for name in pool.picture().seen.leases] == [lease.id], "it is taken up")
    assert not lease.lost
    lease.release()


def test_lease_of_which_an_answer_tells_late_was_renewed_as_a_ticket(
    pool: Pool, own: OwnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = leasecap.acquire("p")
    look = Pool.look

    def looked(its: Pool, token: str, **about: Any) -> Answer:
        holder.release()
        return look(its, token, **about)

    monkeypatch.setattr(Pool, "look", looked)
    tokens = block_after_a_look(monkeypatch, own)

    async def acquire() -> leasecap.Lease:
        return await leasecap.acquire_async("p", timeout=20)

    lease = asyncio.run(acquire())
    assert lease.id == tokens[0] and not lease.lost, "nobody has to ask anew for what is held"
    assert [name[21:37] for name in pool.picture().seen.leases] == [lease.id]
    lease.release()


pool_renew = Pool.renew


def push_a_longer_policy(pool: Pool, own: OwnStore) -> None:
    """Another person does, and this process has read of it in another answer."""
    settle(pool, ttl=600)
    [known] = own.pools.values()
    pool_renew(known, [], [])
    assert known.ttl == 600


@pytest.mark.parametrize("is_pushed", [False, True], ids=["by the same policy", "a longer one was pushed since"])
def test_lease_of_which_an_answer_tells_when_it_is_over_is_asked_for_anew(
    pool: Pool, own: OwnStore, monkeypatch: pytest.MonkeyPatch, is_pushed: bool
) -> None:
    """It was returned as one that is held, and its slot was another's."""
    send = Errands.send
    blocked: list[bool] = []

    def sent(errands: Errands, call: Callable[[], Any], then: Callable[[], None] | None = None) -> Errand[Any]:
        errand = send(errands, call, then)
        if errands is own.errands and then is not None and not blocked:
            blocked.append(True)
            until(lambda: errand.done, "it was answered")
            if is_pushed:
                push_a_longer_policy(pool, own)
            place(pool, 2, process=2)
            until(partial(has_slot, pool, 2), "the slot is another's")
        return errand

    monkeypatch.setattr(Errands, "send", sent)

    async def ask() -> None:
        with pytest.raises(leasecap.AcquireTimeout):
            await leasecap.acquire_async("p", timeout=0)

    asyncio.run(ask())
    assert blocked
    assert has_slot(pool, 2)


@pytest.mark.parametrize("reads_late", ["the renewal", "the holder"])
def test_lease_is_renewed_in_the_time_that_its_last_renewal_holds_for(
    pool: Pool, own: OwnStore, monkeypatch: pytest.MonkeyPatch, reads_late: str
) -> None:
    """Not in that of a policy which another answer has told of meanwhile: its slot was another's by then."""
    pushed: list[bool] = []

    def push() -> None:
        if not pushed:
            pushed.append(True)
            push_a_longer_policy(pool, own)

    def renewed(its: Pool, leases: list[str], tickets: list[str]) -> tuple[str, ...]:
        answers = pool_renew(its, leases, tickets)
        if leases:
            push()
        return answers

    def held(*about: Any) -> Kept | None:
        push()
        return found_held(*about)

    if reads_late == "the renewal":
        monkeypatch.setattr(Pool, "renew", renewed)
    else:
        monkeypatch.setattr(tickets, "found_held", held)
    until(lambda: not own.renewals._due, "nothing else is renewed soon")
    lease = leasecap.acquire("p")
    [kept] = own.renewals.all()
    until(lambda: bool(pushed), "another policy holds")
    until(lambda: bool(lease.lost) or time_left(pool, kept.name) > 2 * TTL, "it was renewed")
    assert not lease.lost
    lease.release()


def test_ticket_lasts_no_longer_by_a_policy_that_was_pushed_since(
    pool: Pool, own: OwnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was renewed too late, unless it looked before."""
    holder = leasecap.acquire("p")
    standing, times = RedisTicket._standing, list[float]()

    def stands(waits: RedisTicket, sent: float, found: Answer) -> Standing:
        if found.state != "queued" or times:
            return standing(waits, sent, found)
        push_a_longer_policy(pool, own)
        monkeypatch.setattr(own.renewals, "add", lambda kept: times.append(kept.ttl))  # nor is it renewed yet
        try:
            return standing(waits, sent, found)
        finally:
            ticket = waits._ticket
            assert ticket is not None and times == [600, TTL] and ticket.ttl == TTL
            own.errands.do(holder.release)

    monkeypatch.setattr(RedisTicket, "_standing", stands)
    leasecap.acquire("p", timeout=20).release()
    assert times


def time_left(pool: Pool, name: str) -> float:
    """Seconds for which the store keeps it, once somebody has called: what has run out is gone then."""
    pool_renew(pool, [], [])
    found = pool.picture()
    return found.expiries.get(name, 0.0) - found.seen.now


def has_slot(pool: Pool, number: int) -> bool:
    return pool.look(token(number)).state == "held"
