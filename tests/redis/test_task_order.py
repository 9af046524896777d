"""``order = "task"`` on a server: the policy says it for all machines, and who began earlier goes first."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import run, status, until
from gated import Gated
from provider import Provider
from provider_steps import Latch, reply
from redis_pools import known_pool, place, settle, token
from turns import HOUR, turns

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._config.root import root_path
from leasecap._redis_store.pool import Pool
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer
    from referee import Team

    from leasecap._redis_store.answer import Answer
    from leasecap._redis_store.client import Client

pytestmark = pytest.mark.redis


@pytest.fixture
def by_task(client: Client) -> Pool:
    pool = known_pool(client)
    pool.configure(by_task="1")
    return pool


def ask(pool: Pool, number: int, age: float, *, priority: int = 0, order: int | None = None) -> Answer:
    return place(pool, number, process=number, task_age=age, priority=priority, order=order)


def queue(pool: Pool) -> list[int]:
    return [int(name[21:37], 16) for name in pool.picture().seen.queue]


# -- one pool ------------------------------------------------------------------------------------------------------


def test_place_is_that_of_a_call_made_when_the_task_began(by_task: Pool) -> None:
    ask(by_task, 1, 0.0)
    for number, age in ((2, 10.0), (3, HOUR), (4, 0.0), (5, 60.0)):
        ask(by_task, number, age)
    assert queue(by_task) == [3, 5, 2, 4]
    ask(by_task, 6, 0.0, priority=5)
    assert queue(by_task)[0] == 6


def test_head_is_granted_by_the_server_itself(by_task: Pool) -> None:
    ask(by_task, 1, 0.0)
    ask(by_task, 2, 0.0)
    assert ask(by_task, 3, HOUR).seen is None
    by_task.end(token(1), by_holder=True)
    assert [name[21:37] for name in by_task.picture().seen.granted] == [token(3)]


def test_who_asks_again_keeps_the_place_of_its_task(by_task: Pool) -> None:
    ask(by_task, 1, 0.0)
    first = ask(by_task, 2, HOUR)
    by_task.withdraw(token(2))
    ask(by_task, 3, HOUR / 2)
    assert ask(by_task, 4, 0.0, order=int(first.name[4:20], 16)).position == 1


def test_age_beyond_all_time_is_the_first_place(by_task: Pool) -> None:
    ask(by_task, 1, 0.0)
    ask(by_task, 2, HOUR)
    assert ask(by_task, 3, 1e10).position == 1
    assert queue(by_task) == [3, 2]


def test_without_a_policy_tasks_have_no_age(client: Client) -> None:
    pool = known_pool(client)
    ask(pool, 1, 0.0)
    ask(pool, 2, 0.0)
    assert ask(pool, 3, HOUR).position == 2


# -- machines ------------------------------------------------------------------------------------------------------


@pytest.fixture
def other(server: RedisServer, tmp_path: Path) -> Path:
    """The root of a machine whose file says nothing of the order."""
    root = tmp_path / "other"
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(f'[pools.p]\nstore = "{server.url()}"\n')
    return root


@pytest.fixture
def pool(server: RedisServer, client: Client, team: Team) -> Iterator[Pool]:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\norder = "task"\nadaptive = "off"\n')
    pool = Pool(client, pool_name("p"), time.monotonic)
    settle(pool, ttl=30)
    yield pool


def test_order_that_was_pushed_holds_on_all_machines(pool: Pool, team: Team, other: Path) -> None:
    assert 'order = "task"' in run("policy", "push", "p").stdout
    settle(pool, ttl=30)
    assert turns((10, 0), (HOUR, 0), (-HOUR, 0), (0, 5), roots=(team.root, other)) == [3, 1, 0, 2]


def test_order_that_was_not_pushed_holds_nowhere_and_status_says_so(pool: Pool, team: Team) -> None:
    assert turns((None, 0), (HOUR, 0)) == [0, 1]
    assert "something else of adaptive, order" in run("status").stdout


def test_wait_is_counted_from_the_call_and_not_from_the_task(pool: Pool, team: Team) -> None:
    run("policy", "push", "p")
    settle(pool, ttl=30)
    with leasecap.slot("p"):
        place(pool, 7, process=7, task_age=HOUR)
        [waiter] = status().waiters
        assert waiter.waited is not None and waiter.waited < 60
    pool.end(token(7), by_holder=True)
    assert pool.picture().records == {}


def test_policy_that_is_pushed_back_ends_the_order(pool: Pool, team: Team, server: RedisServer) -> None:
    run("policy", "push", "p")
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    assert 'order = "arrival"' in run("policy", "push", "p").stdout
    settle(pool, ttl=30)
    assert not pool.look(token(1)).by_task
    leasecap.acquire("p").release()
    assert not runtime.by_task(runtime.root(root_path()).config.pool("p"))


def test_function_says_since_when_though_the_file_says_nothing(pool: Pool, team: Team, other: Path) -> None:
    run("policy", "push", "p")
    team.configure((other / "config.toml").read_text())
    asked: list[float] = []

    def since() -> float:
        asked.append(time.time() - HOUR)
        return asked[-1]

    with leasecap.slot("p", task_since=since):
        pass
    assert len(asked) == 1


def test_gate_reads_prompts_though_its_own_file_says_nothing(pool: Pool, team: Team, other: Path) -> None:
    run("policy", "push", "p")
    settle(pool, ttl=30)
    team.configure((other / "config.toml").read_text())
    latch = Latch()
    prompt = {"role": "user", "content": "half"}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]}
    half = [{"messages": [prompt]}, {"messages": [prompt, {"role": "assistant", "content": "so"}, result]}]
    begins = {"messages": [{"role": "user", "content": "begins"}]}
    with Provider() as provider:
        provider.plan(reply(200), (latch, *reply(200)))
        with Gated(provider) as gate, gate.connect() as one, gate.connect() as holder, gate.connect() as other_one:

            def say(client: object, said: object) -> None:
                body = json.dumps(said).encode()
                client.send(gate.request(b"POST", b"/v1/messages", b"Content-Type: application/json", body=body))  # type: ignore[attr-defined]

            say(one, half[0])
            assert one.answer().status == 200
            say(holder, {"messages": [{"role": "user", "content": "holds"}]})
            until(lambda: len(provider.requests) == 2)
            say(other_one, begins)
            until(lambda: status().waiting == 1)
            say(one, half[1])
            until(lambda: status().waiting == 2)
            latch.set()
            assert (one.answer().status, other_one.answer().status) == (200, 200)
        assert [json.loads(bytes(request.body)) for request in provider.requests][2:] == [half[1], begins]
