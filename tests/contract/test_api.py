"""The library's face: what it takes, and what it gives back."""

from __future__ import annotations

import asyncio
import math
import threading
from pathlib import Path

import pytest
from callers import everywhere
from each_store import IN_PROCESS
from referee import until

import leasecap
from leasecap import UNSET, AcquireTimeout, ConfigError, Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

pytestmark = [IN_PROCESS, pytest.mark.usefixtures("pool")]


def configure(root: Path, more: str) -> None:
    (root / "config.toml").write_text(f"[pools.p]\nlimit = 1\nstale_after = 3\nheartbeat = 0.05\n{more}")


@pytest.mark.parametrize("timeout", [None, math.inf, 0, 0.0, 5, UNSET])
def test_these_timeouts_are_taken(timeout: float | None) -> None:
    for call in everywhere():
        lease = call(timeout=timeout)
        if isinstance(lease, Lease):
            lease.release()


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
        until(lambda: leasecap.status("p").pools[0].waiting == 0, "its ticket is withdrawn")
