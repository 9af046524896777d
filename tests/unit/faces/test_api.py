"""The library's face: what it takes, what it refuses, and what it gives back."""

from __future__ import annotations

import asyncio
import math
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from places import REPOSITORY

import leasecap
from leasecap import UNSET, AcquireTimeout, ConfigError, Lease, LeasecapError, LeaseLost, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


pytestmark = pytest.mark.usefixtures("pool")


def configure(root: Path, more: str) -> None:
    (root / "config.toml").write_text(f"[pools.p]\nlimit = 1\nstale_after = 3\nheartbeat = 0.05\n{more}")


def in_flight() -> int:
    return leasecap.status("p").pools[0].in_flight


def everywhere() -> list[Callable[..., object]]:
    """The same arguments go into all of these."""

    async def acquire_async(**options: Any) -> Lease:
        return await leasecap.acquire_async("p", **options)

    async def slot_async(**options: Any) -> None:
        async with leasecap.slot("p", **options):
            pass

    def slot(**options: Any) -> None:
        with leasecap.slot("p", **options):
            pass

    return [
        lambda **options: leasecap.acquire("p", **options),
        lambda **options: asyncio.run(acquire_async(**options)),
        slot,
        lambda **options: asyncio.run(slot_async(**options)),
        lambda **options: leasecap.limited("p", **options)(lambda: None)(),
    ]


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


@pytest.mark.parametrize("timeout", [None, math.inf, 0, 0.0, 5, UNSET])
def test_these_timeouts_are_taken(timeout: float | None) -> None:
    for call in everywhere():
        lease = call(timeout=timeout)
        if isinstance(lease, Lease):
            lease.release()


def test_the_highest_limit_that_may_stand_in_the_file_may_be_declared() -> None:
    leasecap.acquire("p", limit=1_000_000).release()


def test_a_misspelt_keyword_of_limited_is_an_error_of_the_decoration() -> None:
    with pytest.raises(TypeError, match="tiemout"):
        leasecap.limited("p", tiemout=5)  # type: ignore[call-arg]


def test_a_bad_pool_name_is_refused(root: Path) -> None:
    for name in ("", "..", "a\0b", "x" * 10_000):
        with pytest.raises(ConfigError):
            leasecap.acquire(name)
    with pytest.raises((TypeError, ConfigError)):
        leasecap.acquire(None)  # type: ignore[arg-type]
    assert not list((root / "pools").glob("*"))


def test_the_argument_wins_over_the_environment_over_the_configuration_over_the_default(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waited(**options: Any) -> float:
        with pytest.raises(AcquireTimeout) as caught:
            leasecap.acquire("p", borrow=False, **options)
        return caught.value.waited

    configure(root, "queue_timeout = 0.3\n")
    with leasecap.slot("p"):
        assert 0.3 <= waited() < 60
        assert 0.3 <= waited(timeout=UNSET) < 60
        monkeypatch.setenv("LEASECAP_WAIT", "150ms")
        assert 0.15 <= waited() < 60
        assert 0.05 <= waited(timeout=0.05) < 60
        monkeypatch.setenv("LEASECAP_WAIT", "soon")
        with pytest.raises(ConfigError, match="LEASECAP_WAIT"):
            leasecap.acquire("p")
        waited(timeout=0)
        monkeypatch.setenv("LEASECAP_WAIT", "")  # as if it were not set
        configure(root, "queue_timeout = 0\n")
        waited()
        # The default is to wait for ever, of which a test sees a little.
        configure(root, "")
        waiter = threading.Thread(target=lambda: leasecap.acquire("p", borrow=False).release())
        waiter.start()
        waiter.join(0.3)
        assert waiter.is_alive()
    waiter.join()


def test_priority_comes_from_the_configuration_unless_it_is_given(root: Path) -> None:
    configure(root, "priority = 7\n")

    async def main() -> list[int]:
        with leasecap.slot("p"):
            waits = (leasecap.acquire_async("p", borrow=False), leasecap.acquire_async("p", borrow=False, priority=-3))
            tasks = [asyncio.create_task(wait) for wait in waits]
            while leasecap.status("p").pools[0].waiting < 2:
                await asyncio.sleep(0.002)
            found = [waiter.priority for waiter in leasecap.status("p").pools[0].waiters]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return found

    assert asyncio.run(main()) == [7, -3]


def test_a_label_is_what_status_shows() -> None:
    with leasecap.slot("p", label="nightly " + "x" * 1000):
        (holder,) = leasecap.status("p").pools[0].holders
    assert holder.label is not None
    assert holder.label.startswith("nightly")
    assert len(holder.label) == 200


def test_the_timeout_says_what_held_the_slots() -> None:
    with leasecap.slot("p", label="the other one"):
        with pytest.raises(AcquireTimeout) as caught:
            leasecap.acquire("p", timeout=0.05, borrow=False)
        error = caught.value
    assert isinstance(error, TimeoutError)
    assert (error.pool, error.limit, error.position) == ("p", 1, 1)
    assert error.waited >= 0.05
    assert "the other one" in error.holders[0]
    assert "the other one" in str(error)


def test_what_on_wait_raises_ends_the_wait_and_leaves_no_ticket() -> None:
    def give_up(waiting: leasecap.Waiting) -> None:
        assert (waiting.pool, waiting.limit, waiting.in_flight, waiting.position) == ("p", 1, 1, 1)
        assert waiting.waited >= 1
        raise InterruptedError("enough")

    with leasecap.slot("p"):
        with pytest.raises(InterruptedError, match="enough"):
            leasecap.acquire("p", borrow=False, on_wait=give_up)
        assert leasecap.status("p").pools[0].waiting == 0


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


# -- the fixture for those who test with leasecap -------------------------------------------------------------------

THEIR_TEST = """
import os, pytest, leasecap

def test_it(leasecap_root, tmp_path):
    assert leasecap_root.is_relative_to(tmp_path)
    assert leasecap.status().root == str(leasecap_root) == os.environ["LEASECAP_HOME"]
    assert "LEASECAP_POOL" not in os.environ
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
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "LEASECAP_POOL": "x", "PYTHONPATH": str(REPOSITORY)}
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
