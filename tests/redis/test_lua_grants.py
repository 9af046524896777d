"""Lua grants by itself in a plain pool. What it does there is held to the decisions, state by state."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import redis
from redis_pools import RECORD, known_pool, token

from leasecap._decisions.entry import Entry, Group, make_entry, process_of
from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN, decide
from leasecap._decisions.snapshot import Snapshot, first_processes
from leasecap._redis_store.keys import PARTS
from leasecap._redis_store.lua import tickets
from leasecap._redis_store.lua.changes import CHANGES
from leasecap._redis_store.lua.opening import OPENING
from leasecap._redis_store.lua.state import script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer

    from leasecap._redis_store.client import Client
    from leasecap._redis_store.script import Word

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
    # Process 9 may be late to take a grant up, and 6 was granted something just now.
    queues += [[(process, 0, None) for process in line] for line in itertools.product((1, 6, 9), repeat=3)]
    queues += [
        [(1, 0, None), (2, 5, None), (3, -5, None)],
        [(1, 0, 1), (2, 0, None)],
        [(1, 0, 2), (2, 0, 3), (3, 9, 1)],
        [(9, 5, 1), (1, 0, None), (2, 0, None)],
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
            {entry(9 if since == LONG_AGO else 6).name: since for since in granted},
            tuple(entry(7) for _ in range(leases)),
        )


@pytest.mark.timeout(400)
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
            now = FROZEN / 1000  # or a server that stands still in between makes late what isn't
            snapshot = Snapshot(
                limit,
                queue=Group.of(queue),
                parked=Group.of(passed),
                granted=Group(tuple(granted)),
                leases=Group.of(leases),
                granted_since={name: now + since for name, since in granted.items()},
                away=frozenset(process_of(name) for name, since in granted.items() if since == LONG_AGO),
            )
            plan = decide(snapshot, now)
            first = first_processes(sorted(snapshot.queue.names), () if plan.grant else snapshot.away)
            put(admin, keys, limit, queue, passed, snapshot, leases, now, first)

            pool.renew((), ())

            admin.publish("leasecap:0:end", "")
            found = set()
            while (message := messages.get_message(timeout=10)) and not message["channel"].endswith(":end"):
                found.add((message["channel"].rpartition(":")[2], message["data"]))
            back = {name for name in (*snapshot.queue.names, *granted) if process_of(name) in snapshot.away}
            assert back >= {entry.name for entry in plan.take_back}
            wanted = {(entry.process, f"+{entry.token} {FROZEN:.0f}") for entry in plan.grant}
            wanted |= {(process_of(name), name[21:37] if len(back) == 1 else "*") for name in back}
            assert found == wanted | {(entry.process, "!") for entry in plan.first}, snapshot
            after = {place: admin.zrange(keys[place], 0, -1) for place in ("queue", "passed", "granted", "leases")}
            gone = {entry.name for entry in plan.grant}
            assert after["queue"] == sorted({*snapshot.queue.names} - gone - back), snapshot
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
    first: tuple[str, ...],
) -> None:
    """Make the pool this state."""
    with admin.pipeline(transaction=True) as line:
        line.delete(*(keys[key] for key in keys if key not in ("pool", "_")))
        line.hdel(keys["pool"], "limit", "offset")
        line.hset(keys["pool"], "clock", int(FROZEN))
        if limit is not None:
            line.hset(keys["pool"], "limit", limit)
        line.hset(keys["pool"], "first", " ".join(first))
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


LONG_WAY = script("place", OPENING, tickets._PLACE, CHANGES, tickets._QUEUE)
FROZEN = 2e12
"""Milliseconds. The pool's clock has been there already, so it stands still."""

BESIDE = (
    "nothing",
    "passed",
    "queued",
    "granted",
    "late",
    "nested",
    "cooling",
    "feedback",
    "expired",
    "over",
    "closed",
    "decider",
)


@pytest.mark.parametrize("software", ["redis"], indirect=True)
@pytest.mark.parametrize("beside", BESIDE)
def test_short_cut_to_a_free_slot_comes_to_what_the_long_way_does(
    server: RedisServer, client: Client, beside: str
) -> None:
    pool = known_pool(client)
    assert client.server is not None
    keys = dict(zip(PARTS, pool._keys, strict=True))
    with redis.Redis(port=server.port, decode_responses=True) as admin:
        for limit, held, declared, may_queue in itertools.product((None, 1, 2), (0, 1, 2), (0, 1, 3), (0, 1)):
            found = []
            for way in (tickets.PLACE, LONG_WAY):
                admin.delete(*keys.values())
                known = {"format": 1, "run": client.server.run_id, "clock": int(FROZEN), "version": 7, "decided": 7}
                if limit is not None:
                    known["limit"] = limit
                if beside == "feedback":
                    known["feedback"] = "{}"
                if beside == "decider":
                    known["decider"] = "python"
                if beside == "over":
                    known |= {"timed": "1", "holding": '{"reclaim": "force"}'}
                if beside == "closed":
                    known["closed"] = int(FROZEN) + 1
                admin.hset(keys["pool"], mapping=known)
                for number in range(1, held + 1):
                    stand(admin, keys, "leases", number, FROZEN)
                if beside in ("passed", "queued"):
                    stand(admin, keys, {"passed": "passed", "queued": "queue"}[beside], 10, 0)
                if beside in ("granted", "late"):
                    stand(admin, keys, "granted", 10, FROZEN - (3000 if beside == "late" else 0))
                if beside == "nested" and held:
                    stand(admin, keys, "leases", 10, FROZEN, ancestors=(token(1),))
                if beside == "cooling":
                    admin.zadd(keys["cooling"], {entry_of(10).name: FROZEN + 1})
                if beside == "expired":
                    stand(admin, keys, "leases", 10, FROZEN, expires=FROZEN)
                if beside == "over":
                    stand(admin, keys, "leases", 10, FROZEN - 1000)
                    admin.zadd(keys["over"], {entry_of(10).name: FROZEN})
                words: list[Word] = ["500", "", 0, token(99), f"{9:012x}", f"{declared:x}", may_queue, RECORD, ""]
                answer = client.run(way, pool._keys, pool._words(*words))
                admin.hdel(keys["pool"], "offset")  # how far the clock had gone back
                found.append((answer, {part: contents(admin, key) for part, key in keys.items()}))
            assert found[0] == found[1], (limit, held, declared, may_queue)


def entry_of(number: int, ancestors: tuple[str, ...] = ()) -> Entry:
    return make_entry(
        token=token(number), process=f"{number:012x}", order=number, priority=0, limit=None, ancestors=ancestors
    )


def stand(
    admin: redis.Redis,
    keys: dict[str, str],
    place: str,
    number: int,
    score: float,
    ancestors: tuple[str, ...] = (),
    expires: float = FROZEN + 9000,
) -> None:
    entry = entry_of(number, ancestors)
    admin.zadd(keys[place], {entry.name: score})
    admin.zadd(keys["expiries"], {entry.name: expires})
    admin.hset(keys["names"], entry.token, entry.name)
    if ancestors:
        admin.sadd(keys["nested"], entry.name)


def contents(admin: redis.Redis, key: str) -> object:
    kind = admin.type(key)
    if kind == "hash":
        return admin.hgetall(key)
    if kind == "set":
        return admin.smembers(key)
    return admin.zrange(key, 0, -1, withscores=True) if kind == "zset" else None
