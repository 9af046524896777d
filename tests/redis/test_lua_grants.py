"""Lua grants by itself in a plain pool. What it does there is held to the decisions, state by state."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import redis
from redis_pools import known_pool, token

from leasecap._decisions.entry import Entry, Group, make_entry
from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN, decide
from leasecap._decisions.snapshot import Snapshot, first_processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer

    from leasecap._redis_store.client import Client

pytestmark = pytest.mark.redis

LONG_AGO, JUST_NOW = -ACKNOWLEDGE_WITHIN * 2, 0.0


def states() -> Iterator[tuple[int | None, tuple[Entry, ...], tuple[Entry, ...], dict[str, float], tuple[Entry, ...]]]:
    """All small plain states: the limit, tickets, what was passed over, what was granted when, and leases."""
    numbers = itertools.count(1)

    def entry(process: int, priority: int = 0, limit: int | None = None) -> Entry:
        number = next(numbers)
        return make_entry(token=token(number), process=f"{process:012x}", order=number, priority=priority, limit=limit)

    queues: list[list[tuple[int, int, int | None]]] = [[]]
    for length in (1, 2, 3, 4):
        queues += [[(process, 0, None) for process in line] for line in itertools.product((1, 2, 3), repeat=length)]
    queues += [
        [(1, 0, None), (2, 5, None), (3, -5, None)],
        [(1, 0, 1), (2, 0, None)],
        [(1, 0, 2), (2, 0, 3), (3, 9, 1)],
    ]
    for limit, queue, leases, granted, passed in itertools.product(
        (None, 1, 2, 3), queues, (0, 1, 3), ((), (JUST_NOW,), (LONG_AGO,), (JUST_NOW, LONG_AGO)), ((), (2,))
    ):
        if len(queue) == 4 and (passed or leases == 3):
            continue  # nothing new shows there
        yield (
            limit,
            tuple(entry(*ticket) for ticket in queue),
            tuple(entry(8, limit=declared) for declared in passed),
            {entry(9).name: since for since in granted},
            tuple(entry(7) for _ in range(leases)),
        )


def test_lua_does_in_each_plain_state_what_the_decisions_say(server: RedisServer, client: Client) -> None:
    pool = known_pool(client)
    keys = dict(
        zip(
            ("pool", "queue", "passed", "granted", "leases", "expiries", "_", "names", "declared"),
            pool._keys,
            strict=False,
        )
    )
    with redis.Redis(port=server.port, decode_responses=True) as admin, admin.pubsub() as messages:
        messages.psubscribe("leasecap:0:*")
        messages.get_message(timeout=5)
        count = 0
        for limit, queue, passed, granted, leases in states():
            count += 1
            seconds, micros = admin.time()
            now = seconds + micros / 1e6
            snapshot = Snapshot(
                limit,
                queue=Group.of(queue),
                parked=Group.of(passed),
                granted=Group(tuple(granted)),
                leases=Group.of(leases),
                granted_since={name: now + since for name, since in granted.items()},
            )
            plan = decide(snapshot, now)
            put(admin, keys, limit, queue, passed, snapshot, leases, now)

            pool.renew((), ())

            admin.publish("leasecap:0:end", "")
            found = set()
            while (message := messages.get_message(timeout=10)) and not message["channel"].endswith(":end"):
                found.add((message["channel"].rpartition(":")[2], message["data"]))
            wanted = {(entry.process, entry.token) for entry in (*plan.grant, *plan.take_back)}
            assert found == wanted | {(entry.process, "!") for entry in plan.first}, snapshot
            after = {place: admin.zrange(keys[place], 0, -1) for place in ("queue", "passed", "granted", "leases")}
            gone = {entry.name for entry in plan.grant}
            back = {entry.name for entry in plan.take_back}
            assert after["queue"] == sorted(name for name in snapshot.queue.names if name not in gone), snapshot
            assert after["passed"] == sorted({*snapshot.parked.names} | back), snapshot
            assert set(after["granted"]) == ({*snapshot.granted.names} - back) | gone, snapshot
            assert set(after["leases"]) == {*snapshot.leases.names}, snapshot
            assert plan.revoke == () and not plan.ask and not plan.spent and plan.high is None and not plan.pressed
        assert count > 2000


def put(
    admin: redis.Redis,
    keys: dict[str, str],
    limit: int | None,
    queue: tuple[Entry, ...],
    passed: tuple[Entry, ...],
    snapshot: Snapshot,
    leases: tuple[Entry, ...],
    now: float,
) -> None:
    """Make the pool this state."""
    with admin.pipeline(transaction=True) as line:
        line.delete(*(keys[key] for key in keys if key not in ("pool", "_")))
        line.hdel(keys["pool"], "limit")
        if limit is not None:
            line.hset(keys["pool"], "limit", limit)
        line.hset(keys["pool"], "first", " ".join(first_processes(sorted(snapshot.queue.names))))
        for entry in (*queue, *passed):
            line.zadd(keys["queue" if entry in queue else "passed"], {entry.name: 0})
        for name, since in snapshot.granted_since.items():
            line.zadd(keys["granted"], {name: int(since * 1000)})
        for entry in leases:
            line.zadd(keys["leases"], {entry.name: int(now * 1000)})
        for entry in (*queue, *passed, *snapshot.granted, *leases):
            line.zadd(keys["expiries"], {entry.name: int((now + 60) * 1000)})
            line.hset(keys["names"], entry.token, entry.name)
            if entry.limit is not None:
                line.zadd(keys["declared"], {entry.name: entry.limit})
        line.execute()
