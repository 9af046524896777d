"""Holding a slot of a server's pool for too long: for how long is everybody's policy, and no machine's own."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator

import pytest
from commands import run
from redis_pools import RECORD, known_pool, place, settle, token
from referee import Team, until

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._liveness.record import decode_record
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.subscription import Subscription

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer

    from leasecap._redis_store.client import Client

pytestmark = pytest.mark.redis


@pytest.fixture
def pool(server: RedisServer, client: Client, team: Team) -> Iterator[Pool]:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    pool = Pool(client, pool_name("p"), time.monotonic)
    settle(pool, ttl=30)
    yield pool


def push(server: RedisServer, pool: Pool, team: Team, keys: str) -> None:
    """Make these keys everybody's, from a machine that has them in its file; this one has none of them."""
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n{keys}')
    assert run("policy", "push", "p").returncode == 0
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    settle(pool, ttl=30)


# -- in the server -------------------------------------------------------------------------------------------------


def held_for_long(client: Client, reclaim: str) -> Pool:
    """A pool of one slot, whose holder's time is over and has given nothing back; another one waits."""
    pool = known_pool(client, ttl=30)
    pool.configure(holding=f'{{"reclaim":"{reclaim}"}}')
    place(pool, 1)
    place(pool, 2, process=2)
    record = decode_record(RECORD)
    assert record is not None
    assert pool.describe(token(1), record._replace(max_hold=3.0, kill_after=0.0))
    return pool


def test_server_gives_away_what_was_held_for_too_long(client: Client) -> None:
    pool = held_for_long(client, "force")
    assert pool.look(token(2)).state == "queued"
    until(lambda: pool.look(token(2)).state == "held", "a second later it is given away")
    [name] = pool.picture().seen.leases
    assert pool.renew([name.replace(token(2), token(1))], []) == ("lost",)
    assert pool.end(token(1), by_holder=True) is False


def test_holder_hears_that_its_slot_was_given_away(client: Client) -> None:
    heard: queue.Queue[bytes | None] = queue.Queue()
    subscription = Subscription(client, f"{1:012x}", heard.put)
    assert subscription.start()
    try:
        assert heard.get(timeout=20) is None  # it has subscribed
        pool = held_for_long(client, "force")
        until(lambda: pool.look(token(2)).state == "held", "a second later it is given away")
        while heard.get(timeout=20) != f"-{token(1)}".encode():
            pass
    finally:
        subscription.stop()


def test_server_gives_nothing_away_where_nobody_has_said_so(client: Client) -> None:
    pool = held_for_long(client, "never")
    time.sleep(4.2)
    assert pool.look(token(2)).state == "queued"
    pool.end(token(1), by_holder=True)
    assert pool.look(token(2)).state == "held"
    pool.end(token(2), by_holder=True)
    pool.configure(holding='{"reclaim":"force"}')
    assert pool.picture().seen.leases == {}


def test_waiter_on_duty_looks_when_a_slot_is_to_be_given_away(client: Client) -> None:
    pool = held_for_long(client, "force")
    found = pool.look(token(2))
    assert found.on_duty
    assert found.changes_in < 4.1


def test_time_of_a_lease_begins_anew(client: Client) -> None:
    pool = held_for_long(client, "force")
    time.sleep(0.5)
    assert pool.begin_anew(token(1), max_hold=None, kill_after=None)
    time.sleep(0.7)
    assert pool.look(token(2)).state == "queued"
    assert not pool.begin_anew(token(2), max_hold=None)  # it holds nothing
    assert not pool.begin_anew(token(3), max_hold=None)


# -- for holders ---------------------------------------------------------------------------------------------------


def test_policy_bounds_how_long_each_machine_holds(server: RedisServer, pool: Pool, team: Team) -> None:
    push(server, pool, team, "max_hold = 0.3\n")
    found = run("run", "-p", "p", "--max-hold", "10m", "--kill-after", "5", "--", "sleep", "60")
    assert (found.returncode, "max_hold is 0.3s" in found.stderr) == (124, True), found.stderr
    with leasecap.slot("p", max_hold=None) as lease:
        assert lease.expired.wait(10)
        until(lambda: team.pool().holders[0].over_max_hold is not None, "it is shown")
    with leasecap.slot("p", max_hold=0.1) as lease:
        assert lease.hold is not None
        assert lease.hold.max_hold == 0.1  # a call can shorten it


def test_max_hold_of_a_file_is_named_and_not_applied(server: RedisServer, pool: Pool, team: Team) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nmax_hold = 0.1\nreclaim = "force"\n')
    with leasecap.slot("p") as lease:
        assert lease.hold is None
        assert "something else of max_hold, reclaim" in run("status").stdout
    assert "max_hold = none" in run("policy", "show", "p").stdout
    with leasecap.slot("p", max_hold=0.1) as lease:
        assert lease.hold is not None


def test_holder_gives_nothing_away_where_that_was_taken_out_of_the_policy_meanwhile(
    server: RedisServer, pool: Pool, team: Team
) -> None:
    """What the last answer said was up to a beat old, and older where the server had been away."""
    push(server, pool, team, 'max_hold = 0.1\nreclaim = "force"\n')
    with leasecap.slot("p", kill_after=0.1) as lease:
        pool.configure(holding="")
        asked: list[bool | None] = []
        give_away = lease._held.give_away

        def gives_away() -> bool | None:
            asked.append(give_away())
            return asked[-1]

        lease._held.give_away = gives_away  # type: ignore[method-assign]
        until(lambda: bool(asked), "its time is over")
        assert asked == [False] and not lease.lost
        assert [name[21:37] for name in pool.picture().seen.leases] == [lease.id]


def test_slot_for_a_pid_is_given_away_when_its_time_is_over(server: RedisServer, pool: Pool, team: Team) -> None:
    push(server, pool, team, 'max_hold = 0.2\nreclaim = "force"\n')
    agent = team.start("say('READY'); hear()")
    agent.expect("READY")
    run("acquire", "-p", "p", "--kill-after", "0", "--for-pid", str(agent.pid))
    with leasecap.slot("p", timeout=20):
        pass
    assert team.pool().holders == ()
    agent.tell()
    agent.done()


def test_time_of_an_agent_begins_anew_with_each_of_its_hooks(server: RedisServer, pool: Pool, team: Team) -> None:
    agent = team.start("say('READY'); hear()")
    agent.expect("READY")
    command = ("acquire", "-p", "p", "--for-pid", str(agent.pid))
    lease = run(*command, "--max-hold", "0.2").stdout.strip()
    until(lambda: team.pool().holders[0].over_max_hold is not None, "its time is over")
    assert run(*command, "--max-hold", "10m").stdout.strip() == lease
    [holder] = team.pool().holders
    assert (holder.max_hold, holder.over_max_hold) == (600, None)
    push(server, pool, team, "max_hold = 300\n")
    assert run(*command).stdout.strip() == lease
    assert team.pool().holders[0].max_hold == 300
    agent.tell()
    agent.done()
