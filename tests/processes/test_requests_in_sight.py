"""What `status` shows of the requests of gates: agent, provider, model, and how far each is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import run, status, status_json, until
from gated import POOL, Gated
from provider_steps import Latch, refuse, reply, stream
from standing import Standing

import leasecap

if TYPE_CHECKING:
    from provider import Provider

pytestmark = pytest.mark.posix("there are no gates")

AGENT = Path(sys.executable).name
KEY = b"sk-ant-very-secret-0123456789"
PROMPT = "a prompt that nobody else reads"
BODY = json.dumps({"model": "m-1", "messages": PROMPT}).encode()


def seen() -> leasecap.HttpRequest | None:
    """Of the one who holds."""
    (holder,) = status().holders
    return holder.request


def phase() -> str | None:
    found = status().holders
    return found[0].request.phase if found and found[0].request is not None else None


@pytest.mark.parametrize("lock", ["os", "directory"])
def test_a_request_is_seen_queued_sent_and_streaming(root: Path, provider: Provider, lock: str) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(f'[pools.{POOL}]\nlock = "{lock}"\n')
    head, rest = Latch(), Latch()
    provider.plan((head, *stream(b"data: 1\n\n", rest)))
    with Gated(provider) as gate, gate.connect() as first, gate.connect() as second:
        first.send(gate.request(body=BODY))
        provider.request()
        assert seen() == leasecap.HttpRequest(AGENT, "anthropic", "m-1", "sent", None)
        second.send(gate.request(name=b"openai", target=b"/v1/responses", body=b"not json"))
        until(lambda: status().waiting == 1)
        assert status().waiters[0].request == leasecap.HttpRequest(AGENT, "openai", None, "queued", None)
        head.set()
        until(lambda: phase() == "streaming")
        (holder,) = status().holders
        assert holder.request is not None and holder.held_for is not None
        assert holder.request.first_byte_after is not None
        assert 0 <= holder.request.first_byte_after <= holder.held_for
        assert holder.label is None
        rest.set()
        assert first.answer().status == 200
        assert second.answer().status == 200


def test_the_next_request_on_the_same_entry_begins_anew(provider: Provider) -> None:
    with Gated(provider) as gate, gate.connect() as client:
        for _ in range(3):  # from the second release on the entry is used again
            latch = Latch()
            provider.plan((latch, *reply(200)))
            number = len(provider.requests) + 1
            client.send(gate.request(body=BODY))
            provider.request(number)
            assert phase() == "sent"
            latch.set()
            assert client.answer().status == 200


def test_one_that_is_sent_again_awaits_its_first_byte_again(provider: Provider) -> None:
    latch = Latch()
    provider.plan(refuse(429, b"0"), (latch, *reply(200)))
    with Gated(provider) as gate, gate.connect() as client:
        client.send(gate.request(body=BODY))
        provider.request(2)
        assert phase() == "sent"
        latch.set()
        assert client.answer().status == 200


def test_a_heartbeat_doesnt_forget_the_first_byte(root: Path, provider: Provider) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(f"[pools.{POOL}]\nheartbeat = 0.2\n")
    rest = Latch()
    provider.plan(stream(b"data: 1\n\n", rest))
    with Gated(provider) as gate, gate.connect() as client:
        client.send(gate.request(body=BODY))
        until(lambda: phase() == "streaming")
        (alive,) = root.glob("pools/*/leases/*/alive")
        noted = alive.read_bytes()[:16]
        until(lambda: alive.read_bytes()[:16] != noted)
        assert phase() == "streaming"
        rest.set()
        assert client.answer().status == 200


def test_a_label_stands_beside_the_request(provider: Provider) -> None:
    latch = Latch()
    provider.plan((latch, *reply(200)))
    with Gated(provider, "-l", "mine") as gate, gate.connect() as client:
        client.send(gate.request(body=BODY))
        provider.request()
        assert f"mine: {AGENT} m-1 at anthropic" in run("status").stdout
        assert status().holders[0].label == "mine"
        latch.set()
        assert client.answer().status == 200


@pytest.mark.parametrize(
    ("lines", "agent"),
    [
        ((b"User-Agent: claude-cli/2.1.197 (external, cli)",), "claude-cli"),
        ((b"User-Agent: OpenAI/Python 2.3.0",), "OpenAI"),
        ((b"User-Agent: python-httpx",), "python-httpx"),
        ((b"User-Agent: \x1b[31mred",), None),
        ((b"User-Agent: " + b"x" * 41,), None),
        ((b"User-Agent: " + KEY,), "***"),
        ((), None),
    ],
)
def test_who_asks_a_gate_that_stays_is_what_it_calls_itself(
    provider: Provider, lines: tuple[bytes, ...], agent: str | None
) -> None:
    latch = Latch()
    provider.plan((latch, *reply(200)))
    assert run("limit", provider.url, "1").returncode == 0
    with Standing(provider) as gate, gate.connect() as client:
        client.send(gate.request(b"POST", b"/v1/messages", *lines, body=BODY))
        provider.request()
        [holder] = [holder for pool in status_json()["pools"] for holder in pool["holders"]]
        assert holder["request"]["agent"] == agent
        latch.set()
        assert client.answer().status == 200


def test_nothing_secret_of_a_request_is_in_status(root: Path, provider: Provider) -> None:
    latch = Latch()
    provider.plan((latch, *stream(b"data: 1\n\n")))
    with Gated(provider, base="/secret-path") as gate, gate.connect() as client:
        lines = (b"x-api-key: " + KEY, b"Authorization: Bearer " + KEY, b"User-Agent: a/1 " + KEY)
        client.send(gate.request(b"POST", b"/secret-path/v1/messages?key=" + KEY, *lines, body=BODY))
        provider.request()
        shown = run("status", "--json").stdout + run("status").stdout
        assert '"phase": "sent"' in shown and "m-1" in shown
        for secret in (KEY.decode(), gate.token, PROMPT, "secret-path"):
            assert secret not in shown
        latch.set()
        assert client.answer().status == 200
