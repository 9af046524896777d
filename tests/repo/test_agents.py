"""scripts/agents: what its judge finds, each seen to be found, and what it says where something is missing."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from provider_formats import answer
from provider_steps import CRLF, Request

import leasecap
from _agents import __main__ as script
from _agents.case import Result, verdict
from _agents.clients import CLIENTS, KEY, PREFIX
from _agents.judge import Judge
from _agents.network import Lookups
from leasecap._gate.clients import AGENTS

HOST = b"Host: 127.0.0.1:4000"
CLAUDE = next(client for client in CLIENTS if client.id == "claude")


def request(target: str = f"{PREFIX}/v1/messages", *lines: bytes, key: str = KEY, host: bytes = HOST) -> Request:
    head = CRLF.join([f"POST {target} HTTP/1.1".encode(), host, f"X-Api-Key: {key}".encode(), *lines, b"", b""])
    return Request(1, head, 0.0)


def found(*requests: Request, slots: int | None = None, most: int = 1, refused: int = 0) -> list[str]:
    """What is wrong with these, as the requests of Claude Code."""
    judge = Judge("p")
    judge.metered += requests
    judge.slots = len(requests) if slots is None else slots
    return verdict(CLAUDE, judge, 4000, most, refused)


def test_a_request_that_is_as_it_must_be_is_not_complained_of() -> None:
    assert found(request()) == []
    assert found(request(), request(f"{PREFIX}/v1/messages?beta=true")) == []


@pytest.mark.parametrize(
    ("altered", "complaint"),
    [
        (request("/v1/messages"), "the path of the base URL was altered"),
        (request(f"{PREFIX}/v1/complete"), "nobody asked for"),
        (request(key="another"), "its key did not arrive in x-api-key as it was"),
        (request(host=b"Host: 127.0.0.1:4001"), "this is not the provider's host"),
        (request(f"{PREFIX}/v1/messages", b"X-Leasecap-Gate: t"), "the gate's token went on to the provider"),
    ],
)
def test_a_request_that_was_altered_is_found(altered: Request, complaint: str) -> None:
    assert any(complaint in line for line in found(request(), altered))


def test_requests_without_slots_and_beyond_the_limit_are_found() -> None:
    assert found(request(), request(), slots=1) == ["1 requests came without a slot"]
    assert any("2 requests were in flight at once" in line for line in found(request(), most=2))
    assert any("1 refused" in line for line in found(request(), refused=1))
    assert any("no request came that costs something" in line for line in found())


def test_the_judge_sees_whether_a_slot_is_held_for_a_request() -> None:
    judge = Judge("p")
    assert judge(request()) != answer(request())  # slower
    assert (len(judge.metered), judge.slots) == (1, 0)
    with leasecap.slot("p", limit=1):
        judge(request())
    assert (len(judge.metered), judge.slots) == (2, 1)


def test_what_lacks_ends_a_run_of_ci_and_is_left_out_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "BUILD", tmp_path / "build")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"Claude Code can't be installed: node and npm not found on PATH"):
        script.install_all([CLAUDE], ci=True)
    with pytest.raises(SystemExit, match="nothing is there to be played"):
        script.install_all([CLAUDE], ci=False)
    assert "Claude Code is left out: node and npm not found" in capsys.readouterr().out


def test_the_table_has_a_line_for_each_case() -> None:
    lines = script.table([Result(CLAUDE, "", 1, 1), Result(CLAUDE, "two sessions", 2, 1, broken=["x"])])
    assert [line.split()[-3:] for line in lines[1:]] == [["1", "1", "ok"], ["2", "1", "FAILED"]]
    assert lines[2].startswith("Claude Code, two sessions  2.1.197  ANTHROPIC_BASE_URL")


def test_every_agent_of_the_table_that_can_be_installed_is_played() -> None:
    not_to_be_had = {"ollama"}  # a server with models, and no package
    reached = {name for name, agent in AGENTS.items() if agent.reached}
    assert reached - not_to_be_had <= {client.id for client in CLIENTS}
    assert {client.id for client in CLIENTS if client.ci} == {"claude", "codex", "openai", "anthropic"}


def test_the_name_server_keeps_what_it_is_asked_for_and_knows_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, Lookups(("127.0.0.1", 0)) as lookups:
        client.settimeout(20)
        question = b"\3API\7example\3com\0\0\1\0\1"
        client.sendto(b"\x12\x34\1\0\0\1\0\0\0\0\0\1" + question + b"an option", lookups.address)
        reply = client.recv(4096)
    assert lookups.names == ["api.example.com"]
    assert reply == b"\x12\x34\x81\x83\0\1\0\0\0\0\0\0" + question
