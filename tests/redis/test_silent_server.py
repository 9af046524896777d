"""Calls that wait while their server doesn't answer: an event loop goes on, and no call takes longer than its time."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis_pools import place, settle
from redis_pools import token as token_of
from referee import until

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._config.store_address import parse_address
from leasecap._errors import Unreachable
from leasecap._redis_store import open_pool
from leasecap._redis_store.pool import Pool
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer
    from referee import Team

    from leasecap._redis_store.client import Client

pytestmark = pytest.mark.redis

LATE = 8.0
"""Seconds that count as blocked: a call waits twenty for an answer here (`conftest.patient`)."""


@pytest.fixture
def pool(server: RedisServer, client: Client, team: Team) -> Iterator[Pool]:
    """The pool "p" of one slot, which nobody gives back."""
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    pool = Pool(client, pool_name("p"), time.monotonic)
    settle(pool, ttl=600)
    place(pool, 1)
    yield pool
    server.thaw()


async def longest_pause(until: asyncio.Event) -> float:
    """For how long the loop did nothing, at most."""
    longest, last = 0.0, time.monotonic()
    while not until.is_set():
        await asyncio.sleep(0.01)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    return longest


def test_event_loop_goes_on_while_on_wait_is_told_by_a_server_that_is_silent(pool: Pool, server: RedisServer) -> None:
    told: list[leasecap.Waiting] = []

    def on_wait(waiting: leasecap.Waiting) -> None:
        told.append(waiting)
        server.freeze()

    async def main() -> float:
        over = asyncio.Event()
        pause = asyncio.create_task(longest_pause(over))
        with pytest.raises(leasecap.StoreError, match="didn't answer in time"):
            async with leasecap.slot("p", timeout=5, on_wait=on_wait):
                pass
        over.set()
        return await pause

    began = time.monotonic()
    assert asyncio.run(main()) < LATE
    assert time.monotonic() - began < 5 + LATE
    assert told[0].notice is None and told[1].notice is not None and "didn't answer in time" in told[1].notice


def test_event_loop_goes_on_while_a_report_waits_for_a_server_that_is_silent(pool: Pool, server: RedisServer) -> None:
    settle(pool, limit=2, ttl=600)

    async def main() -> float:
        async with leasecap.slot("p", label="reporter"):
            server.freeze()
            began = time.monotonic()
            leasecap.report("p", status=429)
            took = time.monotonic() - began
            server.thaw()
        return took

    assert asyncio.run(main()) < LATE

    def is_noted() -> bool:
        feedback = leasecap.status("p").pools[0].feedback
        who = f"a 429 reported by pid {os.getpid()} (reporter)"
        return feedback is not None and any(who in line for line in feedback.lines)

    until(is_noted, "the report is noted, with who reports it")


def test_task_waits_no_longer_than_its_time_for_a_server_that_never_answers(pool: Pool, server: RedisServer) -> None:
    server.freeze()

    async def main() -> None:
        with pytest.raises(leasecap.StoreError, match="didn't answer in time"):
            await leasecap.acquire_async("p", timeout=0.5)

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < LATE


def test_calls_that_were_given_up_are_not_made_once_the_server_is_back(
    pool: Pool, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They piled up: after an outage a server had to place and to end whatever was asked for in it."""
    place, end = Pool.place, Pool.end
    placed: list[str] = []
    ended: list[str] = []

    def note_place(self: Pool, **about: Any) -> Any:
        placed.append(about["token"])
        return place(self, **about)

    def note_end(self: Pool, token: str, **about: Any) -> bool:
        if self.path == pool.path:  # an earlier test's may be tried again and again, on a server that is gone
            ended.append(token)
        return end(self, token, **about)

    monkeypatch.setattr(Pool, "place", note_place)
    monkeypatch.setattr(Pool, "end", note_end)
    server.freeze()

    async def main() -> None:
        calls = [asyncio.create_task(leasecap.acquire_async("p", timeout=0.5)) for _ in range(40)]
        cancelled = [asyncio.create_task(leasecap.acquire_async("p")) for _ in range(40)]
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, leasecap.StoreError)
        for each in cancelled:
            each.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)

    asyncio.run(main())
    server.thaw()
    errands = runtime.servers().at(parse_address(server.url())).errands
    until(lambda: not errands._open, "all is done")
    assert len(placed) <= len(errands._threads) + 1 and set(ended) <= set(placed)
    assert not pool.picture().seen.queue


def test_call_that_was_kept_waiting_has_no_slot_of_a_pool_that_has_moved_meanwhile(
    pool: Pool, server: RedisServer, team: Team
) -> None:
    """It was let in before the server fell silent, and nobody could see that it waited."""
    pool.end(token_of(1), by_holder=True)
    server.freeze()
    waiter = team.start(
        """
say("ASKS")
try:
    leasecap.acquire("p", timeout=100, on_wait=lambda waiting: say("WAITS"))
except leasecap.ConfigError as error:
    say("REFUSED", str(error).replace(chr(10), " "))
hear()
"""
    )
    waiter.expect("ASKS")
    for _ in range(3):  # seconds: then what it saw at its begin counts no more
        waiter.expect("WAITS")
    team.configure('[pools.p]\nstore = "files"\nlimit = 1\n')
    with leasecap.acquire("p", timeout=60):
        server.thaw()
        while not (said := waiter.line()).startswith("REFUSED"):
            assert said.startswith("WAITS")
        assert f"in use by pid {os.getpid()}" in said
    until(lambda: not pool.picture().seen.queue and not pool.picture().seen.leases, "it is given back")


def test_server_that_answers_again_is_called_silent_no_more(pool: Pool, server: RedisServer) -> None:
    server.freeze()

    async def main() -> None:
        with pytest.raises(leasecap.StoreError):
            await leasecap.acquire_async("p", timeout=0.5)
        server.thaw()
        with pytest.raises(leasecap.AcquireTimeout) as timed_out:
            await leasecap.acquire_async("p", timeout=0.5)
        assert "answer" not in str(timed_out.value) and timed_out.value.holders

    asyncio.run(main())
    pool.end(token_of(1), by_holder=True)


def test_server_that_is_slow_gives_the_slot_after_all(
    pool: Pool, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_pool, "ANSWERS_WITHIN", 15.0)
    pool.end(token_of(1), by_holder=True)
    server.freeze()

    async def main() -> None:
        call = asyncio.create_task(leasecap.acquire_async("p", timeout=0.01))
        await asyncio.sleep(0.2)
        server.thaw()
        (await call).release()

    asyncio.run(main())


def test_call_whose_end_was_lost_is_ended_all_the_same(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    end: Any = Pool.end
    ended: list[str] = []  # also by calls of tests before, whose servers went away: they try on for minutes

    def lost(self: Pool, token: str, **about: Any) -> bool:
        ended.append(token)
        if ended.count(token) == 1:
            raise Unreachable("lost", path="", remedy="")
        return bool(end(self, token, **about))

    monkeypatch.setattr(Pool, "end", lost)

    async def main() -> str:
        call = asyncio.create_task(leasecap.acquire_async("p"))
        while not (queue := pool.picture().seen.queue):
            await asyncio.sleep(0.01)
        call.cancel()
        return queue[0][21:37]

    token = asyncio.run(main())
    until(lambda: not pool.picture().seen.queue, "it left the queue")
    assert ended.count(token) == 2
