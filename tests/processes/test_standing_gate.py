"""`leasecap gate`: its token and its port, what it meters, what ends it."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import environment, remove_tree, run, start, status, status_json, until
from gated import POOL, files_with
from places import IS_ROOT
from provider import Provider
from provider_steps import Latch, reply
from standing import Standing, free_port, lines_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from raw_http import Answer

pytestmark = pytest.mark.posix("there is no `leasecap gate`")

CLIENT = """
import os, urllib.request
url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
print(urllib.request.urlopen(url, b"{}", timeout=20).read().decode())
"""


def configure(root: Path, provider: Provider, limit: str = "limit = 1") -> None:
    """The fake provider's pool is `POOL`."""
    root.mkdir(mode=0o700, exist_ok=True)
    (root / "config.toml").write_text(f'[pools.{POOL}]\n{limit}\naliases = ["{provider.url}"]\n')


@pytest.fixture
def provider(root: Path) -> Iterator[Provider]:
    with Provider() as provider:
        configure(root, provider)
        yield provider


@pytest.fixture
def gate(provider: Provider) -> Iterator[Standing]:
    with Standing(provider) as gate:
        yield gate


def refused(answer: Answer, status: int, *words: bytes) -> None:
    assert answer.status == status, answer
    assert all(word in answer.body for word in (b"leasecap:", *words)), answer


# -- what it meters ---------------------------------------------------------------------------------------------------


def test_a_request_takes_a_slot_of_its_endpoints_pool(provider: Provider, gate: Standing) -> None:
    latch = Latch()
    provider.plan((latch, *reply(200, b"first")), reply(200, b"second"))
    with gate.connect() as first, gate.connect() as second:
        first.send(gate.request(body=b'{"model": "m-1"}'))
        provider.request()
        second.send(gate.request())
        until(lambda: status().waiting == 1)
        assert status().holders[0].pid == gate.process.pid
        latch.set()
        assert (first.answer().body, second.answer().body) == (b"first", b"second")
    assert provider.most == 1


def test_what_is_set_where_it_starts_is_its_upstream(provider: Provider, gate: Standing) -> None:
    assert gate.ask(target=b"/v1/messages?beta=true").status == 200
    assert provider.request().target == b"/v1/messages?beta=true"


def test_the_start_says_what_takes_slots_and_what_doesnt(gate: Standing, provider: Provider) -> None:
    assert f"127.0.0.1:{gate.port}" in gate.said[0] and str(gate.process.pid) in gate.said[0]
    assert gate.token not in "".join(gate.said)
    assert "a slot per request: anthropic (1), openai (1)" in gate.said[1]
    assert gate.process.stderr is not None
    unmetered = gate.process.stderr.readline()
    assert "unmetered" in unmetered and "gemini" in unmetered and "anthropic" not in unmetered
    assert "codex (pool openai)" in unmetered


def test_a_pool_without_a_limit_passes_until_it_gets_one(root: Path, provider: Provider) -> None:
    configure(root, provider, "")
    latches = [Latch(), Latch()]
    with Standing(provider) as gate, gate.connect() as client:
        provider.plan(*((latch, *reply(200)) for latch in latches))
        client.send(gate.request())
        provider.request()
        assert status().in_flight == 0
        latches[0].set()
        assert client.answer().status == 200
        assert run("limit", POOL, "1").returncode == 0
        client.send(gate.request())
        provider.request(2)
        assert status().in_flight == 1
        latches[1].set()
        assert client.answer().status == 200


def test_a_limit_that_changes_holds_at_once(provider: Provider, gate: Standing) -> None:
    latches = [Latch(), Latch()]
    provider.plan(*((latch, *reply(200)) for latch in latches))
    with gate.connect() as first, gate.connect() as second:
        first.send(gate.request())
        second.send(gate.request())
        until(lambda: status().waiting == 1)
        assert run("limit", POOL, "2").returncode == 0
        provider.request(2)
        for latch in latches:
            latch.set()
        assert (first.answer().status, second.answer().status) == (200, 200)


def test_a_pool_that_loses_its_limit_never_passes_unmetered(provider: Provider, gate: Standing) -> None:
    assert run("limit", POOL, "--unset").returncode == 0
    refused(gate.ask(), 502, b"limit")
    assert provider.requests == []


def test_the_lines_are_those_of_the_gate_that_runs(provider: Provider) -> None:
    with Standing(provider, base="/base") as gate:
        assert gate.seen["ANTHROPIC_BASE_URL"].endswith(f":{gate.port}/{gate.token}/anthropic/base")
        bare = {name: text for name, text in gate.environ.items() if not name.endswith("_BASE_URL")}
        assert lines_of(**bare) == gate.seen  # without its port, if it is the only one
        assert gate.ask(target=b"/base/v1/messages").status == 200


def test_its_own_address_is_no_upstream_of_its(provider: Provider) -> None:
    port = free_port()
    own = lines_of("--port", str(port))
    with Standing(provider, port, ANTHROPIC_BASE_URL=own["ANTHROPIC_BASE_URL"], said=3) as gate:
        assert "anthropic" in gate.said[2]  # the public one, which has no limit here
        assert gate.seen["ANTHROPIC_BASE_URL"] == own["ANTHROPIC_BASE_URL"]


def test_the_gate_of_a_command_leaves_the_slot_to_it(provider: Provider, gate: Standing) -> None:
    latch = Latch()
    provider.plan((latch, *reply(200, b"once")))
    inner = start(
        *("run", "--per-request", "-p", POOL, "--", sys.executable, "-c", CLIENT), env={**gate.environ, **gate.seen}
    )
    provider.request()
    found = status()
    latch.set()
    said, _ = inner.communicate(timeout=20)
    assert (found.in_flight, found.waiting, found.holders[0].pid) == (1, 0, gate.process.pid)
    assert (inner.returncode, said) == (0, "once\n")


@pytest.mark.linux("who asks is found by its socket")
def test_a_command_under_a_lease_borrows_its_slot_there(provider: Provider, gate: Standing) -> None:
    done = run("run", "-p", POOL, "--", sys.executable, "-c", CLIENT, env={**gate.environ, **gate.seen})
    assert (done.returncode, len(provider.requests)) == (0, 1), done.stderr


# -- the token --------------------------------------------------------------------------------------------------------


def test_the_address_stays_over_a_restart(provider: Provider) -> None:
    port = free_port()
    with Standing(provider, port) as first, first.connect() as client:
        client.send(first.request())
        assert client.answer().status == 200
        before = first.token
    with Standing(provider, port) as second:  # though the first one's connection may not have gone yet
        assert second.token == before
        assert second.ask().status == 200


def test_two_that_start_at_once_have_one_token(provider: Provider) -> None:
    starting = [start("gate", "--port", str(free_port()), env=environment()) for _ in range(4)]
    for each in starting:
        assert each.stderr is not None and "on 127.0.0.1" in each.stderr.readline()
    tokens = {lines_of("--port", address.rpartition(":")[2])["LEASECAP_GATE_TOKEN"] for address in _addresses()}
    assert len(_addresses()) == 4 and len(tokens) == 1
    for each in starting:
        each.kill()
        each.communicate()


def _addresses() -> list[str]:
    return [gate["address"] for gate in status_json()["gates"]]


def test_a_rotated_token_is_refused_at_once(provider: Provider, gate: Standing) -> None:
    with gate.connect() as client:
        assert client.ask(gate.request()).status == 200
        assert run("gate", "--rotate").returncode == 0
        client.send(gate.request())
        refused(client.answer(), 403, b"address")
    assert len(provider.requests) == 1
    assert gate.learn().ask().status == 200


def test_the_token_is_for_the_user_alone(root: Path, gate: Standing) -> None:
    [token] = files_with(root, gate.token.encode())
    assert token == root / "gate" / "token"
    assert token.stat().st_mode & 0o777 == 0o600
    assert token.parent.stat().st_mode & 0o777 == 0o700


def spoil(token: Path, how: str) -> None:
    """Make the token's file one that can't be trusted."""
    text = token.read_text()
    if how == "readable":
        token.chmod(0o640)
    elif how == "foreign":
        os.chown(token, 65534, -1)
    elif how == "gone":
        token.unlink()
    elif how == "directory of others":
        token.parent.chmod(0o777)
        token.write_text(text)
    else:
        token.unlink()
        aside = token.with_name("aside")
        aside.touch(mode=0o600)
        aside.write_text(text if how == "link" else text[:-9])
        if how == "link":
            token.symlink_to(aside)
        else:
            aside.rename(token)


NEEDS_ROOT = pytest.mark.skipif(not IS_ROOT, reason="only root can give files away")


@pytest.mark.parametrize(
    "how", ["readable", pytest.param("foreign", marks=NEEDS_ROOT), "gone", "link", "short", "directory of others"]
)
def test_a_token_that_cant_be_trusted_lets_nobody_in(root: Path, provider: Provider, gate: Standing, how: str) -> None:
    spoil(root / "gate" / "token", how)
    refused(gate.ask(), 502, b"gate")
    assert provider.requests == []
    done = run("gate", "--env", "--port", str(gate.port))
    assert (done.returncode, done.stdout) == (1, "")
    assert str(root / "gate") in done.stderr
    done = run("gate", "--port", str(free_port()))
    assert (done.returncode, done.stdout) == (1, "")


def test_after_a_rotation_a_spoilt_token_serves_again(root: Path, gate: Standing) -> None:
    spoil(root / "gate" / "token", "readable")
    assert run("gate", "--rotate").returncode == 0
    assert gate.learn().ask().status == 200


def test_without_its_root_it_lets_nobody_in(root: Path, provider: Provider, gate: Standing) -> None:
    remove_tree(root)
    refused(gate.ask(), 502, b"token")
    assert provider.requests == []


# -- the port ---------------------------------------------------------------------------------------------------------


def test_a_second_one_on_the_port_is_told_the_firsts_pid(gate: Standing) -> None:
    done = run("gate", "--port", str(gate.port))
    assert done.returncode == 1
    assert f"pid {gate.process.pid}" in done.stderr
    assert gate.ask().status == 200


def test_of_two_that_start_at_once_one_serves_and_is_named() -> None:
    port = str(free_port())
    both = [start("gate", "--port", port) for _ in range(2)]
    until(lambda: any(each.poll() is not None for each in both))
    refused_one, served = sorted(both, key=lambda each: each.poll() is None)
    _, said = refused_one.communicate(timeout=20)
    assert refused_one.returncode == 1
    assert f"pid {served.pid}" in said
    served.terminate()
    served.communicate(timeout=20)
    assert served.returncode == -signal.SIGTERM


@pytest.mark.linux("elsewhere it can't be told who listens")
def test_another_program_on_the_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = run("gate", "--port", str(other.getsockname()[1]))
    assert done.returncode == 1
    assert f"pid {os.getpid()} (" in done.stderr


@pytest.mark.linux("elsewhere it can't be told who listens")
def test_one_of_another_root_is_named(gate: Standing, tmp_path: Path) -> None:
    done = run("gate", "--port", str(gate.port), env=environment(LEASECAP_HOME=str(tmp_path / "another")))
    assert done.returncode == 1
    assert f"pid {gate.process.pid} (" in done.stderr


def test_status_shows_it_while_it_runs(gate: Standing) -> None:
    assert status_json()["gates"] == [{"pid": gate.process.pid, "address": f"127.0.0.1:{gate.port}"}]
    assert f"gate 127.0.0.1:{gate.port} (pid {gate.process.pid})" in run("status").stdout
    gate.process.kill()
    gate.process.wait()
    assert status_json()["gates"] == []


# -- its end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])
def test_a_signal_ends_it_and_frees_its_slots(root: Path, provider: Provider, gate: Standing, name: str) -> None:
    for _ in range(3):
        assert gate.ask().status == 200  # from the second on it keeps its entry for the next one
    provider.plan((Latch(), *reply(200)))
    with gate.connect() as client, gate.connect() as waiter:
        client.send(gate.request())
        provider.request(4)
        waiter.send(gate.request())
        until(lambda: status().waiting == 1)
        gate.process.send_signal(getattr(signal, name))
        assert gate.await_end()[0] == -getattr(signal, name)
        found = status()
        assert (found.holders, found.waiters) == ((), ())
        assert client.await_end() == b""
    assert not (root / "gate" / str(gate.port)).exists()
    assert list(root.glob("pools/*/staging/*")) == []


def test_one_that_is_killed_frees_its_slots(provider: Provider, gate: Standing) -> None:
    provider.plan((Latch(), *reply(200)), reply(200))
    with gate.connect() as client:
        client.send(gate.request())
        provider.request()
        gate.process.kill()
        gate.process.wait()
        done = run("run", "-p", POOL, "-w", "10", "--", sys.executable, "-c", "")
        assert done.returncode == 0, done.stderr


def test_a_hang_up_that_is_ignored_doesnt_end_it(provider: Provider) -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        gate = Standing(provider)
    finally:
        signal.signal(signal.SIGHUP, ignored)
    with gate:
        gate.process.send_signal(signal.SIGHUP)
        assert gate.ask().status == 200
        gate.process.terminate()
        assert gate.await_end()[0] == -signal.SIGTERM
