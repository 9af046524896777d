"""The library's face: what it takes, what it refuses, and what it gives back."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from callers import everywhere
from places import REPOSITORY

import leasecap
from leasecap import AcquireTimeout, ConfigError, LeasecapError, LeaseLost, StoreError

TYPE_CHECKING = False


pytestmark = pytest.mark.usefixtures("pool")


def configure(root: Path, more: str) -> None:
    (root / "config.toml").write_text(f"[pools.p]\nlimit = 1\nstale_after = 3\nheartbeat = 0.05\n{more}")


def in_flight() -> int:
    return leasecap.status("p").pools[0].in_flight


# -- arguments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": True}, TypeError),
        ({"timeout": "5"}, TypeError),
        ({"timeout": math.nan}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": -math.inf}, ValueError),
        ({"limit": True}, TypeError),
        ({"limit": 2.0}, TypeError),
        ({"limit": "2"}, TypeError),
        ({"limit": 0}, ValueError),
        ({"limit": -1}, ValueError),
        ({"limit": 1_000_001}, ValueError),
        ({"limit": 10**5000}, ValueError),
        ({"priority": False}, TypeError),
        ({"priority": None}, TypeError),
        ({"priority": 1.0}, TypeError),
        ({"priority": 100}, ValueError),
        ({"task_since": "now"}, TypeError),
        ({"task_since": True}, TypeError),
        ({"task_since": 12.5}, ValueError),
        ({"task_since": -1e9}, ValueError),
        ({"task_since": float("nan")}, ValueError),
        ({"task_since": float("inf")}, ValueError),
        ({"priority": -100}, ValueError),
        ({"label": b"label"}, TypeError),
        ({"on_lost": 5}, TypeError),
        ({"on_wait": "x"}, TypeError),
        ({"tiemout": 5}, TypeError),
    ],
    ids=lambda value: None if value == {"limit": 10**5000} else repr(value),
)
def test_arguments_that_cannot_be_meant_are_refused_before_anything_is_done(
    root: Path, options: dict[str, object], error: type[Exception]
) -> None:
    for call in everywhere():
        with pytest.raises(error, match=next(iter(options))):
            call(**options)
    pools = root / "pools"
    assert not pools.exists() or not list(pools.glob("*/*/*"))


def test_the_highest_limit_that_may_stand_in_the_file_may_be_declared() -> None:
    leasecap.acquire("p", limit=1_000_000).release()


def test_a_count_that_can_not_be_asked_is_refused() -> None:
    with pytest.raises(TypeError, match="count must be a function, or None, not 3"):
        leasecap.set_usage("p", 3)  # type: ignore[arg-type]


def test_a_misspelt_keyword_of_limited_is_an_error_of_the_decoration() -> None:
    with pytest.raises(TypeError, match="tiemout"):
        leasecap.limited("p", tiemout=5)  # type: ignore[call-arg]


@pytest.mark.parametrize("as_task", [False, True])
def test_a_lease_that_was_released_can_not_be_entered(as_task: bool) -> None:
    lease = leasecap.acquire("p")
    with lease:
        pass

    async def enter() -> None:
        async with lease:
            raise AssertionError("it was entered")

    with pytest.raises(RuntimeError, match=r"released.* can't be entered"):
        if as_task:
            asyncio.run(enter())
        else:
            lease.__enter__()
    assert in_flight() == 0


def test_a_call_for_a_pool_that_nobody_knows_leaves_none_behind(root: Path) -> None:
    """A misspelt name counted as known from then on, and `leasecap limit` set a limit for it without asking."""
    for call in (leasecap.acquire, leasecap.try_acquire):
        with pytest.raises(ConfigError, match="'cluade' has no limit"):
            call("cluade")
    assert [pool.pool for pool in leasecap.status().pools] == ["p"]
    with leasecap.acquire("cluade", limit=1), pytest.raises(AcquireTimeout):
        leasecap.acquire("cluade", timeout=0, borrow=False)  # what others declare counts


def test_a_bad_pool_name_is_refused(root: Path) -> None:
    for name in ("", "..", "a\0b", "x" * 10_000):
        with pytest.raises(ConfigError):
            leasecap.acquire(name)
    with pytest.raises((TypeError, ConfigError)):
        leasecap.acquire(None)  # type: ignore[arg-type]
    assert not list((root / "pools").glob("*"))


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        AcquireTimeout("p", 4, ["pid 1 (x)"], 3, 1.5),
        ConfigError("bad", file="f", key="k", value="v", allowed="a", line=7),
        LeaseLost("p", "0123456789abcdef"),
        LeaseLost("p", "0123456789abcdef", gone=False, max_hold=1.5),
        StoreError("broken", path="/x", remedy="mend it"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling_with_all_they_carry(error: LeasecapError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.__dict__ == error.__dict__
    assert (str(again), again.args) == (str(error), error.args)
    assert isinstance(again, LeasecapError)


@pytest.mark.parametrize(
    ("position", "waited", "told"),
    [
        (0, 0.04, "is free now (limit 4)"),
        (1, 0.04, "came free in 0.0 s (limit 4, position 1 in the queue)"),
        (0, 6.0, "is free now, after 6.0 s (limit 4)"),  # a server had just begun
    ],
)
def test_a_time_that_was_waited_is_told(position: int, waited: float, told: str) -> None:
    assert str(AcquireTimeout("p", 4, [], position, waited)) == f"no slot of pool 'p' {told}"


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
def test_a_transports_module_is_found_by_its_name(name: str) -> None:
    code = f"import sys, leasecap; print('leasecap.{name}' in sys.modules, leasecap.{name}.Client.__name__)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False Client\n"


# -- the fixture for those who test with leasecap -------------------------------------------------------------------

THEIR_TEST = """
import os, pytest, leasecap

def test_it(leasecap_root, tmp_path):
    assert leasecap_root.is_relative_to(tmp_path)
    assert leasecap.status().root == str(leasecap_root) == os.environ["LEASECAP_HOME"]
    assert [name for name in os.environ if name.startswith("LEASECAP_")] == ["LEASECAP_HOME"]
    with pytest.raises(leasecap.ConfigError):
        leasecap.acquire("p")
    with leasecap.slot("p", limit=2):
        assert leasecap.status("p").pools[0].in_flight == 1

@pytest.mark.parametrize("time", range(100))
def test_it_with_the_hundred_descriptors_that_some_shells_allow(time, leasecap_root):
    resource = pytest.importorskip("resource")
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with leasecap.slot("p", limit=2):
        pass
"""


def test_the_pytest_fixture_gives_a_root_of_its_own_without_configuration(root: Path, tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(THEIR_TEST)
    # Where the package is installed pytest loads it by itself; named twice it would complain.
    env = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "LEASECAP_POOL": "x",
        "LEASECAP_STORE": "redis://127.0.0.1:1",
        "LEASECAP_GATE": "http://127.0.0.1:1/",
        "PYTHONPATH": str(REPOSITORY),
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "leasecap.testing",
        "-p",
        "no:cacheprovider",
        "test_theirs.py",
    ]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert not (root / "pools").exists()
