"""The verbs on a pool that a server keeps."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from commands import environment, run, start
from redis_pools import settle
from referee import Team, until

import leasecap
from leasecap import _ancestry
from leasecap._api import acquire_with
from leasecap._config.pool_name import pool_name
from leasecap._errors import Unreachable
from leasecap._host.process import start_of
from leasecap._liveness.record import Child, Purpose
from leasecap._redis_store.client import Client
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.store import RedisStore
from leasecap._request import Options
from leasecap._store.ticket import AgentHolds
from leasecap._wait.blocking import ThreadWaiter
from leasecap.cli.main import cli

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer

    from leasecap._redis_store.answer import Picture
    from leasecap._store.view import PoolView

pytestmark = pytest.mark.redis


@pytest.fixture
def pool(server: RedisServer, client: Client, team: Team) -> Iterator[Pool]:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    pool = Pool(client, pool_name("p"), time.monotonic)
    settle(pool, ttl=30)
    yield pool


def test_limit_is_set_for_all_machines_and_says_by_whom(server: RedisServer, pool: Pool, team: Team) -> None:
    changed = run("limit", "p", "3")
    assert changed.stdout == f"p: 1 -> 3 (for all machines, on {server.url()})\n"
    shown = run("limit", "p")
    assert shown.stdout.startswith(f"p: 3 (for all machines, on {server.url()}, set by uid ")
    assert shown.stdout.splitlines()[1:] == ["Change it: leasecap limit p N"]
    assert pool.picture().seen.limit == 3
    assert not (team.root / "config.toml").read_text().count("limit")
    assert run("limit", "p", "unlimited").returncode == 0
    assert leasecap.status("p").pools[0].limit == "unlimited"
    assert run("limit", "p", "--unset").returncode == 0
    assert pool.picture().seen.limit is None


def test_a_pool_that_is_closed_takes_limits_reports_and_pauses(server: RedisServer, client: Client, team: Team) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    pool = Pool(client, pool_name("p"), time.monotonic)
    for command in (("limit", "p", "3"), ("report", "p", "--status", "429"), ("pause", "p"), ("resume", "p")):
        pool.configure(closed=f"{(time.time() + 600) * 1000:.0f}")
        done = run(*command)
        assert (done.returncode, pool.picture().seen.closed_for > 0) == (0, True), done.stderr
    pool.configure(closed=f"{(time.time() + 1) * 1000:.0f}")
    assert run("run", "-p", "p", "--", "echo", "granted").stdout == "granted\n"


def test_limit_of_a_machine_holds_while_it_holds_and_only_tightens(server: RedisServer, pool: Pool, team: Team) -> None:
    settle(pool, limit=5)
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 1\n')
    shown = run("limit", "p", "4")
    assert "its own limit counts too: 1 (config.toml [pools.p])" in shown.stdout
    with leasecap.slot("p"):
        assert leasecap.try_acquire("p", borrow=False) is None
        assert leasecap.status("p").pools[0].limit == 1
    assert leasecap.status("p").pools[0].limit == 4


def test_limit_of_a_pool_whose_server_is_away_shows_what_this_machine_knows(
    server: RedisServer, pool: Pool, team: Team
) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 1\n')
    server.kill()
    shown = run("limit", "p")
    assert shown.stdout.splitlines() == [
        f"p: not known (for all machines, on {server.url()})",
        "while this machine holds or waits, its own limit counts too: 1 (config.toml [pools.p])",
    ]
    assert shown.returncode == 1 and "can't be reached" in shown.stderr


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        "status p", "pause p", "resume p", "report p --status 429", "report --status 429", "limit p 3", "limit p",
        "forget p", "policy show p",
    ],
)  # fmt: skip
def test_verb_asks_a_server_that_is_away_once(
    team: Team, monkeypatch: pytest.MonkeyPatch, words: str, configured: bool
) -> None:
    """Each time takes seconds."""
    address = "redis://127.0.0.1:1/0"
    team.configure(f'[{"pools.p" if configured else "defaults"}]\nstore = "{address}"\n')
    monkeypatch.setenv("LEASECAP_LEASE", f"{_ancestry.place(address, pool_name('p').directory)}/{1:016x}")
    asked = []

    def away(*_: object, **__: object) -> None:
        asked.append(words)
        raise Unreachable("can't be reached", path=address, remedy="")

    monkeypatch.setattr(Client, "run", away)
    monkeypatch.setattr(Client, "command", away)
    done = CliRunner().invoke(cli, words.split())
    assert "can't be reached" in f"{done.exception} {done.output}"
    assert asked == [words]


@pytest.mark.posix("signals")
def test_limit_that_is_interrupted_while_a_server_is_silent_says_nothing(team: Team) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = "redis://{}:{}/0".format(*silent.getsockname())
        team.configure(f'[pools.p]\nstore = "{where}"\nlimit = 1\n')
        asking = start("limit", "p")
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)
            asking.send_signal(signal.SIGINT)
            assert asking.communicate(timeout=60)[0] == ""
    assert asking.returncode == -signal.SIGINT


def test_limit_does_not_say_that_a_pool_has_none_where_the_server_has_it(
    server: RedisServer, pool: Pool, team: Team
) -> None:
    where = f"{server.url()} has the one for all machines: leasecap limit p"
    assert f"\n  p  -  {where}\n" in run("limit").stdout
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 2\n')
    assert f"\n  p  2  config.toml [pools.p], for this machine; {where}\n" in run("limit").stdout


def test_status_names_no_source_of_a_limit_that_the_server_has_not(pool: Pool) -> None:
    settle(pool, limit=None)
    assert "p  0 in flight, 0 waiting, no limit set\n" in run("status", "p").stdout
    assert leasecap.status("p").pools[0].limit_source == ""


def test_forget_promises_nothing_of_the_file_where_a_server_has_the_limit(pool: Pool) -> None:
    assert run("forget", "p").stdout == "p: forgotten\nIts table in config.toml stays.\n"


def test_pool_without_a_limit_names_the_command_that_sets_one(pool: Pool) -> None:
    settle(pool, limit=None)
    found = run("run", "-p", "p", "--", "true")
    assert found.returncode == 125
    assert "leasecap limit p 4" in found.stderr
    assert run("run", "-p", "p", "--limit", "1", "--", "true").returncode == 0


def test_status_names_pools_that_only_the_server_knows(server: RedisServer, pool: Pool, team: Team) -> None:
    team.configure(f'[defaults]\nstore = "{server.url()}"\n')
    with leasecap.slot("another", limit=1):
        [found] = [pool for pool in leasecap.status().pools if pool.pool == "another"]
    assert (found.lock, found.path) == ("server", f"{server.url()} pool another")


def test_status_says_what_is_wrong_with_a_server_that_is_away(server: RedisServer, pool: Pool) -> None:
    server.stop()
    found = run("status")
    assert found.returncode == 1
    assert "can't be reached" in found.stdout + found.stderr


def test_status_asks_a_server_that_is_silent_once(server: RedisServer, team: Team, pool: Pool) -> None:
    """It took a second for each of its pools."""
    team.configure("".join(f'[pools.p{number}]\nstore = "{server.url()}"\n' for number in range(40)))
    server.freeze()
    began = time.monotonic()
    found = run("status")
    took = time.monotonic() - began
    assert found.returncode == 1 and found.stdout.count("can't be reached") >= 40, found.stdout
    assert took < 30


def test_status_shows_the_files_where_a_servers_password_is_not_to_be_had(server: RedisServer, team: Team) -> None:
    """`leasecap run` takes it out of its command's environment."""
    leasecap.acquire("here", limit=1).release()
    (team.root / "config.toml").write_text(
        f'[pools.p]\nlimit = 1\nstore = "{server.url(query="password_env=NOT_SET_HERE")}"\n'
    )
    done = run("status")
    assert done.returncode == 1
    assert "NOT_SET_HERE" in done.stdout and "here  0" in done.stdout
    assert [pool["pool"] for pool in json.loads(run("status", "--json").stdout)["pools"]] == ["here", "p"]


def test_status_does_not_say_that_there_is_no_pool_where_the_server_is_away(server: RedisServer, team: Team) -> None:
    (team.root / "config.toml").write_text(f'[defaults]\nstore = "{server.url()}"\n')
    server.kill()
    done = run("status")
    assert done.returncode == 1
    assert "No pool yet" not in done.stdout and "can't be reached" in done.stdout
    shown = run("limit")
    assert shown.returncode == 0 and f"store = {server.url()}" in shown.stdout


def test_limit_of_a_misspelt_name_on_a_server_asks(server: RedisServer, team: Team) -> None:
    (team.root / "config.toml").write_text(f'[defaults]\nstore = "{server.url()}"\n')
    assert "did you mean anthropic?" in run("limit", "antropic", "3").stdout


def test_program_that_ends_with_a_lease_gives_it_back(pool: Pool) -> None:
    settle(pool, ttl=600)
    code = "import leasecap; lease = leasecap.acquire('p'); raise SystemExit(3)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), timeout=60, stderr=subprocess.DEVNULL)
    assert done.returncode == 3
    until(lambda: not pool.picture().seen.leases, "it has been given back")


def test_policy_is_pushed_by_a_person_and_holds_for_all(server: RedisServer, pool: Pool, team: Team) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nadaptive = "off"\nstale_after = "5s"\nheartbeat = "1s"\n')
    before = run("policy", "show", "p").stdout
    assert 'adaptive = "aimd"' in before
    assert "something else of adaptive, stale_after" in before
    assert "leasecap policy show p" in run("status").stdout
    pushed = run("policy", "push", "p").stdout
    assert "pushed by uid" in pushed
    assert 'adaptive = "off"' in pushed
    assert "stale_after = 5" in pushed
    assert "policy show" not in run("status").stdout
    settle(pool, limit=4, ttl=5)
    run("report", "p", "--status", "429")
    assert leasecap.status("p").pools[0].limit == 4


def test_usual_values_that_a_file_sets_are_named_where_the_policy_says_something_else(
    server: RedisServer, pool: Pool, team: Team
) -> None:
    where = f'[pools.p]\nstore = "{server.url()}"\n'
    team.configure(where + 'adaptive = "off"\nreclaim = "force"\nmax_hold = "1h"\norder = "task"\n')
    run("policy", "push", "p")
    team.configure(f'[defaults]\norder = "arrival"\n{where}adaptive = "aimd"\nreclaim = "never"\nstale_after = 30\n')
    assert "something else of adaptive, order, reclaim than" in run("status").stdout
    team.configure(where)
    assert "something else" not in run("status").stdout


def test_space_after_an_idle_time_is_pushed_for_all(server: RedisServer, pool: Pool, team: Team) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nstagger_after_idle = "1h"\nstagger = "1m"\n')
    assert "stagger_after_idle = 3600" in run("policy", "push", "p").stdout
    settle(pool, limit=3, ttl=30)
    pool.configure(idle="1")
    with leasecap.slot("p"):
        assert leasecap.try_acquire("p", borrow=False) is None


def test_what_a_server_cannot_do_is_refused(server: RedisServer, pool: Pool, team: Team) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nstale_after = 0.5\nheartbeat = 0.1\n')
    found = run("policy", "push", "p")
    assert found.returncode == 1
    assert "too short for a network" in found.stderr


def test_command_runs_under_its_lease_and_knows_no_password(server: RedisServer, pool: Pool, team: Team) -> None:
    server.command("CONFIG", "SET", "requirepass", "se-cret")
    team.configure("")
    shown = run(
        "run", "-p", "p", "--", "sh", "-c", 'echo "$LEASECAP_LEASE"; exec "$0" -m leasecap run -p p -n -- env',
        sys.executable,
        env=environment(LEASECAP_STORE=server.url(user=":se-cret")),
    )  # fmt: skip
    assert "se-cret" not in shown.stdout + shown.stderr
    assert f"{server.port}/0/p" in shown.stdout.replace("%3A", ":")


def test_server_that_may_throw_keys_away_is_refused(server: RedisServer, pool: Pool) -> None:
    server.command("CONFIG", "SET", "maxmemory", "100mb")
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    found = run("run", "-p", "p", "-n", "--", "true")
    assert found.returncode == 125
    assert "noeviction" in found.stderr
    server.command("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 0


def test_slot_is_released_though_the_memory_is_full(server: RedisServer, pool: Pool) -> None:
    settle(pool, limit=2)
    lease = leasecap.acquire("p")
    server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(leasecap.StoreError, match="memory"):
        leasecap.try_acquire("p", borrow=False)
    lease.release()
    assert pool.picture().seen.leases == {}


def test_limit_in_the_file_is_followed_by_those_who_wait(server: RedisServer, pool: Pool, team: Team) -> None:
    settle(pool, limit=5)
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 1\n')
    with leasecap.slot("p"):
        waiter = start("run", "-p", "p", "--", "echo", "RAN")
        until(lambda: leasecap.status("p").pools[0].waiting == 1, "it waits")
        team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 3\n')
        until(lambda: [one.limit for one in leasecap.status("p").pools[0].waiters] == [3], "it declares the new one")
    assert waiter.communicate(timeout=30)[0] == "RAN\n"


def test_status_says_since_when_an_answer_streams(pool: Pool) -> None:

    lease = acquire_with("p", ThreadWaiter(), Options(purpose=Purpose("an agent", "p", "a model")))

    def phase() -> str | None:
        request = leasecap.status("p").pools[0].holders[0].request
        assert request is not None and request.agent == "an agent"
        return request.phase

    assert phase() == "sent"
    lease.note_answer()
    until(lambda: phase() == "streaming", "it is noted")
    lease.release()
    assert pool.picture().records == {}


def test_doctor_proves_files_though_the_environment_names_a_server(server: RedisServer, team: Team) -> None:
    done = run("doctor", env=environment(LEASECAP_STORE=server.url()))
    assert re.search(r"^ok +server ", done.stdout, re.M) and re.search(r"^ok +proof ", done.stdout, re.M), done.stdout


def in_store(server: RedisServer) -> str:
    """All that the server has, names and values."""
    found = []
    for key in server.command("KEYS", "*"):
        kind = server.command("TYPE", key)
        words = {"hash": ("HGETALL", key), "zset": ("ZRANGE", key, 0, -1), "set": ("SMEMBERS", key)}[kind]
        found += [key, *map(str, server.command(*words))]
    return "\n".join(found)


@pytest.mark.parametrize("record", ["full", "minimal"])
def test_minimal_records_keep_what_a_machine_does_from_the_store(
    server: RedisServer, pool: Pool, team: Team, tmp_path: Path, record: str
) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nrecord = "{record}"\n')
    settle(pool, limit=3, ttl=30)
    where = tmp_path / "my-project"
    where.mkdir()
    agent = team.run(["sh", "-c", "echo READY; read word", "my-agent"])
    agent.expect("READY")
    shell = "echo READY; read word; : my-command"
    holder = start("run", "-p", "p", "-l", "a label", "--", "sh", "-c", shell, cwd=where, stdin=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "READY\n"
        assert run("acquire", "-p", "p", "--for-pid", str(agent.pid)).returncode == 0
        with acquire_with("p", ThreadWaiter(), Options(purpose=Purpose("my-script", "a-provider", "a-model"))) as lease:
            waiter = start("run", "-p", "p", "--", "my-command", cwd=where)
            until(lambda: leasecap.status("p").pools[0].waiting == 1, "it waits")
            lease.report(429)
            stored = in_store(server)
            waiter.kill()
            waiter.communicate()
            shown = leasecap.status("p").pools[0].holders
    finally:
        holder.communicate()
        agent.end()
    words = ("my-command", "my-project", "my-script", "my-agent")
    assert [word in stored for word in words] == [record == "full"] * len(words)
    assert all(word in stored for word in ("a label", "a-provider", "a-model", f'"pid":{os.getpid()}'))
    if record == "minimal":
        assert [(one.command, one.cwd) for one in shown] == [(None, None)] * 3
        assert "a label" in [one.label for one in shown]


def test_release_for_an_agent_says_that_a_server_could_not_be_asked(
    server: RedisServer, pool: Pool, team: Team
) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n[pools.q]\nlimit = 1\n')
    agent = str(os.getpid())
    assert run("acquire", "-p", "p", "--for-pid", agent).returncode == 0
    assert run("acquire", "-p", "q", "--for-pid", agent).returncode == 0
    server.freeze()
    done = run("release", "--for-pid", agent)
    assert done.returncode == 1 and done.stdout.endswith("of pool q\n")
    assert f"whether pid {agent} holds anything else that was taken for it can't be told: {server.url()}" in done.stderr
    assert f"whether pid {agent} holds anything that was" in run("release", "--for-pid", agent).stderr
    server.thaw()
    assert run("release", "--for-pid", agent).stdout.endswith("of pool p\n")


def test_call_for_an_agent_that_has_the_slot_already_waits_for_a_server_that_goes_away(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Child(os.getpid(), start_of(os.getpid()) or 0)
    lease = acquire_with("p", ThreadWaiter(), Options(agent=agent))
    begin = Pool.begin_anew
    asked: list[str] = []

    def away(pool: Pool, token: str, **fields: object) -> bool:
        asked.append(token)
        if len(asked) == 1:
            raise Unreachable("is away", path=pool.path, remedy="")
        return begin(pool, token, **fields)

    monkeypatch.setattr(Pool, "begin_anew", away)
    with pytest.raises(AgentHolds):
        acquire_with("p", ThreadWaiter(), Options(timeout=30, agent=agent))
    assert asked == [lease.id, lease.id]
    asked.clear()
    with pytest.raises(Unreachable):
        acquire_with("p", ThreadWaiter(), Options(timeout=0, agent=agent))
    lease.release()


@pytest.mark.parametrize("way", ["by its id", "an agent's"])
def test_release_does_not_take_a_lease_for_gone_whose_server_goes_away(
    server: RedisServer, pool: Pool, team: Team, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n[pools.q]\nlimit = 1\n')
    agent = str(os.getppid())
    lease = run("acquire", "-p", "p", "--for-pid", agent).stdout.strip()
    other = run("acquire", "-p", "q", "--for-pid", agent).stdout.strip()
    picture = Pool.picture
    seen: list[float] = []

    def away(pool: Pool, *, within: float = 2.0) -> Picture:
        seen.append(within)
        if len(seen) > 1:
            raise Unreachable("is away", path=pool.path, remedy="")
        return picture(pool, within=within)

    monkeypatch.setattr(Pool, "picture", away)
    words = ["release", lease, "--yes"] if way == "by its id" else ["release", "--for-pid", agent, "--yes"]
    done = CliRunner().invoke(cli, words)
    assert len(seen) == 2
    assert "is away" in str(done.exception)
    assert done.output == ("" if way == "by its id" else f"released {other} of pool q\n")


@pytest.mark.parametrize("words", ["pause p", "resume p", "limit p 3"])
def test_what_was_noted_is_no_failure_though_waiters_cannot_be_told(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    if words == "resume p":
        assert run("pause", "p").returncode == 0

    def away(pool: Pool) -> None:
        raise Unreachable("is away", path=pool.path, remedy="")

    monkeypatch.setattr(Pool, "wake_all", away)
    done = CliRunner().invoke(cli, words.split())
    assert (done.exit_code, done.exception) == (0, None) and done.output


def test_resume_takes_no_silence_for_a_state_that_cant_be_read(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(its: RedisStore) -> PoolView:
        raise Unreachable("is away", path=its.path, remedy="")

    leasecap.report("p", 429, retry_after=600)
    monkeypatch.setattr(RedisStore, "view", away)
    done = CliRunner().invoke(cli, ["resume", "p"])
    assert isinstance(done.exception, Unreachable) and "begins anew" not in done.output
    assert "a 429 reported by" in pool.picture().seen.feedback
