"""The provider's own count on a server: one machine at a time asks, in its own way, and all go by the answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
import redis
from commands import run, status, until
from helper_process import Helper, helper
from redis_pools import known_pool, place, settle
from redis_pools import token as token_of
from usage_server import UsageServer, says, serving, silence

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._feedback.adaptive import answered, asking
from leasecap._redis_store.deciding import state_of
from leasecap._redis_store.pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer
    from referee import Team

    from leasecap._redis_store.client import Client

pytestmark = pytest.mark.redis

EVER = 3600

CALL = """
import os, sys
os.environ["LEASECAP_HOME"] = sys.argv[1]
import leasecap
print("ready")
input()
with leasecap.acquire("p", timeout=60):
    print("held")
    input()
print("released")
"""


class Machines:
    """Two machines that share the pool "p". The one is this process's; the policy is what its file says.

    :ivar roots: of the one, and of the other.
    """

    def __init__(self, team: Team, other: Path, server: RedisServer, pool: Pool) -> None:
        self.roots = (team.root, other)
        self._team = team
        self._store = f'[pools.p]\nstore = "{server.url()}"\n'
        self.pool = pool

    def configure(self, keys: str, others: str = "", *, limit: int = 1) -> None:
        """Push ``keys``; the other machine's file has ``others``."""
        self._team.configure(self._store + keys)
        (self.roots[1] / "config.toml").write_text(self._store + others)
        done = run("policy", "push", "p")
        assert done.returncode == 0, done.stderr
        settle(self.pool, limit=limit, ttl=30)

    def say(self, keys: str) -> None:
        """What this machine's file says from now on, pushed or not."""
        self._team.configure(self._store + keys)


@pytest.fixture
def machines(server: RedisServer, client: Client, team: Team, tmp_path: Path) -> Machines:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    return Machines(team, other, server, Pool(client, pool_name("p"), time.monotonic))


@pytest.fixture
def calls() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def caller(calls: ExitStack, root: Path) -> Helper:
    found = calls.enter_context(helper(CALL, root))
    assert found.hear() == "ready"
    return found


def counts(number: object, **more: object) -> bytes:
    return says({"usage": {"sessions": number, **more}})


def asked_at(server: UsageServer, *more: str) -> str:
    keys = (f'usage_url = "http://127.0.0.1:{server.port}/v1/usage"', 'usage_field = "usage.sessions"', *more)
    return "".join(f"{key}\n" for key in keys)


def error() -> str:
    feedback = status().feedback
    return "" if feedback is None else feedback.usage_error or ""


# -- what the answer does ------------------------------------------------------------------------------------------


def test_full_provider_keeps_the_last_slot_on_all_machines(machines: Machines, calls: ExitStack) -> None:
    with serving(counts(1)) as provider:
        keys = asked_at(provider, "usage_interval = 0.2")
        machines.configure(keys, keys)
        there = caller(calls, machines.roots[1])
        there.say()
        until(lambda: status().waiting == 1)
        with pytest.raises(leasecap.AcquireTimeout):
            leasecap.acquire("p", timeout=0.7)
        until(lambda: (shown := status().feedback) is not None and shown.usage == 1)
        provider.answer = counts(0)
        assert there.hear() == "held"


def test_released_slots_are_each_asked_for_at_once(machines: Machines, calls: ExitStack) -> None:
    with serving(counts(0)) as provider:
        # An interval so long that it can't be what lets anybody in.
        keys = asked_at(provider, f"usage_interval = {EVER}", "usage_timeout = 60")
        machines.configure(keys, keys, limit=2)
        first = leasecap.acquire("p", borrow=False)
        second = leasecap.acquire("p", timeout=60, borrow=False)
        waiters = [caller(calls, root) for root in machines.roots]
        for number, waiter in enumerate(waiters, 1):
            waiter.say()
            until(lambda number=number: status().waiting == number)  # type: ignore[misc]
        asked = len(provider.heads)
        began = time.monotonic()
        first.release()
        assert waiters[0].hear() == "held"
        second.release()
        assert waiters[1].hear() == "held"
        assert len(provider.heads) == asked + 2  # one grant for each answer
        assert time.monotonic() - began < 10


def test_machines_ask_one_question_at_a_time_and_one_per_interval(machines: Machines, calls: ExitStack) -> None:
    moments: list[tuple[float, float]] = []

    def slow(connection: object) -> None:
        began = time.monotonic()
        time.sleep(0.3)
        moments.append((began, time.monotonic()))
        connection.sendall(counts(1))  # type: ignore[attr-defined]

    with serving(slow) as provider:
        keys = asked_at(provider, "usage_interval = 2")
        machines.configure(keys, keys)
        for root in (*machines.roots, *machines.roots):
            caller(calls, root).say()
        until(lambda: len(moments) >= 3)
        assert status().in_flight == 0
    moments.sort()
    assert all(later[0] >= earlier[1] for earlier, later in pairwise(moments))
    assert moments[2][0] - moments[0][0] > 2, "two intervals, less what a busy machine took to see the first question"


def test_providers_own_limit_holds_below_the_pools(machines: Machines) -> None:
    with serving(counts(0, limit=2)) as provider:
        machines.configure(asked_at(provider, 'usage_limit_field = "usage.limit"', "usage_interval = 0.1"), limit=5)
        leases = [leasecap.acquire("p", timeout=20, borrow=False) for _ in range(2)]
        assert leasecap.try_acquire("p", borrow=False) is None
        shown = status()
        assert shown.limit == 2 and shown.feedback is not None and shown.feedback.usage_limit == 2
        provider.answer = counts(0, limit=3)
        leases.append(leasecap.acquire("p", timeout=20, borrow=False))
        for lease in leases:
            lease.release()


# -- no answer ------------------------------------------------------------------------------------------------------


def test_answer_slower_than_the_interval_lets_who_waits_in(machines: Machines) -> None:
    machines.configure("usage_command = ['sh', '-c', 'sleep 0.4; echo 0']\nusage_interval = 0.1\n")
    leasecap.acquire("p", timeout=20).release()


def test_silent_provider_keeps_nobody_for_longer_than_its_time(machines: Machines) -> None:
    with serving(silence) as provider:
        machines.configure(asked_at(provider, "usage_timeout = 0.4", "usage_interval = 0.1"))
        for _ in range(2):
            leasecap.acquire("p", timeout=20).release()
        lease = leasecap.try_acquire("p")
        assert lease is not None
        lease.release()
        until(lambda: "no answer within" in error())


def test_event_loop_goes_on_while_the_provider_is_silent(machines: Machines) -> None:
    async def main() -> int:
        turns, over = 0, asyncio.Event()

        async def tick() -> None:
            nonlocal turns
            while not over.is_set():
                turns += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        async with leasecap.slot("p", timeout=20):
            over.set()
        await ticking
        return turns

    with serving(silence) as provider:
        machines.configure(asked_at(provider, "usage_timeout = 1"))
        before = time.monotonic()
        turns = asyncio.run(main())
        assert time.monotonic() - before > 0.8 and turns > 3


def test_machine_that_cannot_ask_gives_no_information_and_says_so(machines: Machines, calls: ExitStack) -> None:
    with serving(counts(1)) as provider:
        machines.configure(asked_at(provider, "usage_interval = 0.1"))
        there = caller(calls, machines.roots[1])
        there.say()
        assert there.hear() == "held"
        assert "neither usage_url nor usage_command" in error() and not provider.heads


def test_question_of_who_was_killed_meanwhile_is_asked_anew(machines: Machines) -> None:
    with serving(counts(1)) as provider:
        machines.configure(asked_at(provider, "usage_timeout = 20"))
        assert machines.pool.change_feedback(lambda state, now: asking(state, now - 60))
        leasecap.acquire("p", timeout=20).release()  # until a number comes the other rules decide
        until(lambda: (shown := status().feedback) is not None and shown.usage == 1)
        with pytest.raises(leasecap.AcquireTimeout):
            leasecap.acquire("p", timeout=0.5)


# -- how it is asked ------------------------------------------------------------------------------------------------


def test_function_of_one_process_is_asked_though_the_policy_asks_nobody(machines: Machines) -> None:
    machines.configure("")
    found = [1, 0]
    leasecap.set_usage("p", lambda: found.pop(0) if len(found) > 1 else found[0])
    try:
        leasecap.acquire("p", timeout=20).release()
        assert found == [0]
    finally:
        leasecap.set_usage("p", None)
    leasecap.acquire("p", timeout=0).release()


def test_what_a_machine_runs_stands_in_its_own_file_alone(
    machines: Machines, server: RedisServer, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    machines.configure("usage_command = ['echo', '0']\n")
    machines.say("")
    rules = json.loads(server.command("HGET", machines.pool._keys[0], "rules"))
    assert not [key for key in rules if key in ("usage_command", "usage_url", "usage_key_env", "usage_key_header")]
    rules |= {"usage_command": ["sh", "-c", f"touch {ran}"], "usage_url": "http://127.0.0.1:1/", "usage_field": "a"}
    server.command("HSET", machines.pool._keys[0], "rules", json.dumps(rules))
    leasecap.acquire("p", timeout=20).release()
    assert not ran.exists() and "neither usage_url" in error()


def test_policy_shows_whom_the_machine_asks_and_no_secret(machines: Machines) -> None:
    url = "https://api.example.com/v1/usage?token=hidden"
    machines.configure(f'usage_url = "{url}"\nusage_field = "count"\nusage_interval = 2\n')
    shown = run("policy", "show", "p").stdout
    assert 'usage_source = "https://api.example.com/v1/usage"' in shown and "usage_interval = 2" in shown
    assert "hidden" not in shown + repr(machines.pool.picture())
    machines.say("usage_command = ['my-usage', 'secret']\n")
    assert "something else of usage_interval" not in run("status").stdout
    assert "something else of usage_command" in run("status").stdout
    machines.say("")
    assert "how to ask the provider for its count: set usage_url" in run("status").stdout


def test_usage_that_was_not_pushed_keeps_nobody(machines: Machines) -> None:
    machines.configure("")
    with serving(counts(1)) as provider:
        machines.say(asked_at(provider))
        leasecap.acquire("p", timeout=0).release()
        assert provider.heads == []


# -- one pool -------------------------------------------------------------------------------------------------------


def test_releaser_leaves_the_question_to_who_waits(server: RedisServer, client: Client) -> None:
    pool = known_pool(client, ttl=30)
    pool.configure(rules=json.dumps({"usage_source": "x", "usage_interval": EVER}), decider="python")
    assert pool.change_feedback(lambda state, now: answered(asking(state, now), now, now, 0, None))
    assert place(pool, 1).state == "held"
    waits = place(pool, 2, process=2)
    assert (waits.state, waits.changes_in > 5) == ("queued", True)
    with redis.Redis(port=server.port, decode_responses=True) as admin, admin.pubsub() as messages:
        messages.psubscribe("leasecap:0:*")
        messages.get_message(timeout=5)
        pool.end(token_of(1), by_holder=True)
        told = messages.get_message(timeout=5)
    assert told is not None and (told["channel"][-12:], told["data"]) == (f"{2:012x}", token_of(2))
    usage = state_of(pool.picture().seen).usage
    assert usage is not None and usage.released == 1
    asked: list[int] = []
    assert pool.look(token_of(2), ask=lambda: asked.append(1)).state == "queued"
    assert asked == [1]


def test_try_once_says_that_only_the_count_is_missing(client: Client) -> None:
    pool = known_pool(client, ttl=30)
    pool.configure(rules=json.dumps({"usage_source": "x"}), decider="python")
    found = place(pool, 1, may_queue=False)
    assert (found.state, found.unanswered) == ("refused", True)
    assert pool.picture().seen.queue == ()
