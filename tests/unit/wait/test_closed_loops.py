"""Event loops that end under their tasks: no ticket stays in the queue, and no slot with a task that never goes on."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
import weakref
from typing import Any

import pytest
from referee import DEADLINE, until

import leasecap
from leasecap._config.root import root_path
from leasecap._runtime import runtime

pytestmark = [
    pytest.mark.usefixtures("pool"),
    pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:.*dropped without a release:ResourceWarning"),
]


def waiting() -> int:
    return leasecap.status("p").pools[0].waiting


def free() -> bool:
    lease = leasecap.try_acquire("p", borrow=False)
    if lease is not None:
        lease.release()
    return lease is not None


def loop_with_a_waiter() -> tuple[asyncio.AbstractEventLoop, asyncio.Task[leasecap.Lease]]:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    task = loop.create_task(leasecap.acquire_async("p", borrow=False))

    async def until_it_waits() -> None:
        while not waiting():
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.01)

    loop.run_until_complete(until_it_waits())
    return loop, task


def test_a_loop_that_is_dropped_unclosed_gives_back_what_its_tasks_hold() -> None:
    def drop() -> weakref.ref[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda loop, context: None)

        async def hold() -> None:
            async with leasecap.slot("p", borrow=False):
                await asyncio.Event().wait()

        async def main() -> None:
            tasks.add(asyncio.create_task(hold()))
            while free():
                await asyncio.sleep(0.002)

        tasks: set[asyncio.Task[None]] = set()
        loop.run_until_complete(main())
        return weakref.ref(loop)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the loop, of its sockets and of the lease
        dropped = drop()
        gc.collect()
        assert dropped() is None
    until(free, "the slot comes back")


def test_a_closed_loop_leaves_no_ticket() -> None:
    holder = leasecap.acquire("p")
    loop, task = loop_with_a_waiter()
    loop.close()
    until(lambda: not waiting(), "the ticket withdrawn")
    assert not task.done(), "it is still referred to"
    assert not runtime.own.waiters
    holder.release()
    assert free()


def test_a_grant_to_a_closed_loop_is_handed_on() -> None:
    holder = leasecap.acquire("p")
    loop, task = loop_with_a_waiter()
    got: list[leasecap.Lease] = []
    thread = threading.Thread(target=lambda: got.append(leasecap.acquire("p", timeout=DEADLINE, borrow=False)))
    thread.start()
    until(lambda: waiting() == 2, "two waiters")
    with runtime.own.heartbeats._changed:
        loop.close()
        holder.release()
    thread.join()
    got[0].release()
    assert not task.done()
    until(free, "the slot")


def test_a_wake_that_finds_the_loop_closed_withdraws(monkeypatch: pytest.MonkeyPatch) -> None:
    from leasecap._wait import event_loop

    # As with a loop that keeps its timers when it is closed.
    kept: list[object] = []
    presence = event_loop._Presence.__init__

    def keeps(self: object, waiter: event_loop.LoopWaiter, *rest: object) -> None:
        presence(self, waiter, *rest)  # type: ignore[arg-type]
        kept.append(self._gone())  # type: ignore[attr-defined]

    monkeypatch.setattr(event_loop._Presence, "__init__", keeps)
    holder = leasecap.acquire("p")
    loop, task = loop_with_a_waiter()
    loop.close()
    assert not task.done() and kept
    holder.release()
    until(free, "the slot")
    until(lambda: waiting() == 0, "the ticket is withdrawn")


def test_a_task_that_is_collected_while_it_waits_withdraws() -> None:
    holder = leasecap.acquire("p")
    loop, task = loop_with_a_waiter()
    loop.close()  # it would keep the task
    del task, loop
    gc.collect()
    until(lambda: not waiting(), "the ticket withdrawn")
    holder.release()
    assert free()


@pytest.mark.parametrize("taken", ["process", "heartbeats", "watch"])
def test_a_wait_that_is_closed_inside_a_lock_of_ours_withdraws(taken: str) -> None:
    holder = leasecap.acquire("p")

    async def main() -> None:
        wait = leasecap.acquire_async("p", borrow=False)
        task = asyncio.ensure_future(advance(wait))
        while not waiting():
            await asyncio.sleep(0.002)
        task.cancel()
        root = runtime.root(root_path())
        locks: dict[str, Any] = {"process": runtime.own.lock, "heartbeats": runtime.own.heartbeats._changed}
        locks["watch"] = root.notifier.watch()._lock
        with locks[taken]:
            wait.close()
        await asyncio.gather(task, return_exceptions=True)

    async def advance(wait: object) -> None:
        wait.send(None)  # type: ignore[attr-defined]  # to where it is suspended, and no further
        await asyncio.sleep(DEADLINE)

    asyncio.run(main())
    until(lambda: not waiting(), "the ticket withdrawn")
    holder.release()
    assert free()


def test_a_task_that_held_when_its_loop_was_closed_gives_its_slot_back() -> None:
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    began = asyncio.Event()

    async def hold() -> None:
        async with leasecap.slot("p"):
            began.set()
            await asyncio.sleep(DEADLINE)

    task = loop.create_task(hold())
    loop.run_until_complete(began.wait())
    loop.close()
    assert not free()
    del task
    gc.collect()
    until(free, "the slot")


def test_a_loop_that_goes_on_keeps_its_tickets() -> None:
    holder = leasecap.acquire("p")
    loop, task = loop_with_a_waiter()
    gc.collect()
    assert waiting() == 1
    holder.release()
    loop.run_until_complete(task).release()
    loop.close()
