"""The library's face: what it takes, what it refuses, and what it gives back."""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from referee import REPOSITORY

import leasecap
from leasecap import UNSET, AcquireTimeout, ConfigError, Lease, LeasecapError, LeaseLost, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


@pytest.fixture(autouse=True)
def pool(root: Path) -> None:
    """A pool "p" of one slot, whose heartbeats are frequent."""
    configure(root, "")


def configure(root: Path, more: str) -> None:
    root.mkdir(mode=0o700, exist_ok=True)
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
        ({"priority": False}, TypeError),
        ({"priority": None}, TypeError),
        ({"priority": 1.0}, TypeError),
        ({"priority": 100}, ValueError),
        ({"priority": -100}, ValueError),
        ({"label": b"label"}, TypeError),
        ({"tiemout": 5}, TypeError),
    ],
    ids=repr,
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


def test_a_limit_too_large_for_a_file_name_is_refused_or_harmless() -> None:
    leasecap.acquire("p", limit=10**15).release()


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


# -- leases ---------------------------------------------------------------------------------------------------------


def test_release_gives_the_slot_back_once_and_then_does_nothing() -> None:
    lease = leasecap.acquire("p")
    assert leasecap.try_acquire("p") is None
    lease.release()
    other = leasecap.acquire("p", timeout=0)
    lease.release()
    assert leasecap.try_acquire("p") is None
    assert (lease.held, other.held) == (False, True)
    other.release()


def test_a_lease_is_a_context_manager_of_both_kinds() -> None:
    with leasecap.acquire("p") as lease:
        assert lease.held
    assert not lease.held

    async def main() -> None:
        async with await leasecap.acquire_async("p") as lease:
            assert lease.held
        assert not lease.held

    asyncio.run(main())


def test_the_blocks_own_exception_survives_a_release_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError), leasecap.slot("p") as lease:
        shutil.rmtree(lease._store.directory.path)
        raise ZeroDivisionError


def test_repr_says_whose_and_in_what_state_it_is() -> None:
    lease = leasecap.acquire("p")
    assert repr(lease) == f"<Lease {lease.id} of pool 'p', held>"
    lease.release()
    assert repr(lease) == f"<Lease {lease.id} of pool 'p', released>"


def test_env_is_what_makes_a_subprocess_run_under_the_lease(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASECAP_LEASE", "/elsewhere/pool/token")
    with leasecap.acquire("p") as lease:
        env = lease.env()
    assert set(env) == {"LEASECAP_LEASE", "LEASECAP_POOL"}
    assert env["LEASECAP_POOL"] == "p"
    inner, outer = env["LEASECAP_LEASE"].split(":")
    assert inner.startswith(f"{root}/")
    assert inner.endswith(f"/{lease.id}")
    assert outer == "/elsewhere/pool/token"


def take_away(lease: Lease) -> None:
    """What a person's `leasecap release` does."""
    assert lease._store.end(lease._claim.name)


def test_a_lost_lease_can_be_asked_waited_for_and_awaited() -> None:
    calls: list[Lease] = []
    lease = leasecap.acquire("p", on_lost=calls.append)
    lost = lease.lost
    assert not lost
    assert repr(lost) == "<lost: False>"
    assert not lost.wait(0)
    lease.check()

    async def main() -> None:
        task = asyncio.ensure_future(awaited())
        await asyncio.sleep(0)
        assert not task.done()
        take_away(lease)
        await asyncio.wait_for(task, 60)
        await lease.lost  # at once

    async def awaited() -> None:
        await lease.lost

    asyncio.run(main())
    assert lost
    assert lost.wait()
    assert (lease.held, repr(lease)) == (False, f"<Lease {lease.id} of pool 'p', lost>")
    with pytest.raises(LeaseLost) as caught:
        lease.check()
    assert (caught.value.pool, caught.value.lease) == ("p", lease.id)
    other = leasecap.acquire("p", timeout=0)
    lease.release()
    assert other.held
    assert in_flight() == 1
    other.release()
    assert calls == [lease]


def test_a_loss_that_the_release_finds_out_is_told_once() -> None:
    calls: list[Lease] = []
    lease = leasecap.acquire("p", on_lost=calls.append)
    lease._local.heartbeats.remove(lease._claim)  # it would find out first
    take_away(lease)
    lease.release()
    lease.release()
    assert calls == [lease]
    assert lease.lost


def test_a_released_lease_is_not_lost() -> None:
    calls: list[Lease] = []
    lease = leasecap.acquire("p", on_lost=calls.append)
    lease.release()
    assert not lease.lost.wait(0.2)  # several heartbeats
    assert calls == []


def test_awaiting_a_loss_that_does_not_come_can_be_cancelled() -> None:
    async def main(lease: Lease) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(wait_for(lease), 0.01)

    async def wait_for(lease: Lease) -> None:
        await lease.lost

    with leasecap.acquire("p") as lease:
        asyncio.run(main(lease))
        assert lease.lost._waiters == []


# -- slot and try_acquire -------------------------------------------------------------------------------------------


def test_try_acquire_returns_a_lease_or_none() -> None:
    lease = leasecap.try_acquire("p", label="mine")
    assert lease is not None
    assert leasecap.try_acquire("p") is None
    lease.release()


def test_a_slot_in_use_is_refused_and_can_be_used_again_afterwards() -> None:
    slot = leasecap.slot("p")
    with slot:
        with pytest.raises(RuntimeError, match="in use already"), slot:
            pass
        assert in_flight() == 1
    with slot:
        pass
    with (
        pytest.raises(AcquireTimeout),
        leasecap.acquire("p"),
        leasecap.slot("p", timeout=0, borrow=False) as slot_again,
    ):
        assert slot_again
    assert in_flight() == 0


def test_a_slot_whose_wait_failed_can_be_tried_again() -> None:
    slot = leasecap.slot("p", timeout=0, borrow=False)
    with leasecap.acquire("p"):
        for _ in "12":
            with pytest.raises(AcquireTimeout), slot:
                pass
    with slot:
        pass


# -- limited --------------------------------------------------------------------------------------------------------


def test_a_limited_function_holds_a_slot_during_each_call() -> None:
    @leasecap.limited("p")
    def function(one: int, *, two: int = 2) -> tuple[int, int, int]:
        """Its own words."""
        return one, two, in_flight()

    assert function(1, two=3) == (1, 3, 1)
    assert in_flight() == 0
    assert (function.__name__, function.__doc__) == ("function", "Its own words.")
    assert list(inspect.signature(function).parameters) == ["one", "two"]


def test_a_limited_function_that_raises_gives_its_slot_back() -> None:
    @leasecap.limited("p")
    def function() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        function()
    assert in_flight() == 0


def test_a_limited_function_may_call_itself() -> None:
    @leasecap.limited("p", timeout=10)
    def countdown(number: int) -> int:
        return in_flight() if number == 0 else countdown(number - 1)

    assert countdown(3) == 1


def test_a_limited_coroutine_holds_a_slot_while_it_runs() -> None:
    @leasecap.limited("p")
    async def function() -> int:
        await asyncio.sleep(0)
        return in_flight()

    assert inspect.iscoroutinefunction(function)

    async def main() -> list[int]:
        return list(await asyncio.gather(*(function() for _ in range(5))))

    assert asyncio.run(main()) == [1, 1, 1, 1, 1]
    assert in_flight() == 0


def test_a_limited_generator_holds_its_slot_from_the_first_step_to_the_end() -> None:
    @leasecap.limited("p")
    def count() -> Any:
        return [(yield 0), (yield 1)]

    assert inspect.isgeneratorfunction(count)
    steps = count()
    assert in_flight() == 0
    assert next(steps) == 0
    assert in_flight() == 1
    assert steps.send("a") == 1
    with pytest.raises(StopIteration) as stopped:
        steps.send("b")
    assert stopped.value.value == ["a", "b"]
    assert in_flight() == 0


def test_a_limited_generator_can_be_thrown_into_and_closed_early() -> None:
    seen: list[object] = []

    @leasecap.limited("p")
    def endless() -> Any:
        try:
            while True:
                try:
                    yield "on"
                except ValueError:
                    seen.append("caught")
        finally:
            seen.append(in_flight())

    steps = endless()
    next(steps)
    assert steps.throw(ValueError) == "on"
    with pytest.raises(KeyError):
        steps.throw(KeyError)
    steps = endless()
    next(steps)
    steps.close()
    assert seen == ["caught", 1, 1]
    assert in_flight() == 0


def test_what_consumes_a_limited_stream_borrows_no_slot_from_it() -> None:
    @leasecap.limited("p")
    def stream() -> Any:
        with leasecap.slot("p", timeout=0):  # its own code may
            pass
        yield 1
        yield 2

    for _ in stream():
        assert leasecap.try_acquire("p") is None
    assert in_flight() == 0


def test_a_limited_async_generator_holds_its_slot_until_it_is_closed() -> None:
    seen: list[object] = []

    @leasecap.limited("p")
    async def endless() -> Any:
        try:
            while True:
                try:
                    seen.append((yield in_flight()))
                except ValueError:
                    seen.append("caught")
        finally:
            await asyncio.sleep(0)
            seen.append(in_flight())

    assert inspect.isasyncgenfunction(endless)

    async def main() -> None:
        steps = endless()
        assert in_flight() == 0
        assert await anext(steps) == 1
        assert await steps.asend("sent") == 1
        assert await steps.athrow(ValueError) == 1
        assert leasecap.try_acquire("p") is None
        await steps.aclose()
        assert in_flight() == 0
        assert [one async for one in two()] == [1, 1]
        assert in_flight() == 0

    @leasecap.limited("p")
    async def two() -> Any:
        yield in_flight()
        yield in_flight()

    asyncio.run(main())
    assert seen == ["sent", "caught", 1]


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
