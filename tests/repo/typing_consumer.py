"""The public API as a type checker sees it from outside. Never run: `scripts/lint` checks it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from datetime import datetime
from pathlib import Path
from typing import assert_type

import httpx
import httpx2

import leasecap
import leasecap.httpx
import leasecap.httpx2
from leasecap import (
    UNSET,
    AcquireTimeout,
    ConfigError,
    Holder,
    HttpRequest,
    Lease,
    LeasecapError,
    LeaseLost,
    ModelLatency,
    Percentiles,
    PoolFeedback,
    PoolStatus,
    Status,
    StoreError,
    Waiter,
    Waiting,
)


def acquiring() -> None:
    assert_type(leasecap.acquire("p"), Lease)
    assert_type(leasecap.acquire("p", timeout=None, limit=None, label=None), Lease)
    assert_type(leasecap.acquire("p", timeout=UNSET, limit=UNSET, priority=UNSET), Lease)
    assert_type(leasecap.acquire("p", timeout=1, limit=2, priority=-3, label="x", borrow=False), Lease)
    assert_type(leasecap.try_acquire("p", limit=1, on_lost=print), Lease | None)
    assert_type(leasecap.acquire("p", max_hold=60), Lease)
    assert_type(leasecap.try_acquire("p", max_hold=None), Lease | None)
    assert_type(leasecap.acquire("p", task_since=time.time()), Lease)
    assert_type(leasecap.try_acquire("p", task_since=lambda: None), Lease | None)
    leasecap.acquire("p", task_since=datetime.now())  # type: ignore[arg-type]
    leasecap.acquire("p", on_wait=lambda waiting: print(waiting.position), on_lost=lambda lease: lease.release())
    leasecap.acquire("p", timeout="5")  # type: ignore[arg-type]
    leasecap.acquire("p", 5)  # type: ignore[call-arg]
    leasecap.acquire("p", tiemout=5)  # type: ignore[call-arg]
    leasecap.try_acquire("p", timeout=5)  # type: ignore[call-arg]


async def acquiring_in_a_task() -> None:
    assert_type(await leasecap.acquire_async("p", timeout=1.5, on_wait=told), Lease)
    async with leasecap.slot("p", timeout=30) as lease:
        assert_type(lease, Lease)
    async with await leasecap.acquire_async("p") as lease:
        assert_type(lease, Lease)
        assert_type(await lease.lost, None)
        assert_type(await lease.expired, None)
    assert_type(asyncio.create_task(leasecap.acquire_async("p")), asyncio.Task[Lease])
    await leasecap.acquire_async("p", tiemout=5)  # type: ignore[call-arg]


def told(waiting: Waiting) -> None:
    assert_type(waiting.pool, str)
    assert_type(waiting.limit, int | None)
    assert_type(waiting.position, int)
    assert_type(waiting.waited, float)
    assert_type(waiting.holders, tuple[str, ...])
    assert_type(waiting.notice, str | None)


def blocks() -> None:
    with leasecap.slot("p", timeout=30) as lease:
        assert_type(lease, Lease)
    with leasecap.acquire("p") as lease:
        assert_type(lease, Lease)
    leasecap.slot("p", max_hold=2.5)
    leasecap.slot("p", max_hold="5m")  # type: ignore[arg-type]
    leasecap.slot("p", tiemout=30)  # type: ignore[call-arg]


def after_a_block_everything_is_reachable() -> int:
    # A block that might swallow exceptions would make the checker ask for another return here.
    with leasecap.slot("p"):
        return 1


def leases(lease: Lease) -> None:
    assert_type(lease.pool, str)
    assert_type(lease.id, str)
    assert_type(lease.held, bool)
    assert_type(lease.env(), dict[str, str])
    assert_type(lease.release(), None)
    assert_type(lease.check(), None)
    assert_type(lease.report(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT", kind="concurrency"), None)
    lease.report("429")  # type: ignore[arg-type]
    assert_type(bool(lease.lost), bool)
    assert_type(lease.lost.wait(5), bool)
    assert_type(bool(lease.expired), bool)
    assert_type(lease.expired.wait(5), bool)


@leasecap.limited("p", timeout=30, max_hold=600)
def function(one: int, *, two: str = "") -> float:
    return one + len(two)


@leasecap.limited("p")
async def coroutine(one: int) -> float:
    return one


@leasecap.limited("p")
def generator(one: int) -> Generator[int, str, float]:
    sent = yield one
    return float(sent)


@leasecap.limited("p")
async def async_generator(one: int) -> AsyncGenerator[int, str]:
    sent = yield one
    assert_type(sent, str)


class Client:
    @leasecap.limited("p")
    def method(self, one: int) -> str:
        return str(one)


async def decorated() -> None:
    assert_type(function(1, two="x"), float)
    assert_type(await coroutine(1), float)
    assert_type(generator(1), Generator[int, str, float])
    assert_type(async_generator(1), AsyncGenerator[int, str])
    assert_type(Client().method(1), str)
    function("1")  # type: ignore[arg-type]
    generator()  # type: ignore[call-arg]
    leasecap.limited("p", tiemout=5)  # type: ignore[call-arg]


def transports() -> None:
    sync: httpx2.BaseTransport = leasecap.httpx2.LeaseTransport("p", httpx2.HTTPTransport(), timeout=None, limit=1)
    httpx2.Client(transport=sync)
    leasecap.httpx2.LeaseTransport(transport=sync, priority=-3, label="x", borrow=False, max_hold=60, on_wait=told)
    tasks: httpx2.AsyncBaseTransport = leasecap.httpx2.AsyncLeaseTransport("p", httpx2.AsyncHTTPTransport())
    httpx2.AsyncClient(transport=tasks)
    httpx.Client(transport=leasecap.httpx.LeaseTransport("p", httpx.HTTPTransport()))
    httpx.AsyncClient(transport=leasecap.httpx.AsyncLeaseTransport("p", httpx.AsyncHTTPTransport()))
    leasecap.httpx2.LeaseTransport("p", httpx.HTTPTransport())  # type: ignore[arg-type]
    leasecap.httpx2.LeaseTransport("p", tasks)  # type: ignore[arg-type]
    leasecap.httpx2.AsyncLeaseTransport("p", sync)  # type: ignore[arg-type]
    leasecap.httpx2.LeaseTransport("p", tiemout=5)  # type: ignore[call-arg]


async def clients() -> None:
    sync: httpx2.Client = leasecap.httpx2.Client("p", queue_timeout=30, limit=2, timeout=5, http2=True)
    tasks: httpx2.AsyncClient = leasecap.httpx2.AsyncClient(priority=1, on_lost=print)
    other: httpx.Client = leasecap.httpx.Client("p", queue_timeout=None, task_since=time.time())
    others: httpx.AsyncClient = leasecap.httpx.AsyncClient("p", label="x")
    print(sync, tasks, other, others)
    with leasecap.httpx2.Client() as client:
        assert_type(client, leasecap.httpx2.Client)
    async with leasecap.httpx2.AsyncClient() as client_of_tasks:
        assert_type(client_of_tasks, leasecap.httpx2.AsyncClient)
    leasecap.httpx2.Client("p", queue_timeout="5m")  # type: ignore[arg-type]
    try:
        sync.post("http://localhost:8000/v1/messages")
    except leasecap.httpx2.SlotTimeout as error:
        ours: AcquireTimeout = error
        theirs: httpx2.PoolTimeout = error
        print(ours, theirs)
        assert_type(error.position, int)
        assert_type(error.request, httpx2.Request)


def errors(error: LeasecapError) -> None:
    if isinstance(error, AcquireTimeout):
        timeout: TimeoutError = error
        print(timeout)
        assert_type(error.pool, str)
        assert_type(error.limit, int | None)
        assert_type(error.holders, tuple[str, ...])
        assert_type(error.position, int)
        assert_type(error.waited, float)
    elif isinstance(error, ConfigError):
        assert_type(error.file, str | None)
        assert_type(error.line, int | None)
    elif isinstance(error, StoreError):
        assert_type(error.path, str)
        assert_type(error.remedy, str)
    elif isinstance(error, LeaseLost):
        assert_type(error.lease, str)
        assert_type(error.gone, bool)
        assert_type(error.max_hold, float | None)


def looking() -> None:
    status = leasecap.status()
    assert_type(status, Status)
    pool = leasecap.status("p").pools[0]
    assert_type(pool, PoolStatus)
    assert_type(pool.feedback, PoolFeedback | None)
    leasecap.report("p", 429, retry_after="30")
    leasecap.report("p", kind="quota", ttfb=0.5)
    leasecap.set_usage("p", lambda: 3)
    leasecap.set_usage("p", None)
    assert_type(pool.holders, tuple[Holder, ...])
    assert_type(pool.waiters, tuple[Waiter, ...])
    assert_type(pool.in_flight, int)
    assert_type(pool.limit, int | str | None)
    assert_type(pool.holders[0].pid, int | None)
    assert_type(pool.holders[0].over_max_hold, float | None)
    assert_type(pool.holders[0].request, HttpRequest | None)
    assert_type(pool.waiters[0].request, HttpRequest | None)
    assert_type(pool.waiters[0].position, int)
    assert_type(status.as_dict(), dict[str, object])
    latency = leasecap.status("p", latency=True).pools[0].latency
    assert_type(latency, tuple[ModelLatency, ...] | None)
    if latency:
        assert_type(latency[0].first_byte, Percentiles)
        assert_type(latency[0].whole_answer.p99, float | None)
    pool.in_flight = 0  # type: ignore[misc]


def test_with_a_root_of_its_own(leasecap_root: Path) -> None:
    callback: Callable[[Lease], object] = print
    with leasecap.slot("p", limit=1, on_lost=callback):
        assert list(leasecap_root.iterdir())
