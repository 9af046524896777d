"""Leases as their holders see them, and the blocks that hold them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner
from each_store import IN_PROCESS
from referee import DEADLINE, until

import leasecap
from leasecap import AcquireTimeout, Lease, LeaseLost
from leasecap.cli import release

pytestmark = [IN_PROCESS, pytest.mark.usefixtures("pool")]


def in_flight() -> int:
    return leasecap.status("p").pools[0].in_flight


def test_release_gives_the_slot_back_once_and_then_does_nothing() -> None:
    lease = leasecap.acquire("p")
    assert leasecap.try_acquire("p") is None
    lease.release()
    other = leasecap.acquire("p", timeout=0)
    lease.release()
    assert leasecap.try_acquire("p") is None
    assert (lease.held, other.held) == (False, True)
    other.release()


def test_a_lease_knows_the_root_that_it_was_asked_for_by(root: Path) -> None:
    with leasecap.acquire("p") as lease:
        assert lease.root == str(root)


def test_a_lease_is_a_context_manager_of_both_kinds() -> None:
    with leasecap.acquire("p") as lease:
        assert lease.held
    assert not lease.held

    async def main() -> None:
        async with await leasecap.acquire_async("p") as lease:
            assert lease.held
        assert not lease.held

    asyncio.run(main())


def test_a_block_in_a_task_that_is_not_of_asyncio_gives_the_slot_back_and_keeps_its_own_error() -> None:
    lease = leasecap.acquire("p")
    waiter = threading.Thread(target=lambda: leasecap.acquire("p").release(), daemon=True)

    async def block() -> None:
        async with lease:
            raise ValueError("the block's own")

    waiter.start()
    until(lambda: leasecap.status("p").pools[0].waiting == 1, "it waits")
    task = block()  # trio's loop, too, steps it by hand
    with pytest.raises(ValueError, match="the block's own"):
        task.send(None)
    waiter.join(DEADLINE)
    assert not waiter.is_alive(), "the slot was handed off"


def test_a_task_that_is_not_of_asyncio_is_told_to_acquire_in_a_thread() -> None:
    async def block() -> None:
        async with leasecap.slot("p"):
            raise AssertionError("it was entered")

    for task in (leasecap.acquire_async("p"), block()):
        with pytest.raises(RuntimeError, match="event loop of asyncio; elsewhere acquire in a thread"):
            task.send(None)
    leasecap.acquire("p", timeout=0).release()


def test_repr_says_whose_and_in_what_state_it_is() -> None:
    lease = leasecap.acquire("p")
    assert repr(lease) == f"<Lease {lease.id} of pool 'p', held>"
    lease.release()
    assert repr(lease) == f"<Lease {lease.id} of pool 'p', released>"


def test_env_is_what_makes_a_subprocess_run_under_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEASECAP_LEASE", "/elsewhere/pool/token")
    with leasecap.acquire("p") as lease:
        env = lease.env()
    assert set(env) == {"LEASECAP_LEASE", "LEASECAP_POOL"}
    assert env["LEASECAP_POOL"] == "p"
    inner, outer = env["LEASECAP_LEASE"].split(":")
    assert inner.endswith(f"/{lease.id}")
    assert outer == "/elsewhere/pool/token"


def take_away(lease: Lease) -> None:
    """As a person does."""
    assert CliRunner().invoke(release.command, [lease.id, "--yes"]).exit_code == 0


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
    until(lambda: calls == [lease], "it is told, by a thread of its own")


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
