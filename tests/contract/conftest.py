"""What holds on every store: each test runs on files and on a server.

A test of this folder knows the public API and the command line alone. It names the store nowhere: LEASECAP_STORE does,
for all its processes, and `Team.configure` and `pool` tell a server what config.toml says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from each_store import STORES
from memory_store import serve_from_memory
from redis_server import SOFTWARE, RedisServer, running
from referee import Team
from stores import MEMORY, Store


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], RedisServer]]:
    """A server of each software, which all tests of this process share; each is started when it is asked for."""
    with ExitStack() as ending:

        @cache
        def server(software: str) -> RedisServer:
            return ending.enter_context(running(software, tmp_path_factory.mktemp(software)))

        yield server


@pytest.fixture(params=STORES)
def store(
    request: pytest.FixtureRequest,
    root: Path,
    servers: Callable[[str], RedisServer],
    monkeypatch: pytest.MonkeyPatch,
) -> Store:
    """Where the pools of this test are kept."""
    kind = request.param
    store = Store(kind, servers(kind) if kind in SOFTWARE else None)
    if kind == MEMORY:
        serve_from_memory(monkeypatch)
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return store


@pytest.fixture
def team(tmp_path: Path, store: Store) -> Iterator[Team]:
    with Team(tmp_path, store) as team:
        yield team


@pytest.fixture
def pool(root: Path, store: Store) -> None:
    """A pool "p" of one slot, whose holders say often that they live."""
    root.mkdir(mode=0o700, exist_ok=True)
    (root / "config.toml").write_text("[pools.p]\nlimit = 1\nstale_after = 10\nheartbeat = 0.05\n")
    store.publish(root)
