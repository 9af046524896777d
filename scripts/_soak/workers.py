"""Those who use the library, forked by the conductor and ended by it at any moment."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .journal import Journal

TOGETHER = 1.0
"""Seconds; who rests until the next whole multiple asks at the same moment as others."""

SURELY = 60.0
"""Seconds to wait for what is to be had at once: a lender's own slot. Running out of it is a failure of the soak."""

OVERTIME = 8.0
"""Seconds for which a crowd stays in the queue when the time is over. Longer than a slot may stand empty."""

BLOCK = signal.SIGUSR1
"""Has a crowd block its event loop for a while."""

BARRED = "own lock has been held"
"""What leasecap says to those who can't enter its critical section because somebody was stopped in it: an error by
design."""


class Worker:
    """One process's work until a given time of `time.monotonic`.

    Of two pools it takes them in the order given: two that took them crosswise would wait for each other for ever,
    with any cap.
    """

    def __init__(
        self,
        journal: Journal,
        pools: Mapping[str, int],
        seed: int,
        until: float,
        may_fail: Callable[[leasecap.StoreError], bool] = lambda error: BARRED in str(error),
    ) -> None:
        """
        :param pools: with their limits; those with more slots are asked for more often.
        :param may_fail: whether such an error is one by design, after what is done to the processes.
        """
        self._may_fail = may_fail
        self._journal = journal
        self._pools = list(pools)
        self._limits = list(pools.values())
        self._random = random.Random(seed)
        self._until = until
        self._numbers = count()
        self._declares = self._random.random() < 0.2

    # -- without an event loop --------------------------------------------------------------------------------------

    def run(self) -> None:
        """One slot after another."""
        while time.monotonic() < self._until:
            kinds = self._plain, self._threads, self._nested, self._two_pools, self._child_borrows, self._child_idles
            (kind,) = self._random.choices(kinds, (50, 10, 15, 10, 10, 5))
            self._try(kind)
            if self._random.random() < 0.5:
                time.sleep(self._random.expovariate(1 / 0.8))
            else:
                time.sleep(TOGETHER - time.monotonic() % TOGETHER)

    def _try(self, kind: Callable[[], None]) -> None:
        try:
            kind()
        except leasecap.AcquireTimeout:
            pass
        except leasecap.StoreError as error:
            self._excuse(error)

    def run_team(self) -> None:
        """Many threads that all ask at once, again and again; one pool has all of them."""
        while time.monotonic() < self._until:
            pool = self._random.choice(self._pools)
            self._at_once(self._random.randint(5, 20), partial(self._plain, pool))
            time.sleep(self._random.expovariate(1))

    def _plain(self, pool: str = "") -> None:
        with self._slot(pool or self._any_pool(), timeout=self._patience()):
            self._work()

    def _threads(self) -> None:
        self._at_once(2, self._plain)

    def _at_once(self, number: int, kind: Callable[[], None]) -> None:
        with ThreadPoolExecutor(number) as threads:
            for done in [threads.submit(self._try, kind) for _ in range(number)]:
                done.result()

    def _nested(self) -> None:
        pool = self._any_pool()
        with self._slot(pool) as outer:
            self._work()
            self._journal.write("lend", pool, outer)
            with self._slot(pool, under=outer, timeout=SURELY) as middle:
                self._journal.write("lend", pool, middle, outer)
                with self._slot(pool, under=middle, timeout=SURELY):
                    self._work()
                self._journal.write("start", pool, middle, outer)
            self._journal.write("start", pool, outer)
            self._work()

    def _two_pools(self) -> None:
        first, second = sorted(self._random.sample(range(len(self._pools)), 2))
        with self._slot(self._pools[first]):
            self._work()
            with self._slot(self._pools[second], timeout=self._patience()):
                self._work()

    def _child_borrows(self) -> None:
        """What a forked child acquires under its parent's lease outlives that one when the parent is killed."""
        pool = self._any_pool()
        with self._slot(pool) as outer:
            self._journal.write("lend", pool, outer)
            child = os.fork()
            if child == 0:
                self._be_a_child(pool, outer)
            if os.waitpid(child, 0)[1]:
                raise RuntimeError("a forked child failed")
            self._journal.write("start", pool, outer)
            self._work()

    def _be_a_child(self, pool: str, outer: str) -> None:
        status = 1
        try:
            self._journal.process += f".{next(self._numbers)}"
            self._numbers = count()
            with self._slot(pool, under=outer, timeout=SURELY):
                self._work()
            status = 0
        except leasecap.StoreError as error:
            self._excuse(error)
            status = 0
        finally:
            os._exit(status)

    def _child_idles(self) -> None:
        """A forked child that outlives its killed parent must not keep the slot."""
        seconds = self._random.uniform(0.1, 0.5)
        with self._slot(self._any_pool()):
            child = os.fork()
            if child == 0:
                time.sleep(seconds)
                os._exit(0)
            self._work()
            os.waitpid(child, 0)

    @contextmanager
    def _slot(self, pool: str, under: str = "-", timeout: float | None = None) -> Iterator[str]:
        declared = self._declare() if under == "-" else None
        who = self._ask(pool, under, declared)
        try:
            lease = leasecap.acquire(pool, timeout=timeout, priority=self._priority(), limit=declared)
        except BaseException:
            self._journal.write("quit", pool, who, under)
            raise
        self._journal.write("start", pool, who, under)
        try:
            with lease:
                try:
                    yield who
                finally:
                    self._journal.write("end", pool, who, under)
        finally:
            self._check(lease, pool, who)

    # -- in an event loop -------------------------------------------------------------------------------------------

    async def run_async(self) -> None:
        """Two tasks, each one slot after another."""
        await asyncio.gather(*(self._task() for _ in range(2)))

    async def _task(self) -> None:
        while time.monotonic() < self._until:
            await self._try_async(self._any_pool())
            await asyncio.sleep(self._random.expovariate(1))

    async def run_crowd(self) -> None:
        """Many tasks that all ask at once, again and again; one pool has all of them."""
        asyncio.get_running_loop().add_signal_handler(BLOCK, self._block)
        while time.monotonic() < self._until:
            pool = self._random.choice(self._pools)
            tasks = [asyncio.create_task(self._try_async(pool)) for _ in range(self._random.randint(10, 50))]
            await asyncio.wait(tasks, timeout=self._until + OVERTIME - time.monotonic())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks)
            await asyncio.sleep(self._random.expovariate(1))

    def _block(self) -> None:
        self._journal.write("block")
        time.sleep(self._random.uniform(0.5, 4))
        self._journal.write("unblock")

    async def _try_async(self, pool: str) -> None:
        work = asyncio.create_task(self._work_async(pool))
        try:
            if self._random.random() < 0.15:
                await asyncio.sleep(self._random.uniform(0, 0.3))
                work.cancel()
            await work
        except (leasecap.AcquireTimeout, asyncio.CancelledError):
            pass
        except leasecap.StoreError as error:
            self._excuse(error)

    async def _work_async(self, pool: str) -> None:
        declared = self._declare()
        who = self._ask(pool, "-", declared)
        try:
            lease = await leasecap.acquire_async(
                pool, timeout=self._patience(), priority=self._priority(), limit=declared
            )
        except BaseException:
            self._journal.write("quit", pool, who)
            raise
        self._journal.write("start", pool, who)
        try:
            async with lease:
                try:
                    await asyncio.sleep(self._length())
                finally:
                    self._journal.write("end", pool, who)
        finally:
            self._check(lease, pool, who)

    # -- both -------------------------------------------------------------------------------------------------------

    def _declare(self) -> int | None:
        """The limit to acquire with, if any: a low one, so that it is missed when it counts for one who is dead."""
        return self._random.randint(1, 2) if self._declares and self._random.random() < 0.03 else None

    def _ask(self, pool: str, under: str, declared: int | None) -> str:
        who = f"{self._journal.process}.{next(self._numbers)}"
        if declared is not None:
            self._journal.write("declare", pool, who, str(declared))
        self._journal.write("ask", pool, who, under)
        return who

    def _any_pool(self) -> str:
        return self._random.choices(self._pools, self._limits)[0]

    def _patience(self) -> float | None:
        return self._random.choice((None, None, None, 0, 0.05, 1.0))

    def _priority(self) -> int:
        return self._random.choice((0, 0, 0, 5, -5))

    def _length(self) -> float:
        if self._random.random() < 0.015:
            return self._random.uniform(2, 5)  # long enough for the limit to have changed at its end
        return min(self._random.expovariate(1 / 0.2), 0.8)

    def _work(self) -> None:
        time.sleep(self._length())

    def _check(self, lease: leasecap.Lease, pool: str, who: str) -> None:
        if lease.lost:
            self._journal.write("lost", pool, who)

    def _excuse(self, error: leasecap.StoreError) -> None:
        if not self._may_fail(error):
            raise error
        self._journal.write("barred")
