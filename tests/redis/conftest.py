"""Servers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_server import SOFTWARE, RedisServer, running

from leasecap._config.store_address import parse_address
from leasecap._redis_store import connections
from leasecap._redis_store.client import Client


@pytest.fixture(
    scope="module", params=[SOFTWARE[0], *(pytest.param(other, marks=pytest.mark.long) for other in SOFTWARE[1:])]
)
def software(request: pytest.FixtureRequest) -> str:
    """Which server: each test that has one runs with both."""
    return str(request.param)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server on a busy machine stands still for longer than a second now and then."""
    monkeypatch.setattr(connections, "ANSWER_WITHIN", 20.0)


@pytest.fixture
def server(software: str, tmp_path: Path) -> Iterator[RedisServer]:
    """An empty one that forgets everything when it is started again."""
    with running(software, tmp_path / "server") as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[Client]:
    client = Client(parse_address(server.url()))
    yield client
    client.close()
