"""How long requests took, in pools on a server: many machines add to it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from commands import run
from helper_process import Helper
from redis_pools import place, settle, token
from referee import Team, until

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._feedback.histogram import histogram
from leasecap._feedback.latency import KEPT, MOST_ROWS, Kind, Row, added
from leasecap._host.effects import Effects
from leasecap._latency import latencies
from leasecap._redis_store.alarms import Alarms
from leasecap._redis_store.errands import Errands
from leasecap._redis_store.latency_sender import LatencySender
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.rights import acl_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer

    from leasecap._feedback.latency import Table
    from leasecap._redis_store.client import Client

pytestmark = pytest.mark.redis

# Notes so many times in so many turns.
WRITER = """
import os, sys, time, leasecap
from leasecap._feedback.latency import Kind
from leasecap._latency import latencies
from leasecap._redis_store import connections
connections.ANSWER_WITHIN = 20.0  # what fails at its end is lost
turns, number = int(sys.argv[1]), int(sys.argv[2])
print("ready")
input()
for turn in range(turns):
    for _ in range(number):
        latencies.note(os.environ["LEASECAP_HOME"], "p", Kind("opus", True), first=1.0, whole=2.0)
    latencies.write()
"""

OPUS = Kind("opus", True)


@pytest.fixture(autouse=True)
def patient() -> None:
    """Time-outs are as in life: they are what is tried here."""


@pytest.fixture
def pool(server: RedisServer, client: Client, team: Team) -> Iterator[Pool]:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    pool = Pool(client, pool_name("p"), time.monotonic)
    settle(pool, ttl=30)
    yield pool


def table(*durations: float, kind: Kind = OPUS) -> Table:
    found = histogram(durations)
    return {kind: Row(found, found, False)}


def counted(pool: Pool, kind: Kind = OPUS) -> int:
    tables, troubles = pool.latency.read(KEPT)
    assert troubles == ()
    return sum(each[kind].first.n for each in tables.values() if kind in each)


def this_hour() -> int:
    return int(time.time() // 3600)


# -- in the server -------------------------------------------------------------------------------------------------


def test_server_merges_as_one_process_would(pool: Pool) -> None:
    chance = random.Random(7)
    expected: Table = {}
    for number in range(60):
        rows = {}
        for _ in range(3):
            kind = Kind(f'model "{chance.randrange(40)}" é', chance.random() < 0.5)
            first = histogram(chance.expovariate(0.1) for _ in range(chance.randrange(5)))
            whole = histogram(chance.uniform(100, 200) for _ in range(chance.randrange(4)))
            rows[kind] = Row(first, whole, chance.random() < 0.9)
        expected = added(expected, rows)
        answered = pool.latency.add("a process", number, 0, rows)
        seen = pool.latency.read(1)[0]
        [whole_table] = seen.values()
        assert all(whole_table[kind] == row for kind, row in answered.items())
        assert answered
    assert len(expected) <= MOST_ROWS
    assert {kind: rounded(row) for kind, row in whole_table.items()} == {
        kind: rounded(row) for kind, row in expected.items()
    }


def rounded(row: Row) -> Row:
    """Whose longest is as exact as it is written."""
    first, whole = (each._replace(highest=round(each.highest, 6)) for each in (row.first, row.whole))
    return Row(first, whole, row.local)


def test_table_that_is_sent_twice_counts_once(pool: Pool) -> None:
    first = pool.latency.add("a 1", 1, 0, table(1.0))
    assert pool.latency.add("a 1", 1, 0, table(1.0)) == first
    pool.latency.add("a 1", 2, 0, table(1.0))
    pool.latency.add("a 1", 1, 0, table(1.0))  # one that was on its way for long
    pool.latency.add("b 1", 1, 0, table(1.0))
    assert counted(pool) == 3


def test_old_hours_are_removed_and_too_old_ones_not_taken(server: RedisServer, pool: Pool) -> None:
    for age in (0, 1, KEPT, KEPT + 1):
        pool.latency.add(f"a {age}", 1, age, table(1.0))
    assert {this_hour() - hour for hour in pool.latency.read(2 * KEPT)[0]} == {0, 1, KEPT}
    [key] = [name for name in server.command("KEYS", "*") if name.endswith(":latency")]
    fields = dict(pairwise(server.command("HGETALL", key)))
    [row] = [text for name, text in fields.items() if name.startswith(f"{this_hour()} ")]
    server.command("HSET", key, f'{this_hour() - KEPT - 1} 1 ["old",true]', row)
    server.command("HSET", key, "@gone 5", f"1 {this_hour() - 2}")
    pool.latency.add("b", 1, 0, table(1.0, kind=Kind("new", True)))
    names = server.command("HKEYS", key)
    assert not any('"old"' in name or name == "@gone 5" for name in names)
    assert "@b" in names


def test_rows_of_another_format_and_broken_ones_are_told_of(server: RedisServer, pool: Pool) -> None:
    pool.latency.add("a", 1, 0, table(1.0))
    [key] = [name for name in server.command("KEYS", "*") if name.endswith(":latency")]
    server.command("HSET", key, f"{this_hour()} 2 [1]", "?", f'{this_hour()} 1 ["opus",false]', "{")
    tables, troubles = pool.latency.read(1)
    assert [list(each) for each in tables.values()] == [[OPUS]]
    assert [("format 2" in line, "is none" in line) for line in troubles] == [(False, True), (True, False)]
    pool.latency.add("a", 2, 0, table(1.0, kind=Kind("opus", False)))  # what can't be read is begun anew
    assert Kind("opus", False) in next(iter(pool.latency.read(1)[0].values()))
    assert server.command("HGET", key, f"{this_hour()} 2 [1]") == "?"


def test_forgotten_pool_has_none_and_gets_none(server: RedisServer, pool: Pool) -> None:
    place(pool, 1)
    pool.end(token(1), by_holder=True)
    pool.latency.add("a", 1, 0, table(1.0))
    assert pool.forget() == "forgotten"
    assert pool.latency.add("a", 2, 0, table(1.0)) == {}
    assert server.command("KEYS", "*") == []


# -- from processes ------------------------------------------------------------------------------------------------


def test_hours_go_by_the_clock_of_the_server(pool: Pool) -> None:
    class Ahead(Effects):
        def wall_clock(self) -> float:
            return time.time() + 5 * 3600

    effects, errands = Ahead(), Errands()
    sender = LatencySender("a", effects, errands, Alarms(effects.monotonic, lambda: 3600.0))
    for age in (0, 1):
        sender.add(pool, int(effects.wall_clock() // 3600) - age, table(1.0), pytest.fail)
    errands.drain(10)
    assert {this_hour() - hour for hour in pool.latency.read(KEPT)[0]} == {0, 1}


def test_what_many_processes_note_is_counted_once_each(pool: Pool) -> None:
    writers = [Helper(WRITER, 5, 20) for _ in range(3)]
    for each in writers:
        assert each.hear() == "ready"
    for each in writers:
        each.say()
    for each in writers:
        each.process.communicate(timeout=60)
        assert each.process.returncode == 0
    assert counted(pool) == 3 * 5 * 20  # what was noted last came through as the process ended


def test_what_is_noted_while_the_server_is_away_counts_once(server: RedisServer, pool: Pool, team: Team) -> None:
    for turn in range(30):  # what is sent meanwhile arrives later, all of it
        latencies.note(str(team.root), "p", OPUS, first=1.0)
        latencies.write()
        if turn == 10:
            until(lambda: counted(pool) == 11, "it is counted")
            server.freeze()
        time.sleep(0.1 if turn > 10 else 0)
    server.thaw()
    until(lambda: counted(pool) >= 30, "the rest is counted")
    latencies.end()
    assert counted(pool) == 30


def test_status_shows_what_all_machines_have_noted(server: RedisServer, pool: Pool, team: Team) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nfirst_byte_timeout = 10\n')
    pool.latency.add("another machine", 1, 0, table(*[9.0] * 15))
    for _ in range(5):
        latencies.note(str(team.root), "p", OPUS, first=9.5, whole=20.0)
    latencies.end()
    until(lambda: counted(pool) == 20, "it is counted")
    [found] = json.loads(run("status", "--latency", "--json", "p").stdout)["pools"]
    [row] = found["latency"]
    assert (row["model"], row["first_byte"]["n"], row["first_byte"]["max"]) == ("opus", 20, 9.5)
    assert row["whole_answer"]["n"] == 20
    assert "near first_byte_timeout" in found["latency_warnings"][0]
    assert leasecap.status("p").pools[0].latency_warnings == tuple(found["latency_warnings"])
    assert "opus, streamed" in run("status", "--latency", "p").stdout


def test_status_shows_who_holds_though_the_user_may_not_read_latencies(
    server: RedisServer, pool: Pool, team: Team
) -> None:
    server.command("ACL", "SETUSER", *acl_line("agent", "leasecap").split(), ">secret", "-hkeys")
    team.configure(f'[pools.p]\nstore = "{server.url(user="agent:secret")}"\n')
    with leasecap.slot("p"):
        found = leasecap.status("p", latency=True).pools[0]
    assert (len(found.holders), found.error, found.latency) == (1, None, ())
    assert found.latency_error is not None
    assert "right" in found.latency_error
