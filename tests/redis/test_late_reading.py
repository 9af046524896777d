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
from leasecap._redis_store.errands import Errands
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


def test_lease_of_which_an_answer_tells_when_it_is_over_is_asked_for_anew(
    pool: Pool, own: OwnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slot is another's by then."""
    send = Errands.send
    blocked: list[bool] = []

    def sent(errands: Errands, call: Callable[[], Any], then: Callable[[], None] | None = None) -> Errand[Any]:
        errand = send(errands, call, then)
        if errands is own.errands and then is not None and not blocked:
            blocked.append(True)
            until(lambda: errand.done, "it was answered")
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


def has_slot(pool: Pool, number: int) -> bool:
    return pool.look(token(number)).state == "held"
