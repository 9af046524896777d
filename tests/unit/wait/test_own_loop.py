"""A blocking call in an event loop that holds all slots itself warns: it can never be granted."""

from __future__ import annotations

import asyncio
import warnings

import pytest
from helper_process import helper

import leasecap

pytestmark = pytest.mark.usefixtures("pool")


async def blocks_beside_a_task() -> None:
    async with leasecap.slot("p"):
        leasecap.acquire("p", borrow=False, timeout=0.05)


def test_a_call_that_waits_for_its_own_loop_warns() -> None:
    with pytest.warns(RuntimeWarning, match="waits for itself"), pytest.raises(leasecap.AcquireTimeout):
        asyncio.run(blocks_beside_a_task())


def test_a_warning_that_is_an_error_leaves_no_ticket() -> None:
    with pytest.raises(RuntimeWarning, match="waits for itself"):
        asyncio.run(blocks_beside_a_task())
    found = leasecap.status("p").pools[0]
    assert (found.in_flight, found.waiting) == (0, 0)


async def block() -> None:
    with pytest.raises(leasecap.AcquireTimeout):
        leasecap.acquire("p", borrow=False, timeout=0.05)


def test_a_call_that_waits_for_another_process_or_thread_does_not_warn() -> None:
    with helper("import leasecap\nlease = leasecap.acquire('p')\nprint('held')\ninput()") as other:
        assert other.hear() == "held"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            asyncio.run(block())
        other.end()

    async def beside_a_thread() -> None:
        lease = await asyncio.to_thread(leasecap.acquire, "p")
        await block()
        lease.release()

    asyncio.run(beside_a_thread())


def test_outside_of_a_loop_nothing_is_warned_of() -> None:
    with leasecap.slot("p"), pytest.raises(leasecap.AcquireTimeout):
        leasecap.acquire("p", borrow=False, timeout=0.05)
