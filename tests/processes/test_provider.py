"""Twenty processes and a provider whose real limit is lower than the configured one: they find it, and follow it.

The provider keeps the record. The figures of a long run are those of `provider_model`, which has a clock of its own.
"""

from __future__ import annotations

import http.client
import itertools
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import until
from helper_process import Helper
from places import TESTS

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Sends request after request, each under a slot, and tells the pool what was answered.
AGENT = """
import http.client, sys, leasecap
port = int(sys.argv[1])
while True:
    with leasecap.slot("p") as lease:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/")
        answer = connection.getresponse()
        answer.read()
        connection.close()
        lease.report(answer.status, retry_after=answer.headers.get("retry-after"))
"""

PROBE = 2.0


class Provider:
    """The provider's process, and its record."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str = "/") -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path)
        said = connection.getresponse().read().decode()
        connection.close()
        return said

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("GET"))
        return found


@contextmanager
def provider(limit: int, lag: float = 0.0, retry_after: str = "") -> Iterator[Provider]:
    command = [sys.executable, str(TESTS / "support" / "fake_provider.py"), str(limit), str(lag), retry_after]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Provider(int(process.stdout.readline()))
        finally:
            process.kill()


@contextmanager
def agents(count: int, port: int) -> Iterator[None]:
    started = [Helper(AGENT, port) for _ in range(count)]
    try:
        yield
    finally:
        for agent in started:
            agent.end()
            for pipe in (agent.process.stdin, agent.process.stdout):
                if pipe is not None:
                    pipe.close()


def effective_limit() -> int:
    found = leasecap.status("p").pools[0].limit
    assert isinstance(found, int)
    return found


def configure(root: Path, text: str) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(f"[pools.p]\n{text}")


@pytest.mark.long
def test_the_effective_limit_finds_the_providers_and_follows_when_it_doubles(root: Path) -> None:
    configure(root, f"limit = 20\ncooldown = 0.2\nprobe_interval = {PROBE}\n")
    with provider(4, lag=0.1) as server, agents(20, server.port):
        until(lambda: effective_limit() in (3, 4, 5) and len(server.record()["arrived"]) > 40)
        before = server.record()
        time.sleep(2 * PROBE)  # how it does in steady work is what is asked
        after = server.record()
        sent = len(after["arrived"]) - len(before["arrived"])
        refused = len(after["refused"]) - len(before["refused"])
        assert sent > 20
        # A probe a few seconds apart meets the limit far more often than one a minute apart does.
        assert refused <= 8
        assert (after["used"] - before["used"]) / (after["room"] - before["room"]) > 0.5
        assert effective_limit() in (2, 3, 4, 5)
        server.ask("PUT", "/8")
        until(lambda: effective_limit() >= 7)


def test_nothing_is_sent_while_a_retry_after_holds(root: Path) -> None:
    configure(root, 'limit = 20\nadaptive = "off"\nstagger = 0.1\n')
    with provider(1, retry_after="2") as server, agents(6, server.port):
        until(lambda: len(server.record()["refused"]) >= 7)
        record = server.record()
    # Six agents that send again at once leave no such gap by themselves.
    arrived = sorted(record["arrived"])
    assert max(later - earlier for earlier, later in itertools.pairwise(arrived)) > 1.5
