"""One process with many threads, tasks and event loops; all of them under one cap, also when they are cancelled."""

from __future__ import annotations

import asyncio
import random
import threading
import time

import pytest
from each_store import IN_PROCESS
from referee import Interval, Team, peak, until
from stores import MEMORY

import leasecap

pytestmark = IN_PROCESS


class Holds:
    """Hold intervals of this process.

    Nobody ends before ``limit`` have begun: a hold of 5 ms was over before a grant that is polled for was taken up.
    """

    def __init__(self, limit: int) -> None:
        self.intervals: list[Interval] = []
        self.began: list[object] = []
        self.limit = limit

    def begin(self, holder: object) -> int:
        start = time.monotonic_ns()
        self.began.append(holder)
        return start

    def are_together(self) -> bool:
        return len(self.began) >= self.limit

    def end(self, holder: object, start: int) -> None:
        self.intervals.append(Interval(str(holder), start, time.monotonic_ns()))


def work(holds: Holds, name: object, seconds: float = 0.005) -> None:
    with leasecap.slot("p", timeout=60):
        start = holds.begin(name)
        until(holds.are_together, "the pool is full")
        time.sleep(seconds)
        holds.end(name, start)


async def work_async(holds: Holds, name: object, seconds: float = 0.005) -> None:
    async with leasecap.slot("p", timeout=60):
        start = holds.begin(name)
        async with asyncio.timeout(60):
            while not holds.are_together():
                await asyncio.sleep(0.002)
        await asyncio.sleep(seconds)
        holds.end(name, start)


def run_threads(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def until_waiting(team: Team, number: int) -> None:
    while team.pool().waiting != number:
        await asyncio.sleep(0.002)


def test_twenty_threads_fill_the_cap_and_never_exceed_it(team: Team) -> None:
    team.configure("[pools.p]\nlimit = 3\n")
    holds = Holds(limit=3)

    def thrice(name: int) -> None:
        for number in range(3):
            work(holds, f"{name}.{number}")

    run_threads(*(threading.Thread(target=thrice, args=(name,)) for name in range(20)))
    assert len(holds.intervals) == 60
    assert peak(holds.intervals) == 3
    team.assert_idle()


def test_a_hundred_tasks_fill_the_cap_and_never_exceed_it(team: Team) -> None:
    team.configure("[pools.p]\nlimit = 8\n")
    holds = Holds(limit=8)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for name in range(100):
                group.create_task(work_async(holds, name, 0.05))

    asyncio.run(main())
    assert len(holds.intervals) == 100
    assert peak(holds.intervals) == 8
    team.assert_idle()


def test_event_loops_and_plain_threads_share_one_cap(team: Team) -> None:
    team.configure("[pools.p]\nlimit = 2\n")
    holds = Holds(limit=2)

    async def tasks(loop: int) -> None:
        async with asyncio.TaskGroup() as group:
            for name in range(8):
                group.create_task(work_async(holds, f"{loop}.{name}"))

    loops = (threading.Thread(target=lambda loop=loop: asyncio.run(tasks(loop))) for loop in range(3))
    plain = (threading.Thread(target=work, args=(holds, f"thread.{name}")) for name in range(6))
    run_threads(*loops, *plain)
    assert len(holds.intervals) == 30
    assert peak(holds.intervals) == 2
    team.assert_idle()


def test_a_wait_blocks_no_loop_and_needs_no_thread_of_its_own(team: Team) -> None:
    team.configure("[pools.p]\nlimit = 1\n")

    async def main() -> None:
        lease = leasecap.acquire("p")
        first = asyncio.create_task(leasecap.acquire_async("p"))
        await until_waiting(team, 1)
        threads = threading.active_count()
        others = [asyncio.create_task(leasecap.acquire_async("p")) for _ in range(40)]
        await until_waiting(team, 41)
        longest = 0.0
        for _ in range(100):
            before = time.monotonic()
            await asyncio.sleep(0.002)
            longest = max(longest, time.monotonic() - before)
        # At most the three of the one observer, which the process starts once it has waited for long, or the four that
        # ask a server for all of its tasks.
        assert threading.active_count() < threads + 20, "and not one for each of the forty"
        assert longest < 30  # a loop that waited for the slot would be stuck until its release
        for task in (first, *others):
            task.cancel()
        await asyncio.gather(first, *others, return_exceptions=True)
        lease.release()

    asyncio.run(main())
    team.assert_idle()


def test_a_cancelled_wait_leaves_no_ticket(team: Team) -> None:
    team.configure("[pools.p]\nlimit = 1\n")

    async def main() -> None:
        lease = leasecap.acquire("p")
        task = asyncio.create_task(leasecap.acquire_async("p"))
        await until_waiting(team, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until_waiting(team, 0)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(leasecap.acquire_async("p"), 0.05)
        await until_waiting(team, 0)
        lease.release()

    asyncio.run(main())
    team.assert_idle()


def test_a_wait_cancelled_in_the_moment_of_its_grant_hands_the_slot_on(team: Team) -> None:
    team.configure("[pools.p]\nlimit = 1\n")

    async def main() -> None:
        lease = leasecap.acquire("p")
        first = asyncio.create_task(leasecap.acquire_async("p"))
        await until_waiting(team, 1)
        second = asyncio.create_task(leasecap.acquire_async("p"))
        await until_waiting(team, 2)
        ticket = team.pool().waiters[0].id
        lease.release()
        until(lambda: [holder.id for holder in team.pool().holders] == [ticket], "it is granted")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        (await second).release()

    asyncio.run(main())
    team.assert_idle()


def test_the_turn_of_a_cancelled_task_passes_on(team: Team) -> None:
    team.configure("[pools.p]\nlimit = 4\n")

    async def main() -> None:
        tasks = [asyncio.create_task(leasecap.acquire_async("p")) for _ in range(4)]
        await asyncio.sleep(0)
        for task in tasks[1:3]:
            task.cancel()
        done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
        assert [type(one).__name__ for one in done] == ["Lease", "CancelledError", "CancelledError", "Lease"]
        for one in (done[0], done[3]):
            assert isinstance(one, leasecap.Lease)
            one.release()

    asyncio.run(main())
    team.assert_idle()


def test_a_loop_that_is_blocked_loses_its_place_to_nobody_but_lets_others_pass(team: Team) -> None:
    if team.store.kind == MEMORY:
        pytest.skip("a grant there is a grant: nobody has to take it up")
    team.configure("[pools.p]\nlimit = 1\nheartbeat = 0.5\nstale_after = 3\n")
    passed = threading.Event()

    def pass_by() -> None:
        leasecap.acquire("p").release()
        passed.set()

    async def main() -> None:
        lease = leasecap.acquire("p")
        blocked = asyncio.create_task(leasecap.acquire_async("p"))
        await until_waiting(team, 1)
        thread = threading.Thread(target=pass_by)
        thread.start()
        await until_waiting(team, 2)
        lease.release()
        assert passed.wait(60)  # the loop runs nothing meanwhile
        thread.join()
        (await blocked).release()

    asyncio.run(main())
    team.assert_idle()


def test_a_lease_of_one_thread_can_be_released_by_another(team: Team) -> None:
    team.configure("[pools.p]\nlimit = 1\n")
    lease = leasecap.acquire("p")
    run_threads(*(threading.Thread(target=lease.release) for _ in range(8)))
    team.assert_idle()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_one_slot_object_shared_by_two_at_once_is_an_error_and_leaks_nothing(team: Team, asynchronous: bool) -> None:
    team.configure("[pools.p]\nlimit = 1\n")
    shared = leasecap.slot("p", timeout=60)
    lease = leasecap.acquire("p")
    answers: list[str] = []

    def enter() -> None:
        try:
            with shared:
                answers.append("held")
        except RuntimeError:
            answers.append("refused")

    async def enter_async() -> None:
        try:
            async with shared:
                answers.append("held")
        except RuntimeError:
            answers.append("refused")

    async def main() -> None:
        if asynchronous:
            both = asyncio.gather(enter_async(), enter_async())
        else:
            both = asyncio.gather(asyncio.to_thread(enter), asyncio.to_thread(enter))
        await until_waiting(team, 1)
        while answers != ["refused"]:
            await asyncio.sleep(0.002)
        lease.release()
        await both

    asyncio.run(main())
    assert answers == ["refused", "held"]
    team.assert_idle()
    with shared:
        pass
    team.assert_idle()


def test_cancelled_tasks_leave_neither_ticket_nor_lease(team: Team) -> None:
    """redis-py#2665, seen from above: a cancellation that came at the wrong moment lost the release."""
    team.configure("[pools.p]\nlimit = 1\n")
    held = 0

    async def one() -> None:
        nonlocal held
        async with leasecap.slot("p"):
            held += 1
            await asyncio.sleep(random.random() * 0.01)

    async def main() -> None:
        for _ in range(20):
            tasks = [asyncio.create_task(one()) for _ in range(5)]
            await asyncio.sleep(random.random() * 0.02)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert held
    until(lambda: team.pool().in_flight == team.pool().waiting == 0, "nothing is left")
    team.assert_idle()
