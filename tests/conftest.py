"""A root of its own for every test, whatever the developer's environment says."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import staged_world
from hypothesis import settings
from places import PLATFORM, TESTS
from referee import Team
from stores import leave_servers

from leasecap._config.root import root_path
from leasecap._latency import latencies
from leasecap._runtime import runtime

# A machine that many share makes any single example slow at times; pytest-timeout guards against hanging.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")

# What runs in the background ignores these (SIGINT and SIGQUIT by the shell, SIGHUP by nohup), and exec keeps that: no
# command of a test would end by them.
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in ("SIGHUP", "SIGQUIT"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


# These import what only `leasecap run` has, which can't be imported there.
collect_ignore_glob = ["processes/test_gate_*", "cli/test_endings.py"] if PLATFORM == "win32" else []


def pytest_xdist_auto_num_workers() -> int:
    """Three for two cores: most tests wait for processes and clocks for half of their time."""
    return (os.cpu_count() or 1) * 3 // 2


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark each test with the name of its folder."""
    item.add_marker(item.path.relative_to(TESTS).parts[0])
    for name, here in (("linux", PLATFORM == "linux"), ("posix", PLATFORM != "win32")):
        needed = item.get_closest_marker(name)
        if needed is not None and not here:
            item.add_marker(pytest.mark.skip(f"{name}: {needed.args[0]}"))


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's processes keep their pools; not created yet."""
    for name in [name for name in os.environ if name.startswith("LEASECAP_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "root"
    monkeypatch.setenv("LEASECAP_HOME", str(path))
    opened = root_path()
    yield path
    latencies.end()
    runtime.close(opened)
    leave_servers()
    staged_world.close_all()


@pytest.fixture(autouse=True)
def edits_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process what a test writes into config.toml counts at once, as what `leasecap limit` writes does."""
    monkeypatch.setattr("leasecap._config.config_file.is_sealed", lambda root, text: True)


@pytest.fixture(params=["os", "directory"])
def kind(request: pytest.FixtureRequest) -> str:
    """Of the pool's lock."""
    if request.param == "os" and PLATFORM == "win32":
        pytest.skip("Windows: no OS locks")
    return str(request.param)


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    with Team(tmp_path) as team:
        yield team


@pytest.fixture
def lock(kind: str) -> str:
    """The same, where a test has other kinds."""
    return kind


@pytest.fixture
def actors(root: Path, kind: str) -> tuple[staged_world.Actor, staged_world.Actor]:
    """Two processes in a pool with one slot."""
    return staged_world.Actor(root, kind=kind), staged_world.Actor(root, kind=kind)


@pytest.fixture
def pool(root: Path) -> None:
    """A pool "p" of one slot, whose heartbeats are frequent."""
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.p]\nlimit = 1\nstale_after = 3\nheartbeat = 0.05\n")
