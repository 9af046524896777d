"""A gate whose pools have their limit on a server alone: requests take slots as where config.toml has one."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator

import pytest
from commands import run, start, until
from gated import Gated
from provider import Provider
from redis_pools import settle

from leasecap._config.pool_name import pool_name
from leasecap._provider import chain
from leasecap._provider.chain import metered_places
from leasecap._redis_store.pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer
    from referee import Team

    from leasecap._redis_store.client import Client

pytestmark = pytest.mark.posix("run")


@pytest.fixture
def provider() -> Iterator[Provider]:
    """The other one, which isn't the command's own."""
    with Provider() as provider:
        yield provider


@pytest.fixture
def gate(server: RedisServer, team: Team, provider: Provider) -> Iterator[Gated]:
    """Of a command whose own provider has a pool in files."""
    with Provider() as own:
        files = f'[pools.p]\nlimit = 1\nstore = "files"\naliases = ["{own.url}"]\n'
        team.configure(f'{files}[pools."{provider.url}"]\nstore = "{server.url()}"\n')
        with Gated(own, OPENAI_BASE_URL=f"{provider.url}/v1") as gate:
            yield gate


@pytest.fixture
def pool(client: Client, provider: Provider) -> Pool:
    return Pool(client, pool_name(provider.url), time.monotonic)


def completion(gate: Gated) -> bytes:
    return gate.request(b"POST", b"/v1/chat/completions", name=b"openai")


def test_a_pool_without_a_limit_is_passed_until_its_server_has_one(pool: Pool, provider: Provider, gate: Gated) -> None:
    with gate.connect() as client:
        assert client.ask(completion(gate)).status == 200
        settle(pool, limit=1, ttl=30)
        # In a process of its own: a request runs under the lease of the process that makes it.
        with start("run", "-p", pool.name.text, "--", "cat", stdin=subprocess.PIPE) as holder:
            until(lambda: len(pool.picture().seen.leases) == 1)
            client.send(completion(gate))
            until(lambda: len(pool.picture().seen.queue) == 1)
            assert len(provider.requests) == 1
            holder.communicate()
        assert client.answer().status == 200
    until(lambda: not pool.picture().seen.leases)


def test_a_request_whose_server_is_away_is_never_passed(server: RedisServer, provider: Provider, gate: Gated) -> None:
    server.kill()
    with gate.connect() as client:
        assert client.ask(completion(gate)).status == 502
    with gate.connect() as client:
        assert client.ask(gate.request(b"GET", b"/v1/models", body=None, name=b"openai")).status == 200
    assert [request.target for request in provider.requests] == [b"/v1/models"]


def test_what_starts_under_a_standing_gate_is_told_of_limits_that_a_server_has(
    server: RedisServer, client: Client, team: Team
) -> None:
    team.configure(f'[defaults]\nstore = "{server.url()}"\n')
    presets = metered()
    settle(Pool(client, pool_name("mistral"), time.monotonic), limit=1)
    [mistral] = metered() - presets
    assert "mistral" in mistral
    server.kill()  # from here on no request passes without a slot, whichever pool it is of
    away = metered() - presets
    assert mistral in away and len(away) > 5


def test_lines_for_a_shell_are_given_out_where_no_server_can_be_asked(team: Team) -> None:
    team.configure('[defaults]\nstore = "redis://127.0.0.1:1/0?password_env=NOT_SET"\n')
    done = run("gate", "--env", "sh")
    assert done.returncode == 0
    assert done.stderr.count("the variable NOT_SET is not set") == 1  # and not once for each upstream
    assert len(metered()) > 5


def metered() -> frozenset[str]:
    """The pools of which `leasecap gate --env` says that requests take a slot at the gate."""
    lines = run("gate", "--env", "sh").stdout.splitlines()
    [line] = [line for line in lines if line.startswith(f"export {chain.VARIABLE}=")]
    return metered_places({chain.VARIABLE: shlex.split(line)[1].partition("=")[2]})


def test_the_commands_own_pool_needs_no_limit_in_the_file(server: RedisServer, client: Client, team: Team) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    settle(Pool(client, pool_name("p"), time.monotonic), limit=1)
    assert run("run", "--per-request", "-p", "p", "--", "true").returncode == 0
    settle(Pool(client, pool_name("p"), time.monotonic), limit=None)
    done = run("run", "--per-request", "-p", "p", "--", "true")
    assert done.returncode == 125 and "has no limit" in done.stderr
