"""One process with many threads, tasks and event loops; all of them under one cap."""

from __future__ import annotations

import asyncio
import threading

import leasecap
from leasecap._file_store.reconcile import Reconciler
from leasecap._wait.event_loop import turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest
    from referee import Team


async def until_waiting(team: Team, number: int) -> None:
    while team.pool().waiting != number:
        await asyncio.sleep(0.002)


def test_tasks_that_begin_at_once_leave_the_loop_to_others_in_between(team: Team) -> None:
    team.configure("[pools.p]\nlimit = 20\n")
    rounds = 0

    async def acquire() -> int:
        lease = await leasecap.acquire_async("p")
        begun = rounds
        lease.release()
        return begun

    async def main() -> None:
        nonlocal rounds
        tasks = [asyncio.create_task(acquire()) for _ in range(20)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            rounds += 1
        assert len({task.result() for task in tasks}) == 20

    asyncio.run(main())
    team.assert_idle()


def test_slots_given_back_in_one_round_of_a_loop_are_handed_on_together(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.configure("[pools.p]\nlimit = 8\n")
    settled = 0
    reconcile = Reconciler.reconcile

    def counted(reconciler: Reconciler) -> None:
        nonlocal settled
        settled += threading.current_thread() is threading.main_thread()  # the others sweep, once a second
        reconcile(reconciler)

    async def hold(end: asyncio.Event) -> None:
        async with leasecap.slot("p"):
            await end.wait()

    async def main() -> None:
        nonlocal settled
        end, never = asyncio.Event(), asyncio.Event()
        first = [asyncio.create_task(hold(end)) for _ in range(8)]
        while team.pool().in_flight < 8:
            await asyncio.sleep(0.002)
        next_ones = [asyncio.create_task(hold(never)) for _ in range(8)]
        await until_waiting(team, 8)
        monkeypatch.setattr(Reconciler, "reconcile", counted)
        end.set()
        await asyncio.gather(*first)
        while team.pool().waiting:
            await asyncio.sleep(0.002)
        assert settled <= 4  # two, and what a sweep may add
        never.set()
        await asyncio.gather(*next_ones)

    asyncio.run(main())
    team.assert_idle()


async def take_turn() -> None:
    turn = turns().join()
    if turn is not None:
        await turn


def test_an_exit_cancelled_before_its_turn_has_handed_its_slot_on(team: Team) -> None:
    team.configure("[pools.p]\nlimit = 1\n")

    async def handed_on_when_cancelled() -> bool:
        end = asyncio.Event()

        async def hold() -> None:
            async with leasecap.slot("p"):
                await end.wait()

        task = asyncio.create_task(hold())
        while team.pool().in_flight < 1:
            await asyncio.sleep(0.002)
        waiter = asyncio.create_task(leasecap.acquire_async("p"))
        await until_waiting(team, 1)
        taking = [asyncio.create_task(take_turn()) for _ in range(10)]
        end.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        found = team.pool()
        task.cancel()
        await asyncio.wait([task])
        was_free = not found.in_flight and [ticket.id for ticket in found.waiters]
        handed_on = was_free == [holder.id for holder in team.pool().holders]
        await asyncio.gather(*taking)
        (await waiter).release()
        return handed_on

    async def main() -> None:
        # The one that waits may have looked before, or the process's look-out be inside in that moment.
        assert sum([await handed_on_when_cancelled() for _ in range(20)]) > 10

    asyncio.run(main())
    team.assert_idle()
