"""Leases under gates, gates under leases, gates under gates: at a limit of 1, none may wait for itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from commands import PROGRAM, run, status
from gated import environment_of
from provider import Provider

ASK = """
import http.client, os, sys
from urllib.parse import urlsplit
url = urlsplit(os.environ["ANTHROPIC_BASE_URL"])
def ask():
    client = http.client.HTTPConnection(url.hostname, url.port, timeout=50)
    client.request("POST", url.path + "/v1/messages", b"{}", {"Content-Type": "application/json"})
    print(client.getresponse().status)
"""
ONCE = ASK + "ask()"
UNDER_A_SLOT = ASK + "import leasecap\nwith leasecap.slot('p', limit=1):\n    ask()"
LEASED = ("run", "-p", "p", "--limit", "1", "--")
GATED = ("run", "--per-request", "-p", "p", "--limit", "1", "-w", "20s", "--")
PYTHON = (sys.executable, "-c")


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(cap=1) as provider:
        yield provider


def served(provider: Provider, *command: str) -> None:
    done = run(*command, env=environment_of(provider))
    assert (done.returncode, done.stdout.split()) == (0, ["200"]), done.stderr
    assert len(provider.requests) == 1 and "made no request" not in done.stderr
    assert status().in_flight == 0


def test_gate_under_a_lease_borrows_its_slot(provider: Provider) -> None:
    served(provider, *LEASED, *PROGRAM, *GATED, *PYTHON, ONCE)


def test_command_leased_under_a_gate_needs_one_slot(provider: Provider) -> None:
    served(provider, *GATED, *PROGRAM, *LEASED, *PYTHON, ONCE)


@pytest.mark.linux("the asking process is found by its socket")
def test_block_leased_under_a_gate_lends_its_slot(provider: Provider) -> None:
    served(provider, *GATED, *PYTHON, UNDER_A_SLOT)


def test_gate_under_a_gate_leaves_metering_to_it(provider: Provider) -> None:
    served(provider, *GATED, *PROGRAM, *GATED, *PYTHON, ONCE)


def test_gate_under_a_gate_needs_no_pool(provider: Provider) -> None:
    served(provider, *GATED, *PROGRAM, "run", "--per-request", "--", *PYTHON, ONCE)


def test_gate_under_two_gates_leaves_metering_to_the_last(provider: Provider) -> None:
    served(provider, *GATED, *PROGRAM, *GATED, *PROGRAM, *GATED, *PYTHON, ONCE)


def test_lease_between_two_gates_needs_one_slot(provider: Provider) -> None:
    served(provider, *GATED, *PROGRAM, *LEASED, *PROGRAM, *GATED, *PYTHON, ONCE)
