"""Two releases of leasecap side by side on one server: a later one of the same format, and one of a higher format."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import run
from places import WORKERS
from redis_pools import settle
from referee import Team, until

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._redis_store.keys import pool_keys
from leasecap._redis_store.lua.state import FORMAT
from leasecap._redis_store.pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer
    from referee import Worker

    from leasecap._redis_store.client import Client

pytestmark = pytest.mark.redis

# Does as it is told, a line for each.
OBEY = """
import sys, leasecap
from worker import say
lost = lambda lease: say("LOST")
say("FROM", leasecap.__file__)
lease = None
while True:
    word = sys.stdin.readline().strip()
    try:
        if word == "acquire":
            lease = leasecap.acquire("p", on_lost=lost)
            say("HELD", lease.id)
        elif word == "report":
            lease.report(429)
            say("REPORTED")
        elif word == "release":
            lease.release()
            say("RELEASED", bool(lease.lost))
        elif word == "status":
            [pool] = leasecap.status("p").pools
            say("STATUS", len(pool.holders), pool.waiting, pool.limit, pool.error or "-")
        else:
            break
    except leasecap.LeasecapError as error:
        say(type(error).__name__, str(error).replace("\\n", " "))
"""


def release(folder: Path, changes: dict[str, str]) -> Path:
    """A copy of this package with these changes; each is made in the one file that has the text."""
    package = folder / "leasecap"
    shutil.copytree(Path(leasecap.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    sources = list(package.rglob("*.py"))
    for old, new in changes.items():
        [path] = [path for path in sources if old in path.read_text()]
        path.write_text(path.read_text().replace(old, new))
    return folder


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the same format that has more to say: in the pool, in records, in feedback, in messages."""
    changes = {
        "local function save() if": "local function save() set('weather', 'sunny') if",
        "    version: int = VERSION\n    purpose: Purpose | None = None\n": "    version: int = VERSION + 1\n"
        "    purpose: Purpose | None = None\n    mood: str = 'good'\n",
        "local function wake(name, word)\n": "local function wake(name, word)\n"
        "  call('PUBLISH', channel .. process_of(name), '~later')\n",
    }
    return release(tmp_path_factory.mktemp("later"), changes)


@pytest.fixture(scope="module")
def higher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release that this one would misunderstand, and that says so by its format."""
    return release(
        tmp_path_factory.mktemp("higher"),
        {
            f'\nFORMAT = {FORMAT}\n"""The format of what is in the server': (
                f'\nFORMAT = {FORMAT + 1}\n"""The format of what is in the server'
            )
        },
    )


@pytest.fixture
def pool(server: RedisServer, client: Client, team: Team) -> Iterator[Pool]:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    pool = Pool(client, pool_name("p"), time.monotonic)
    settle(pool, ttl=30)
    yield pool


def start(team: Team, package: Path | None = None) -> Worker:
    path = os.pathsep.join((str(package or Path(leasecap.__file__).parents[1]), str(WORKERS)))
    # -P: else the working directory comes first.
    worker = team.run([sys.executable, "-P", "-c", OBEY], {"PYTHONPATH": path})
    where = worker.expect("FROM")
    assert where.startswith(str(package)) == (package is not None), where
    return worker


def told(worker: Worker, word: str, answer: str) -> str:
    worker.tell(word)
    return worker.expect(answer)


@pytest.mark.parametrize("first", ["this", "later"])
def test_releases_of_one_format_share_a_cap_and_hand_over_to_each_other(
    pool: Pool, team: Team, later: Path, server: RedisServer, first: str
) -> None:
    one, other = start(team, None if first == "this" else later), start(team, later if first == "this" else None)
    for holder, waiter in ((one, other), (other, one)):
        told(holder, "acquire", "HELD")
        waiter.tell("acquire")
        team.until_waiting(1)
        assert told(holder, "status", "STATUS") == "1 1 1 -"
        assert told(holder, "release", "RELEASED") == "False"
        waiter.expect("HELD")
        assert told(waiter, "status", "STATUS") == "1 0 1 -"
        told(waiter, "report", "REPORTED")
        told(holder, "status", "STATUS")
        assert told(waiter, "release", "RELEASED") == "False"
    assert server.command("HGET", pool._keys[0], "weather") == "sunny"


def test_what_a_later_release_writes_is_kept_and_shown_as_far_as_it_is_known(
    pool: Pool, team: Team, later: Path, server: RedisServer
) -> None:
    holder = start(team, later)
    lease = told(holder, "acquire", "HELD")
    record = json.loads(server.command("HGET", pool._keys[6], lease))
    assert (record["mood"], record["version"]) == ("good", 2)
    [shown] = json.loads(run("status", "p", "--json").stdout)["pools"][0]["holders"]
    assert (shown["id"], shown["pid"]) == (lease, holder.pid)
    for command in (("limit", "p", "2"), ("pause", "p", "1h"), ("resume", "p"), ("release", lease, "--yes")):
        done = run(*command)
        assert done.returncode == 0, done.stderr
    holder.expect("LOST")
    assert server.command("HGET", pool._keys[0], "weather") == "sunny"


def test_pool_of_a_higher_format_is_refused_with_both_numbers(server: RedisServer, team: Team, higher: Path) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 1\n[pools.q]\nlimit = 1\n')
    # The server is young: for a beat and a second nobody is granted anything, and a beat is a part of this.
    server.command("HSET", pool_keys("leasecap", pool_name("p"))[0], "ttl", 2000)
    holder = start(team, higher)
    told(holder, "acquire", "HELD")  # the pool is that one's
    both = (f"the pool has format {FORMAT + 1}, and this leasecap knows format {FORMAT}", "upgrade leasecap")
    newcomer = start(team)
    found = told(newcomer, "acquire", "StoreError")
    assert all(part in found for part in both), found
    for verb in ("run -p p -- true", "limit p 3", "report p --status 429"):
        done = run(*verb.split())
        assert done.returncode != 0, verb
        assert all(part in done.stderr for part in both), (verb, done.stderr)
    shown = json.loads(run("status", "--json").stdout)["pools"]
    errors = {pool["pool"]: pool["error"] for pool in shown}
    assert both[0] in errors["p"] and not errors["q"]
    assert run("run", "-p", "q", "--", "true").returncode == 0
    assert told(holder, "release", "RELEASED") == "False"  # and nothing of it was touched


def test_holder_and_waiter_of_a_pool_that_gets_a_higher_format_are_told(
    pool: Pool, team: Team, server: RedisServer
) -> None:
    settle(pool, ttl=6)
    holder, waiter = start(team), start(team)
    told(holder, "acquire", "HELD")
    waiter.tell("acquire")
    team.until_waiting(1)
    server.command("HSET", pool._keys[0], "format", FORMAT + 1)
    assert f"format {FORMAT + 1}" in waiter.expect("StoreError")
    holder.expect("LOST")
    until(lambda: "can't be renewed" in holder.errors(), "it says why")
    assert f"format {FORMAT + 1}" in holder.errors()
