"""Who looks for all: a ticket of each of the first two processes, however many tickets one of them has."""

from __future__ import annotations

import asyncio

import pytest
from redis_pools import known_pool, place, token
from referee import DEADLINE

import leasecap
from leasecap._config.store_address import parse_address
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer
    from referee import Team

    from leasecap._redis_store.client import Client
    from leasecap._redis_store.pool import Pool

pytestmark = pytest.mark.redis

MANY = 300
"""More than are looked through for the first two at each call."""

FIRST, SECOND, THIRD, LATE = 1, 2, 3, 4
"""Processes."""


@pytest.fixture
def pool(client: Client) -> Pool:
    """A pool of one slot, with a long queue of one process."""
    pool = known_pool(client, ttl=600)
    place(pool, 0, process=LATE)
    for number in range(1, MANY + 1):
        place(pool, number, process=FIRST)
    return pool


def is_on_duty(pool: Pool, number: int) -> bool:
    return pool.look(token(number)).on_duty


def test_who_waits_behind_very_many_of_one_process_looks_for_all(pool: Pool) -> None:
    behind = MANY + 1, MANY + 2, MANY + 3
    for number, process in zip(behind, (SECOND, SECOND, THIRD), strict=True):
        place(pool, number, process=process)
    assert [is_on_duty(pool, number) for number in (1, *behind)] == [True, True, False, False]
    pool.withdraw(token(behind[0]))
    assert [is_on_duty(pool, number) for number in behind[1:]] == [True, False]
    pool.withdraw(token(behind[1]))
    assert is_on_duty(pool, behind[2])
    place(pool, MANY + 4, process=LATE, priority=1)
    assert [is_on_duty(pool, number) for number in (MANY + 4, 1, behind[2])] == [True, True, False]


def test_one_process_alone_is_looked_through_once_a_second(pool: Pool, server: RedisServer) -> None:
    def ranges(alone: int) -> int:
        """How many ranges a look asks for. Until ``alone`` (ms) there is known to be no other process."""
        server.command("HSET", pool._keys[0], "alone", alone)
        before = calls(server)
        assert not is_on_duty(pool, 2)
        return calls(server) - before

    assert ranges(2**53 - 1) < ranges(0)
    assert int(server.command("HGET", pool._keys[0], "alone")) > 0


def calls(server: RedisServer) -> int:
    """How many ranges were asked for since it was started."""
    return int(server.info("commandstats")["cmdstat_zrange"].partition("calls=")[2].partition(",")[0])


def test_task_that_is_cancelled_leaves_its_duty_to_the_next(server: RedisServer, client: Client, team: Team) -> None:
    """It was not forgotten: the next one looked ten seconds later, and a thread went on to look for the dead."""
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    place(known_pool(client, ttl=600, name="p"), 0, process=LATE)
    own = runtime.servers().at(parse_address(server.url()))

    def on_duty() -> set[str]:
        return {token for lookout in own._lookouts.values() for token in lookout._on_duty}

    async def main() -> None:
        async with asyncio.timeout(DEADLINE):
            tasks = []
            for number in (1, 2):
                tasks.append(asyncio.create_task(leasecap.acquire_async("p")))
                while not (len(own._waiting) == number and on_duty()):
                    await asyncio.sleep(0.01)
            (first,) = on_duty()
            tasks[0].cancel()
            while on_duty() & {first} or not on_duty():
                await asyncio.sleep(0.01)
            assert set(own._waiting) == on_duty()
            tasks[1].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not own._waiting and not on_duty()

    asyncio.run(main())
