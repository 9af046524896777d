"""The seam: calls for slots, leases and what is said of them, on a store that is no pool on disk."""

from __future__ import annotations

import asyncio
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
from memory_store import MemoryStore

from leasecap import AcquireTimeout, ConfigError, LeaseLost, _control
from leasecap._acquire import Acquisition
from leasecap._host.deferred_signals import DeferredSignals
from leasecap._lease import Lease
from leasecap._origin import Origin
from leasecap._request import Request
from leasecap._runtime import runtime
from leasecap._wait.blocking import ThreadWaiter, drive
from leasecap._wait.event_loop import drive_async

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from leasecap._store.lease import HeldLease
    from leasecap._wait.event_loop import LoopWaiter


def steps(
    store: MemoryStore,
    wake: Callable[[], None],
    *,
    timeout: float | None = 60,
    limit: int | None = None,
    label: str | None = None,
    max_hold: float | None = None,
    borrow: bool = True,
) -> Generator[float, None, HeldLease]:
    request = Request(timeout, limit, 0, label, borrow, None, ("work",), max_hold)
    return Acquisition(runtime.root("/nowhere"), store, request, Origin(runtime.own), wake, store.monotonic()).steps()


def acquire(
    store: MemoryStore,
    *,
    timeout: float | None = 60,
    limit: int | None = None,
    label: str | None = None,
    max_hold: float | None = None,
    borrow: bool = True,
) -> Lease:
    waiter = ThreadWaiter()
    with DeferredSignals() as interrupts:
        begun = steps(store, waiter.wake, timeout=timeout, limit=limit, label=label, max_hold=max_hold, borrow=borrow)
        return Lease(runtime, drive(begun, waiter, interrupts), None, lambda: nullcontext(store), "")


class Referee:
    """Counts who holds, and knows nothing of the store."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = self.most = self.holds = 0

    def __enter__(self) -> None:
        with self._lock:
            self.now += 1
            self.holds += 1
            self.most = max(self.most, self.now)

    def __exit__(self, *about: object) -> None:
        with self._lock:
            self.now -= 1


def test_threads_share_its_slots_and_all_of_them_come_in(root: Path) -> None:
    store, referee = MemoryStore("p", 3), Referee()

    def work() -> None:
        for _ in range(20):
            with acquire(store), referee:
                pass

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (referee.holds, referee.now) == (240, 0)
    assert referee.most <= 3
    assert not store.leases and not store.queue


def test_tasks_share_its_slots(root: Path) -> None:
    store, referee = MemoryStore("p", 2), Referee()

    def begin(waiter: LoopWaiter, interrupts: DeferredSignals) -> Generator[float, None, HeldLease]:
        return steps(store, waiter.waker())

    async def work() -> None:
        held = await drive_async(begin, runtime.own.heartbeats)
        async with Lease(runtime, held, None, lambda: nullcontext(store), ""):
            with referee:
                await asyncio.sleep(0)

    async def all_of_them() -> None:
        await asyncio.gather(*(work() for _ in range(30)))

    asyncio.run(all_of_them())
    assert (referee.holds, referee.now) == (30, 0)
    assert referee.most <= 2
    assert not store.leases and not store.queue


def test_who_waits_in_vain_is_told_who_holds_and_leaves_nothing(root: Path) -> None:
    store = MemoryStore("p", 1)
    with acquire(store, label="the holder"):
        for timeout in (0, 0.05):
            with pytest.raises(AcquireTimeout, match="the holder") as caught:
                acquire(store, timeout=timeout, borrow=False)
            assert (caught.value.pool, caught.value.limit) == ("p", 1)
        assert not store.queue
    assert not store.leases


def test_a_limit_is_needed_and_a_declared_one_is_kept(root: Path) -> None:
    store = MemoryStore("p", None)
    with pytest.raises(ConfigError, match="has no limit"):
        acquire(store)
    with acquire(store, limit=1), pytest.raises(AcquireTimeout):
        acquire(store, limit=1, timeout=0, borrow=False)
    assert not store.leases and not store.queue


def test_an_agent_uses_its_own_slot_for_its_calls(root: Path) -> None:
    store = MemoryStore("p", 1)
    with acquire(store), acquire(store, timeout=0):
        assert len(store.leases) == 2
    assert not store.leases


def test_a_lease_that_is_ended_is_lost(root: Path) -> None:
    store = MemoryStore("p", 1)
    lease = acquire(store)
    assert store.end(next(iter(store.leases)))
    with pytest.raises(LeaseLost):
        lease.check()
    lease.release()
    acquire(store, timeout=0).release()


def test_a_lease_says_that_its_time_is_over(root: Path) -> None:
    store = MemoryStore("p", 1)
    with acquire(store, max_hold=0.05) as lease:
        assert lease.expired.wait(60)
        with pytest.raises(LeaseLost):
            lease.check()


def test_reports_and_pauses_reach_it(root: Path) -> None:
    store = MemoryStore("p", 1)
    with acquire(store) as lease:
        lease.report(429, retry_after=3)
    assert [(report.kind, report.retry_after) for report in store.reports] == [("concurrency", 3.0)]
    _control.pause(store, 5.0, "by hand")
    assert store.state.pause is not None and store.state.pause.why == "by hand"
