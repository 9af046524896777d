"""Who is woken by the exit of each holder sweeps seldom, and is late for none: real processes, really killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from holders import HOLD, INSIDE, configure, give_back, hold, queue, ready
from referee import until

from leasecap._host.exits import SEES_EXITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team, Worker

pytestmark = pytest.mark.skipif(not SEES_EXITS, reason="the exit of a process wakes nobody here")

# Its process looks only once a minute while it is covered, and says whenever that begins.
RESTING = """
from leasecap._decisions import polling
look = polling.process_look
def sleepy(rank, *, on_duty, covered, watched):
    if covered:
        say("COVERED")
        return 60.0
    return look(rank, on_duty=on_duty, covered=covered, watched=watched)
polling.process_look = sleepy
"""

# `HOLD` in a task of an event loop.
TASK = """
import asyncio
async def main():
    lease = await leasecap.acquire_async("p")
    say("HELD")
    await asyncio.to_thread(hear)
    lease.release()
    say("RELEASED", bool(lease.lost))
say("READY")
hear()
asyncio.run(main())
hear()
"""

# The same as `leasecap run`; its command holds.
RUN = """
import signal
from leasecap.cli.main import main
say("READY")
hear()
script = 'echo HELD; read go; echo RELEASED False'
sys.argv = ["leasecap", "run", "-p", "p", "--", "sh", "-c", script]
main()
"""

# Says which descriptors it has that wait for processes.
HANDLES = """
def handles():
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            kind = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if "pidfd" in kind or "eventpoll" in kind:
            found.append(kind)
    return len(found)
"""

# Declares a limit while it waits, and gives up when told.
GIVES_UP = """
import asyncio
async def main():
    task = asyncio.create_task(leasecap.acquire_async("p", limit=1))
    await asyncio.to_thread(hear)
    task.cancel()
    await asyncio.wait([task])
    say("GAVE-UP")
say("READY")
hear()
asyncio.run(main())
hear()
"""

SELDOM = "heartbeat = 60\nstale_after = 180\n"
"""A waiter looks at least once per heartbeat."""

AT_ONCE = 20.0
"""Seconds that are less than a minute, on a machine that is busy."""


def heard(worker: Worker, word: str) -> str:
    """Wait until it says ``word``; it may say before how it is covered."""
    while not (line := worker.line()).startswith(word):
        assert line == "COVERED", line
    return line


def resting(team: Team, *holders: Worker, code: str = HOLD) -> Worker:
    """A waiter that rests behind these holders."""
    waiter = team.start(RESTING + code, "waiter")
    ready(*holders, waiter)
    for holder in holders:
        hold(holder)
    queue(team, waiter)
    heard(waiter, "COVERED")
    return waiter


@pytest.mark.parametrize("code", [HOLD, TASK, RUN], ids=["thread", "task", "run"])
def test_a_killed_holders_slot_is_granted_at_once(team: Team, code: str) -> None:
    configure(team, more=SELDOM)
    holder = team.start(HOLD, "holder")
    waiter = resting(team, holder, code=code)
    before = time.monotonic()
    holder.kill()  # and nobody waits for it: it stays a zombie
    heard(waiter, "HELD")
    assert time.monotonic() - before < AT_ONCE
    waiter.tell()
    heard(waiter, "RELEASED False")


def test_a_slot_whose_wrapper_is_killed_is_granted_when_its_command_is(team: Team) -> None:
    configure(team, more=SELDOM)
    script = "print(__import__('os').getpid(), flush=True); input()"
    wrapper = team.leasecap("run", "-p", "p", "--", sys.executable, "-c", script)
    command = int(wrapper.line())
    until(lambda: team.pool().holders[0].child == command, "the wrapper has noted its command")
    waiter = resting(team)
    wrapper.kill()
    heard(waiter, "COVERED")  # by the command
    assert [holder.alive for holder in team.pool().holders] == [True]
    before = time.monotonic()
    os.kill(command, signal.SIGKILL)
    heard(waiter, "HELD")
    assert time.monotonic() - before < AT_ONCE


def test_a_process_that_a_slot_was_taken_for_is_covered(team: Team) -> None:
    configure(team, more=SELDOM)
    held_for = team.start("hear()")
    team.leasecap("acquire", "-p", "p", "--for-pid", str(held_for.pid)).done()
    waiter = resting(team)
    before = time.monotonic()
    held_for.kill()
    heard(waiter, "HELD")
    assert time.monotonic() - before < AT_ONCE


def test_a_holder_that_is_granted_a_slot_later_is_covered_as_well(team: Team) -> None:
    configure(team, more=SELDOM)
    holder, second = team.start(HOLD, "holder"), team.start(HOLD, "second")
    waiter = team.start(RESTING + HOLD, "waiter")
    ready(holder, second, waiter)
    hold(holder)
    queue(team, second, waiter)
    heard(waiter, "COVERED")
    give_back(holder)  # who waits stays one of the first two, which is no news
    second.expect("HELD")
    heard(waiter, "COVERED")
    before = time.monotonic()
    second.kill()
    heard(waiter, "HELD")
    assert time.monotonic() - before < AT_ONCE


def test_a_holder_that_goes_before_and_is_killed_at_once_keeps_nobody(team: Team) -> None:
    configure(team, more=SELDOM)
    holder, urgent = team.start(HOLD, "holder"), team.start(HOLD.replace('"p"', '"p", priority=5'), "urgent")
    waiter = resting(team, holder)
    ready(urgent)
    queue(team, urgent, behind=1)
    give_back(holder)
    urgent.expect("HELD")
    before = time.monotonic()
    urgent.kill()
    heard(waiter, "HELD")
    assert time.monotonic() - before < AT_ONCE


def test_one_that_declares_a_limit_later_is_covered_as_well(team: Team) -> None:
    configure(team, limit=2, more=SELDOM)
    one, other = team.start(HOLD, "one"), team.start(HOLD, "other")
    waiter = resting(team, one, other)
    declarer = team.start('leasecap.acquire("p", limit=1)')
    team.until_waiting(2)
    heard(waiter, "COVERED")
    give_back(one)
    assert team.pool().waiting == 2
    before = time.monotonic()
    declarer.kill()
    heard(waiter, "HELD")
    assert time.monotonic() - before < AT_ONCE


def test_the_next_one_that_declares_a_limit_is_covered_when_the_first_one_gives_up(team: Team) -> None:
    configure(team, limit=2, more=SELDOM)
    one, other, second = (team.start(HOLD, name) for name in ("one", "other", "second"))
    waiter = resting(team, one, other)
    ready(second)
    queue(team, second, behind=1)
    gives_up, declarer = team.start(GIVES_UP), team.start(GIVES_UP)
    ready(gives_up, declarer)
    queue(team, gives_up, declarer, behind=2)
    heard(waiter, "COVERED")
    gives_up.tell()
    gives_up.expect("GAVE-UP")
    heard(waiter, "COVERED")
    give_back(one)
    assert team.pool().waiting == 3
    before = time.monotonic()
    declarer.kill()
    heard(waiter, "HELD")
    assert time.monotonic() - before < AT_ONCE


def test_one_that_borrows_and_outlives_its_lender_is_covered_as_well(team: Team) -> None:
    configure(team, more=SELDOM)
    lender = team.start(
        """
import subprocess
say("READY")
hear()
lease = leasecap.acquire("p")
say("HELD")
hear()
os.environ.update(lease.env())
code = "import sys, leasecap; lease = leasecap.acquire('p'); print(__import__('os').getpid(), flush=True); input()"
borrower = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
hear()
lease.release()
say("RELEASED")
hear()
"""
    )
    waiter = resting(team, lender)
    lender.tell()
    borrower = int(lender.line())
    lender.tell()
    lender.expect("RELEASED")
    assert [holder.pid for holder in team.pool().holders] == [borrower]
    before = time.monotonic()
    os.kill(borrower, signal.SIGKILL)
    heard(waiter, "HELD")
    assert time.monotonic() - before < AT_ONCE


@pytest.mark.parametrize("more", ["cooldown = 0.5\n", ""], ids=["cooling", "paused"])
def test_what_the_provider_answers_keeps_a_slot_for_no_longer_than_it_says(team: Team, more: str) -> None:
    configure(team, more=SELDOM + more)
    holder = team.start(HOLD, "holder")
    waiter = resting(team, holder)
    if not more:
        team.leasecap("report", "p", "--status", "429", "--retry-after", "2").done()
    before = time.monotonic()
    give_back(holder)
    heard(waiter, "HELD")
    assert time.monotonic() - before < AT_ONCE


def test_where_a_slot_may_have_to_be_given_away_nobody_rests(team: Team) -> None:
    configure(team, more=SELDOM + 'kill_after = 0.5\nreclaim = "force"\n')
    holder = team.start(HOLD.replace('"p"', '"p", max_hold=2'), "holder")
    waiter = team.start(RESTING + HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    waiter.tell()
    holder.stop()
    waiter.expect("HELD")


def test_when_the_wait_is_over_all_its_descriptors_are_closed(team: Team) -> None:
    configure(team, more=SELDOM)
    holder = team.start(HOLD, "holder")
    waiter = resting(team, holder, code=HANDLES + HOLD.replace('say("HELD")', 'say("HELD", handles())'))
    give_back(holder)
    end = time.monotonic() + AT_ONCE
    assert heard(waiter, "HELD") in ("HELD 0", "HELD 1")  # the thread may not have ended yet
    while any("pidfd" in link or "eventpoll" in link for link in descriptors(waiter)):
        assert time.monotonic() < end


def descriptors(worker: Worker) -> list[str]:
    place = f"/proc/{worker.pid}/fd"
    found = []
    for number in os.listdir(place):
        try:
            found.append(os.readlink(f"{place}/{number}"))
        except OSError:
            pass  # closed meanwhile
    return found


@pytest.mark.linux("a fork's child inherits no kqueue, its parent's loop's neither")
def test_a_fork_of_a_process_that_rests_has_none_of_its_descriptors_and_takes_nothing_from_it(team: Team) -> None:
    configure(team, more=SELDOM)
    holder = team.start(HOLD, "holder")
    fork = """
import asyncio, gc
async def main():
    of_the_loop = handles()
    task = asyncio.create_task(leasecap.acquire_async("p"))
    await asyncio.to_thread(hear)
    pid = os.fork()
    if pid == 0:
        say("CHILD", handles() - of_the_loop)
        own = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]  # with numbers that were the parent's
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        gc.collect()
        for number in own:
            os.fstat(number)
        os._exit(0)
    say("PARENT", handles() - of_the_loop)
    say("ENDED", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    lease = await task
    say("HELD")
say("READY")
hear()
asyncio.run(main())
"""
    waiter = resting(team, holder, code=HANDLES + fork)
    waiter.tell()
    said = {waiter.line() for _ in range(3)}
    assert said == {"CHILD 0", "PARENT 2", "ENDED 0"}
    before = time.monotonic()
    holder.kill()
    heard(waiter, "HELD")
    assert time.monotonic() - before < AT_ONCE


@pytest.mark.parametrize("sweeps", [0, 3], ids=["at once", "later"])
def test_a_slot_is_granted_whose_releaser_relied_on_a_process_that_is_killed_inside_the_lock(
    team: Team, sweeps: int
) -> None:
    # Nobody watches a process that hasn't queued yet, so its exit wakes nobody.
    configure(team, limit=2, more=SELDOM)
    holder, other = team.start(HOLD, "holder"), team.start(HOLD, "other")
    waiter = resting(team, holder, other)
    inside = team.start(INSIDE)
    inside.expect("INSIDE")
    give_back(holder)
    swept = Path(team.pool().path, "sweep")
    seen: set[bytes] = set()

    def has_swept() -> bool:
        seen.add(swept.read_bytes())
        return len(seen) > sweeps

    until(has_swept, "sweeps, in vain since somebody is inside")
    before = time.monotonic()
    inside.kill()
    heard(waiter, "HELD")
    assert time.monotonic() - before < AT_ONCE


def test_without_such_descriptors_waiting_works_as_before(team: Team) -> None:
    configure(team, more=SELDOM)
    holder = team.start(HOLD, "holder")
    refused = """
from leasecap._host import exits
def refuse(pid):
    raise OSError(24, "too many open files")
exits._open = refuse
"""
    waiter = team.start(refused + RESTING + HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    holder.kill()
    waiter.expect("HELD")
    assert waiter.errors() == ""


def test_the_heartbeats_of_a_ticket_take_no_thread(team: Team) -> None:
    configure(team, more="heartbeat = 0.05\nstale_after = 1\n")
    holder, waiter = team.start(HOLD, "holder"), team.start(HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    (ticket,) = os.listdir(os.path.join(team.pool().path, "queue"))
    alive = os.path.join(team.pool().path, "queue", ticket, "alive")
    seen: set[bytes] = set()

    def has_beaten() -> bool:
        with open(alive, "rb") as file:
            seen.add(file.read())
        return len(seen) > 3

    until(has_beaten, "three heartbeats")
    assert len(os.listdir(f"/proc/{waiter.pid}/task")) == 1  # the one that waits, which reads the pipe as well
    give_back(holder)
    waiter.expect("HELD")
    give_back(waiter)
