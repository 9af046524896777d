"""One process with many tickets, killed, stopped or blocked as a whole: what that costs those behind it does not depend
on how many tickets it had. Real processes; the moments are read from CLOCK_MONOTONIC."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from children import await_stop
from crowds import MANY, TIMED, many, seconds, waits
from holders import HOLD, configure, give_back, hold, ready
from referee import stop_outside, until

from leasecap._decisions.entry import process_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pace import Pace
    from referee import Team

AFTER_A_KILL, AFTER_A_STOP = 0.6, 3.2
"""Seconds: what is promised (0.3 and 2.3), and as much again for a machine that is busy. `pace` takes off what such a
machine kept others waiting."""

ONE_OR_MANY = pytest.mark.parametrize("tickets", [1, 5, 200])


def settle(team: Team) -> None:
    """Let those who wait have looked at who is ahead of them."""
    before = stamp(team)
    until(lambda: stamp(team) != before, "a sweep")
    time.sleep(0.3)  # no event says that the third has attached its watch; too short a time only makes it harder


def stamp(team: Team) -> bytes:
    with open(os.path.join(team.pool().path, "sweep"), "rb") as file:
        return file.read()


@ONE_OR_MANY
def test_the_slot_of_a_killed_process_passes_its_own_tickets_at_once(team: Team, tickets: int, pace: Pace) -> None:
    configure(team)
    killed = many(team, tickets, "holds")
    waiter = waits(team, tickets)
    settle(team)
    assert seconds(waiter, killed.kill(), pace) < AFTER_A_KILL
    until(lambda: team.pool().waiting == 0, "what it left in the queue is removed")


@ONE_OR_MANY
def test_a_newcomer_passes_the_tickets_of_a_process_that_was_killed_before_it_came(
    team: Team, tickets: int, pace: Pace
) -> None:
    """The same agent, started again at once."""
    configure(team)
    killed = many(team, tickets, "holds")
    newcomer = team.start(TIMED)
    ready(newcomer)
    moment = killed.kill()
    newcomer.tell()
    assert seconds(newcomer, moment, pace) < AFTER_A_KILL


@ONE_OR_MANY
def test_a_released_slot_passes_all_tickets_of_a_stopped_process_at_once(team: Team, tickets: int, pace: Pace) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    stopped = many(team, tickets)
    waiter = waits(team, tickets)
    team.stop_outside(stopped)
    before = time.monotonic_ns()
    holder.tell()
    assert seconds(waiter, before, pace) < AFTER_A_KILL
    assert [found.state for found in team.pool().waiters] == ["stopped"] * tickets
    assert [found.position for found in team.pool().waiters] == list(range(1, tickets + 1)), "it keeps its places"
    stopped.go_on()
    stopped.tell()
    waiter.tell()
    stopped.expect("DONE")


@ONE_OR_MANY
def test_a_killed_holders_slot_passes_a_stopped_process_at_once(team: Team, tickets: int, pace: Pace) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    stopped = many(team, tickets)
    waiter = waits(team, tickets)
    settle(team)
    team.stop_outside(stopped)
    assert seconds(waiter, holder.kill(), pace) < AFTER_A_KILL


@pytest.mark.parametrize("tickets", [1, 12, 100])
def test_a_blocked_event_loop_keeps_a_slot_once_however_many_tickets_it_has(
    team: Team, tickets: int, pace: Pace
) -> None:
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
    assert seconds(waiter, before, pace) < AFTER_A_STOP
    blocked.tell()
    waiter.tell()
    blocked.expect("DONE")


def test_a_sound_thread_beside_a_blocked_event_loop_keeps_its_turn(team: Team, pace: Pace) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    both = team.start(
        """
import asyncio, threading
def thread():
    lease = leasecap.acquire("p")
    os.write(1, b"THREAD %d\\n" % time.monotonic_ns())
    lease.release()
async def one():
    async with leasecap.slot("p"):
        pass
async def main():
    tasks = [asyncio.create_task(one()) for _ in range(5)]
    await asyncio.to_thread(hear)
    threading.Thread(target=thread).start()
    await asyncio.to_thread(hear)
    say("BLOCKS")
    hear()
    await asyncio.gather(*tasks)
    say("DONE")
say("READY")
hear()
asyncio.run(main())
"""
    )
    ready(both)
    both.tell()
    team.until_waiting(5)
    both.tell()
    team.until_waiting(6)
    waiter = waits(team, 6)
    both.tell()
    both.expect("BLOCKS")
    before = time.monotonic_ns()
    holder.tell()
    had = pace.seconds(before, int(both.expect("THREAD")))
    assert had < AFTER_A_STOP
    assert seconds(waiter, before, pace) < had + AFTER_A_STOP
    both.tell()
    waiter.tell()
    both.expect("DONE")


@pytest.mark.parametrize("number", [1, 2, 6])
def test_a_holder_and_those_first_in_the_queue_killed_together_keep_nobody(team: Team, number: int, pace: Pace) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    waiters = [waits(team, place) for place in range(number + 1)]
    settle(team)
    moment = time.monotonic_ns()
    for worker in (holder, *waiters[:number]):
        worker.send(signal.SIGKILL)
    assert seconds(waiters[number], moment, pace) < AFTER_A_KILL


@pytest.mark.parametrize("number", [2, 4])
def test_those_first_in_the_queue_stopped_and_then_the_holder_killed_keep_nobody(
    team: Team, number: int, pace: Pace
) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    waiters = [waits(team, place) for place in range(number + 1)]
    settle(team)
    for worker in waiters[:number]:
        team.stop_outside(worker)
    moment = time.monotonic_ns()
    holder.kill()
    assert seconds(waiters[number], moment, pace) < AFTER_A_STOP


UNSHARE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.mark.linux("pid namespaces")
@pytest.mark.parametrize("tickets", [1, 10])
def test_a_process_stopped_where_nobody_can_see_it_costs_two_seconds_once(team: Team, tickets: int, pace: Pace) -> None:
    if shutil.which("unshare") is None or os.system(" ".join((*UNSHARE, "true", "2>/dev/null"))):
        pytest.skip("no pid namespace is to be had here")
    import psutil

    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    hidden = team.start(MANY, tickets, "waits", under=UNSHARE)
    ready(hidden)
    hidden.tell()
    hidden.expect("ASKED")
    team.until_waiting(tickets)
    waiter = waits(team, tickets)
    settle(team)
    (inside,) = psutil.Process(hidden.pid).children()

    def stop() -> None:
        inside.suspend()
        await_stop(inside.pid)

    stop_outside(team.pool().path, stop, inside.resume)
    before = time.monotonic_ns()
    holder.tell()
    assert seconds(waiter, before, pace) < AFTER_A_STOP
    # The one that it was granted, and the others.
    assert [found.state for found in team.pool().waiters] == ["deaf"] * (tickets - 1) + ["parked"]
    waiter.tell()
    inside.resume()
    hidden.tell()
    hidden.expect("DONE")


@pytest.mark.posix("exec")
@pytest.mark.parametrize("tickets", [1, 10])
def test_a_process_that_became_another_program_costs_two_seconds_once(team: Team, tickets: int, pace: Pace) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    changed = many(team, tickets, "execs")
    waiter = waits(team, tickets)
    changed.tell()
    changed.expect("CHANGED")
    ticket = min(os.listdir(os.path.join(team.pool().path, "queue")))
    shutil.rmtree(team.root / "wake" / process_of(ticket))  # as others do that come to wait, since nobody listens there
    before = time.monotonic_ns()
    holder.tell()
    assert seconds(waiter, before, pace) < AFTER_A_STOP
    assert [found.state for found in team.pool().waiters] == ["deaf"] * (tickets - 1) + ["parked"]
    waiter.tell()


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_limit_declared_by_a_process_that_was_killed_in_the_queue_is_gone(team: Team, place: str, pace: Pace) -> None:
    configure(team, limit=5)
    holders = [team.start(HOLD, f"holder.{number}") for number in range(5)]
    ready(*holders)
    for holder in holders:
        hold(holder)
    strict = TIMED.replace('"p"', '"p", limit=1')
    waiters = [team.start(strict if (place, number) in (("first", 0), ("last", 20)) else TIMED) for number in range(21)]
    ready(*waiters)
    for number, worker in enumerate(waiters, 1):
        worker.tell()
        team.until_waiting(number)
    settle(team)
    declarer = waiters.pop(0 if place == "first" else -1)
    moment = declarer.kill()
    for holder in holders:
        holder.tell()
    for worker in waiters[:5]:
        assert seconds(worker, moment, pace) < 2 * AFTER_A_KILL  # five slots go round on two cores


def wakes(wake: Path) -> str:
    """The process that listens; it queues before it does."""
    until(lambda: wake.is_dir() and any(name[0] != "." for name in os.listdir(wake)), "it listens")
    (name,) = [name for name in os.listdir(wake) if name[0] != "."]
    return name


def test_a_tidy_up_of_the_wake_ups_makes_nobody_deaf(team: Team, pace: Pace) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    waiter = waits(team, 0)
    wake = team.root / "wake"
    before = wakes(wake)
    shutil.rmtree(wake / before)
    until(lambda: (wake / before / ".wakeup").exists(), "it is made anew")
    moment = time.monotonic_ns()
    give_back(holder)
    assert seconds(waiter, moment, pace) < AFTER_A_KILL


def test_a_mark_is_answered_however_coarse_the_clock_of_the_file_system_is(team: Team, pace: Pace) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    waiter = waits(team, 0)
    wake = team.root / "wake"
    process = wakes(wake)
    before = os.stat(wake / process)
    (wake / process / "deaf").touch()
    os.utime(wake / process, ns=(before.st_atime_ns, before.st_mtime_ns))
    until(lambda: not (wake / process / "deaf").exists(), "it answers")
    moment = time.monotonic_ns()
    give_back(holder)
    assert seconds(waiter, moment, pace) < AFTER_A_KILL


def test_two_hundred_busy_threads_are_not_taken_for_a_stopped_process(team: Team) -> None:
    """Each newcomer finds the pool's own lock taken by the same pid, time and again."""
    configure(team, limit=4)
    busy = team.start(
        """
import threading
stop = time.monotonic() + 4
def work():
    while time.monotonic() < stop:
        leasecap.acquire("p").release()
threads = [threading.Thread(target=work) for _ in range(200)]
for thread in threads:
    thread.start()
say("READY")
for thread in threads:
    thread.join()
say("DONE")
"""
    )
    ready(busy)
    tries = team.start(
        """
end = time.monotonic() + 2.5
while time.monotonic() < end:
    lease = leasecap.try_acquire("p")
    if lease is not None:
        lease.release()
say("DONE")
"""
    )
    tries.expect("DONE")
    busy.expect("DONE")
