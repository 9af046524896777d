"""What goes wrong beside the requests while a gate serves: never a way past the pool, and no word on the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import remove_tree, run, status, until
from gate_inside import GateInside
from gated import Gated, configure
from gated_terminal import GatedTerminal
from places import IMPORTABLE
from provider_steps import HANG, Latch, refuse, reply, stream
from raw_http import BrokenError

import leasecap
from leasecap._errors import StoreError
from leasecap._gate import gate as gate_module
from leasecap._lease import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from provider import Provider

LIMITED = "limit = 1\nstagger = 0\n"

FULL = """
import os, subprocess, sys
place = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place], check=True)
os.environ["LEASECAP_HOME"] = os.path.join(place, "root")
from gated import Gated
from provider import Provider
with Provider() as provider, Gated(provider) as gate:
    statuses = []
    filler = os.path.join(place, "filler")
    try:
        with open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        pass
    for _ in range(3):
        found = gate.ask()
        statuses.append((found.status, b"disk is full" in found.body))
    came = len(provider.requests)
    os.unlink(filler)
    print(statuses, came, gate.ask().status, gate.end()[0])
"""


# -- the pool ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def gate(root: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[GateInside]:
    """Its limit is in the file alone."""
    configure(root, LIMITED)
    with GateInside(provider, monkeypatch, limit=None) as gate:
        yield gate


def refused(gate: Gated, *words: bytes) -> None:
    """A request gets the gate's own 502, which says these words."""
    found = gate.ask()
    assert found.status == 502 and b"leasecap: " in found.body, found
    assert found.head.values(b"x-leasecap") == [b"1"]
    for word in words:
        assert word in found.body


def test_a_limit_that_is_gone_is_no_bypass(root: Path, provider: Provider, gate: GateInside) -> None:
    assert gate.ask().status == 200
    (root / "config.toml").write_text("")
    refused(gate, b"limit")
    (root / "config.toml").write_text("[pools.p]\nlimit = 2\n")
    assert gate.ask().status == 200
    assert len(provider.requests) == 2


def test_a_broken_configuration_is_no_bypass(root: Path, provider: Provider, gate: GateInside) -> None:
    (root / "config.toml").write_text("[pools.p\n")
    refused(gate, b"config.toml")
    (root / "config.toml").write_text("[pools.p]\nlimit = 1\n")
    assert gate.ask().status == 200
    assert len(provider.requests) == 1


def test_a_root_that_is_gone_is_no_bypass(root: Path, provider: Provider, gate: GateInside) -> None:
    assert gate.ask().status == 200
    remove_tree(root)
    refused(gate, b"limit")
    remove_tree(root)
    configure(root, LIMITED)
    assert gate.ask().status == 200
    assert len(provider.requests) == 2


def test_a_root_that_is_gone_is_made_anew_where_the_limit_is_known(root: Path, provider: Provider) -> None:
    with Gated(provider) as gate:
        assert gate.ask().status == 200
        remove_tree(root)
        provider.plan((latch := Latch(), *reply(200)))
        with gate.connect() as client:
            client.send(gate.request())
            provider.request(2)
            assert status().in_flight == 1
            latch.set()
            assert client.answer().status == 200


def test_a_root_that_is_gone_while_slots_are_held_costs_no_answer(root: Path, provider: Provider) -> None:
    provider.plan(stream(b"data: 1\n\n", latch := Latch(), b"data: 2\n\n"))
    with Gated(provider) as gate, gate.connect() as client:
        client.send(gate.request())
        client.up_to(b"data: 1\n\n\r\n")
        remove_tree(root)
        latch.set()
        client.up_to(b"0\r\n\r\n")
        assert client.ask(gate.request()).status == 200


def test_a_state_that_cant_be_read_is_no_bypass(root: Path, provider: Provider, gate: GateInside) -> None:
    assert gate.ask().status == 200
    [pool] = root.glob("pools/*")
    (pool / "feedback").mkdir(exist_ok=True)
    (pool / "feedback" / "state.json").write_text("{")
    refused(gate, b"state.json")
    assert run("resume", "p").returncode == 0
    assert gate.ask().status == 200


def test_a_full_disk_is_no_bypass(tmp_path: Path) -> None:
    if sys.platform != "linux" or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace")
    place = tmp_path / "mount"
    place.mkdir()
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", FULL, str(place)],
        env={**os.environ, "PYTHONPATH": IMPORTABLE},
        capture_output=True,
        text=True,
    )
    if "'tmpfs'" in done.stderr:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr}")
    assert (done.stdout, done.stderr) == (f"{[(502, True)] * 3} 0 200 0\n", "")


@pytest.mark.parametrize("error", [StoreError("no", path="p", remedy="r"), OSError(28, "full")], ids=["store", "OS"])
@pytest.mark.parametrize("status", [200, 429])
def test_a_report_that_cant_be_noted_costs_no_answer(
    provider: Provider, gate: GateInside, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Lease, "tell", fails)
    provider.plan(refuse(429, b"100") if status == 429 else reply(200))
    assert gate.ask().status == status
    until(lambda: gate.told)
    assert [line for line in gate.told if "could not be noted" not in line] == []


# -- what people do ---------------------------------------------------------------------------------------------------


def test_a_slot_that_a_person_releases_is_free_and_its_request_goes_on(provider: Provider) -> None:
    provider.plan(stream(b"data: 1\n\n", latch := Latch(), b"data: 2\n\n"), reply(200))
    with Gated(provider) as gate, gate.connect() as client:
        client.send(gate.request())
        client.up_to(b"data: 1\n\n\r\n")
        assert run("release", "--yes", status().holders[0].id).returncode == 0
        assert gate.ask().status == 200
        latch.set()
        client.up_to(b"0\r\n\r\n")
        client.close()
        code, said = gate.end()
    assert (code, said.count("\n")) == (0, 1)
    assert said.startswith("leasecap: the slot of a request to p was lost (")


def test_a_paused_pool_holds_requests_until_it_is_resumed(provider: Provider, gate: GateInside) -> None:
    assert gate.ask().status == 200
    assert run("pause", "p").returncode == 0
    with gate.connect() as client:
        client.send(gate.request())
        until(lambda: status().waiting == 1)
        assert client.is_silent()
        assert len(provider.requests) == 1
        assert run("resume", "p").returncode == 0
        assert client.answer().status == 200


def test_a_limit_that_is_raised_lets_more_in(root: Path, provider: Provider, gate: GateInside) -> None:
    latches = [Latch(), Latch()]
    provider.plan(*((latch, *reply(200)) for latch in latches))
    with gate.connect() as first, gate.connect() as second:
        first.send(gate.request())
        provider.request()
        second.send(gate.request())
        until(lambda: status().waiting == 1)
        assert run("limit", "p", "2").returncode == 0
        provider.request(2)
        for latch in latches:
            latch.set()
        assert (first.answer().status, second.answer().status) == (200, 200)


@pytest.mark.parametrize("begun", [False, True])
def test_a_request_beyond_max_hold_is_broken_off(provider: Provider, begun: bool) -> None:
    provider.plan(stream(b"data: 1\n\n", Latch()) if begun else (HANG,))
    with Gated(provider, "--max-hold", "2") as gate, gate.connect() as client:
        client.send(gate.request())
        if begun:
            client.head()
            with pytest.raises(BrokenError):
                client.up_to(b"0\r\n\r\n")
        else:
            found = client.answer()
            assert found.status == 504 and b"max_hold" in found.body
        assert provider.ended().gone is not None
        until(lambda: status().in_flight == 0)
        assert client.ask(gate.request()).status == 200 if not begun else gate.ask().status == 200


# -- silence ----------------------------------------------------------------------------------------------------------


def test_nothing_is_said_while_the_command_has_the_terminal(root: Path, provider: Provider, tmp_path: Path) -> None:
    with GatedTerminal(provider, tmp_path, "-v", limit=2) as gate:
        assert gate.ask().status == 200
        for _ in range(2):
            assert gate.ask(b"POST", b"/v1/unheard-of").status == 200
        provider.plan(stream(b"data: 1\n\n", latch := Latch()))
        with gate.connect() as client:
            client.send(gate.request())
            client.up_to(b"data: 1\n\n")
            assert run("release", "--yes", status().holders[0].id).returncode == 0
            latch.set()
            client.up_to(b"0\r\n\r\n")
        provider.plan((b"HTTP/1.1 broken\r\n\r\n",))
        assert gate.ask().status == 502
        (root / "config.toml").write_text("[pools.p\n")
        for _ in range(2):
            assert gate.ask().status == 502
        gate.screen.type("\n")
        said = gate.screen.expect(r"\A(?s:(.*))ended with status 0\r\n")[1]
        begun, _, after = said.partition("end\r\n")
        assert begun == ""
        lines = after.splitlines()
        assert len(lines) == len(set(lines))
        for word in ("/v1/unheard-of is not known", "was lost"):
            assert sum(word in line for line in lines) == 1


def test_waiting_is_not_told(provider: Provider, tmp_path: Path) -> None:
    provider.plan((latch := Latch(), *reply(200)))
    with GatedTerminal(provider, tmp_path) as gate, gate.connect() as holder, gate.connect() as waiter:
        holder.send(gate.request())
        provider.request()
        waiter.send(gate.request())
        until(lambda: status().waiting == 1)
        until(lambda: (status().waiters[0].waited or 0) > 1.5)  # a wait for a slot is told after a second
        latch.set()
        holder.answer()
        waiter.answer()
        gate.screen.type("\n")
        assert gate.screen.expect(r"\A(?s:(.*?))end\r\n")[1] == ""


# -- silent gates -----------------------------------------------------------------------------------------------------


def test_a_silent_gate_shows_in_status_until_a_request_comes(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "SILENT_AFTER", 0.01)
    with GateInside(provider, monkeypatch) as gate:
        until(lambda: json.loads(run("status", "--json").stdout)["silent_gates"])
        [shown] = json.loads(run("status", "--json").stdout)["silent_gates"]
        assert shown == {"pid": os.getpid(), "command": "agent"}
        lines = [line for line in run("status").stdout.splitlines() if f"pid {os.getpid()}" in line]
        assert len(lines) == 1 and lines[0].startswith("agent ") and "no request that takes a slot" in lines[0]
        assert gate.ask(b"GET", b"/v1/models", body=None).status == 200
        assert json.loads(run("status", "--json").stdout)["silent_gates"]
        assert gate.ask().status == 200
        assert json.loads(run("status", "--json").stdout)["silent_gates"] == []


def test_a_silent_gate_that_ends_is_forgotten(root: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "SILENT_AFTER", 0.01)
    with GateInside(provider, monkeypatch):
        until(lambda: list(root.glob("gates/*-*")))
    assert list(root.glob("gates/*")) == []


def test_a_gate_that_served_is_never_silent(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    with GateInside(provider, monkeypatch) as gate:
        assert gate.ask().status == 200
        gate.gate._note_silence("agent")
        assert leasecap.status().silent_gates == ()


def test_a_silence_that_cant_be_noted_is_told(root: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "SILENT_AFTER", 0.01)
    root.mkdir()
    (root / "gates").write_text("in the way")
    with GateInside(provider, monkeypatch) as gate:
        until(lambda: gate.told)
        assert "could not be noted" in gate.told[0]
        assert gate.ask().status == 200
