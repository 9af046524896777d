"""One process with fifty tickets, killed, stopped or blocked: those behind it wait as if it had one."""

from __future__ import annotations

import time

import pytest
from crowds import many, seconds, waits
from holders import HOLD, configure, hold, ready
from referee import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team

PATIENCE = 8.0
"""Seconds: two for a grant that nobody takes up, one until somebody looks, and as much for a machine that is busy."""

IN_TIME = 25.0
"""Seconds: less than those after which the time of a ticket on a server is over."""

TICKETS = pytest.mark.parametrize("tickets", [1, 50])


@TICKETS
def test_slot_of_a_killed_process_passes_its_own_tickets(team: Team, tickets: int) -> None:
    configure(team)
    killed = many(team, tickets, "holds")
    waiter = waits(team, tickets)
    assert seconds(waiter, killed.kill()) < PATIENCE
    until(lambda: team.pool().waiting == 0, "what it left in the queue is removed")


@TICKETS
def test_released_slot_passes_the_tickets_of_a_killed_process(team: Team, tickets: int) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    killed = many(team, tickets)
    waiter = waits(team, tickets)
    killed.kill()
    before = time.monotonic_ns()
    holder.tell()
    assert seconds(waiter, before) < PATIENCE


@TICKETS
def test_tickets_of_a_killed_process_go_before_a_slot_is_free(team: Team, tickets: int) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    killed = many(team, tickets)
    waits(team, tickets)
    since = killed.kill()
    until(lambda: team.pool().waiting == 1, "what it left in the queue is removed")
    assert (time.monotonic_ns() - since) / 1e9 < IN_TIME


@pytest.mark.long
def test_tickets_of_killed_processes_go_though_all_were_killed_on_whom_others_rely(team: Team) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    killed = [waits(team, ahead) for ahead in range(3)]
    waits(team, 3)
    since = [worker.kill() for worker in killed][-1]
    until(lambda: team.pool().waiting == 1, "what they left in the queue is removed")
    assert (time.monotonic_ns() - since) / 1e9 < IN_TIME


@TICKETS
def test_slot_passes_the_tickets_of_a_stopped_process_which_keep_their_places(team: Team, tickets: int) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    stopped = many(team, tickets)
    waiter = waits(team, tickets)
    team.stop_outside(stopped)
    before = time.monotonic_ns()
    holder.tell()
    assert seconds(waiter, before) < PATIENCE
    assert [found.state for found in team.pool().waiters] == ["stopped"] * tickets
    newcomer = waits(team, tickets)
    stopped.go_on()
    stopped.tell()
    until(lambda: {found.state for found in team.pool().waiters} == {"waiting"}, "it stands in the queue again")
    waiter.tell()
    stopped.expect("DONE")  # before the newcomer, which came later
    newcomer.expect("HELD")


@TICKETS
def test_blocked_event_loop_keeps_a_slot_once(team: Team, tickets: int) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    blocked = many(team, tickets, "blocks")
    waiter = waits(team, tickets)
    blocked.tell()
    blocked.expect("BLOCKS")
    before = time.monotonic_ns()
    holder.tell()
    assert seconds(waiter, before) < PATIENCE
    blocked.tell()
    waiter.tell()
    blocked.expect("DONE")


def test_process_with_fifty_tickets_is_served_in_the_order_of_its_calls(team: Team) -> None:
    configure(team)
    worker = team.start(
        """
import asyncio
order = []
async def one(number):
    async with leasecap.slot("p", borrow=False):
        order.append(number)
async def main():
    async with leasecap.slot("p"):
        tasks = []
        for number in range(50):
            tasks.append(asyncio.create_task(one(number)))
            while leasecap.status("p").pools[0].waiting <= number:
                await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
asyncio.run(main())
say("ORDER", *order)
"""
    )
    assert worker.expect("ORDER") == " ".join(map(str, range(50)))
    worker.done()
    team.assert_idle()
