"""Being woken: hints that arrive, and waiting that works as well where none can be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from holders import HOLD, configure, give_back, hold, queue, ready
from no_pipes import NO_DESCRIPTOR, WAYS
from referee import Team, until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Once wake-ups reach it, it says so, and looks by itself only once a minute.
SLEEPY = """
from leasecap._decisions import polling
rest, look = polling.poll_interval, polling.process_look
reached = False
polling.poll_interval = lambda wait: 60.0 if reached else rest(wait)
polling.process_look = lambda rank, **how: 60.0 if reached else look(rank, **how)
from leasecap._file_store import wakeups
start, reaches = wakeups.Watch.start, wakeups.Watch.reaches
def forgetting_start(self, **how):
    global reached
    reached = False
    return start(self, **how)
def telling_reaches(self):
    global reached
    before, reached = reached, reaches(self)
    if reached and not before:
        say("WATCHES")
    return reached
wakeups.Watch.start, wakeups.Watch.reaches = forgetting_start, telling_reaches
"""

# Forks so many processes that wait for a slot, and waits for their end.
SWARM = """
children = []
log = Log()
for name in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        try:
            with leasecap.slot("p"):
                log.start(name)
                time.sleep(0.005)
                log.end(name)
        except BaseException as error:
            say("FAILED", repr(error))
            os._exit(1)
        os._exit(0)
    children.append(pid)
say("FORKED")
print(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


@pytest.fixture
def with_inotify_instances() -> Callable[[int], tuple[str, ...]]:
    """Makes a command that runs another one where so many inotify instances are to be had."""

    def command(number: int) -> tuple[str, ...]:
        limit = f'echo {number} > /proc/sys/user/max_inotify_instances && exec "$@"'
        return ("unshare", "--user", "--map-root-user", "sh", "-c", limit, "sh")

    try:
        tried = subprocess.run([*command(1), "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare(1)")
    if tried.returncode:
        pytest.skip(f"inotify can't be limited here: {tried.stderr.strip()}")
    return command


@pytest.fixture(params=["pipe", "file"])
def either(request: pytest.FixtureRequest, team: Team) -> str:
    """The kind of wake-up that the workers have."""
    if request.param == "file":
        team.without_pipes()
    return str(request.param)


@pytest.mark.parametrize("lock", ["os", "directory"])
def test_a_waiter_is_woken_by_the_release(
    team: Team, either: str, lock: str, record_property: Callable[[str, object], None]
) -> None:
    configure(team, lock)
    holder, waiter = team.start(HOLD, "holder"), team.start(SLEEPY + HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    waiter.expect("WATCHES")
    before = time.monotonic()
    give_back(holder)
    waiter.expect("HELD")
    took = time.monotonic() - before
    record_property("wake_up_ms", took * 1e3)
    assert took < 20  # it wouldn't look for a minute
    give_back(waiter)
    team.assert_idle()


def test_a_second_wait_of_one_process_is_woken_as_well(team: Team, either: str) -> None:
    configure(team)
    holder, waiter = team.start(HOLD + HOLD, "holder"), team.start(SLEEPY + HOLD + HOLD, "waiter")
    for _ in range(2):
        ready(holder, waiter)
        hold(holder)
        queue(team, waiter)
        waiter.expect("WATCHES")
        give_back(holder)
        waiter.expect("HELD")
        give_back(waiter)
        holder.tell()
        waiter.tell()
    team.assert_idle()


@pytest.mark.parametrize("way", [*WAYS.values(), NO_DESCRIPTOR], ids=[*WAYS, "no descriptor"])
def test_without_named_pipes_waiting_works_silently(team: Team, way: str) -> None:
    team.without_pipes(way)
    configure(team)
    holder, waiter = team.start(HOLD, "holder"), team.start(HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    give_back(holder)
    waiter.expect("HELD")
    give_back(waiter)
    assert waiter.errors() == ""
    team.assert_idle()


def test_a_task_that_waits_is_woken_by_the_release(team: Team, either: str) -> None:
    configure(team)
    task = """
import asyncio
async def main():
    say("READY")
    hear()
    async with leasecap.slot("p"):
        say("HELD")
asyncio.run(main())
"""
    holder, waiter = team.start(HOLD, "holder"), team.start(SLEEPY + task)
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    waiter.expect("WATCHES")
    give_back(holder)
    waiter.expect("HELD")
    waiter.done()
    team.assert_idle()


@pytest.mark.linux("inotify; it is kept from commands by what /proc says, and elsewhere there is none")
def test_a_command_that_waits_inherits_nothing_of_the_wakeup(team: Team, either: str) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    waiting = team.leasecap("run", "-p", "p", "--", "sh", "-c", "ls -l /proc/self/fd >&2")
    team.until_waiting(1)
    until(lambda: either == "pipe" or _has_inotify(waiting.pid), "a watched file")
    give_back(holder)
    waiting.done()
    assert "alive" in waiting.errors() and "inotify" not in waiting.errors()


def _has_inotify(pid: int) -> bool:
    return any("inotify" in _target(one) for one in Path(f"/proc/{pid}/fd").iterdir())


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:
        return ""  # closed meanwhile


def test_a_killed_waiters_wakeup_is_cleared_away_by_the_next_one(team: Team, either: str) -> None:
    configure(team)
    holder, killed, waiter = (team.start(code + HOLD, name) for name, code in (("h", ""), ("k", SLEEPY), ("w", SLEEPY)))
    ready(holder, killed, waiter)
    hold(holder)
    queue(team, killed)
    killed.expect("WATCHES")
    (left,) = os.listdir(team.root / "wake")
    killed.kill()
    queue(team, waiter)
    waiter.expect("WATCHES")
    assert left not in os.listdir(team.root / "wake")
    give_back(holder)
    waiter.expect("HELD")
    give_back(waiter)
    assert os.listdir(team.root / "wake") == []


def test_a_killed_holders_slot_is_granted_to_who_waits(team: Team, either: str) -> None:
    configure(team)
    holder, waiter = team.start(HOLD, "holder"), team.start(HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    until(lambda: either == "pipe" or _has_inotify(waiter.pid), "a watched file")
    holder.kill()
    waiter.expect("HELD")
    give_back(waiter)
    team.assert_idle()


def test_a_wakeup_that_was_tidied_away_is_made_anew(team: Team, either: str) -> None:
    configure(team)
    waker = """
from leasecap._file_store import wakeups
reaches, renew, renewed = wakeups.Watch.reaches, wakeups.Watch._renew, 0
def telling_reaches(self):
    reached = reaches(self)
    if reached:
        say("REACHED", renewed)
    return reached
def counted_renew(self):
    global renewed
    renew(self)
    renewed += 1
wakeups.Watch.reaches, wakeups.Watch._renew = telling_reaches, counted_renew
"""
    holder, waiter = team.start(HOLD, "holder"), team.start(waker + HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    first = waiter.expect("REACHED")
    shutil.rmtree(team.root / "wake")
    while waiter.expect("REACHED") == first:
        pass  # pytest's own time-out ends this
    assert len(os.listdir(team.root / "wake")) == 1
    give_back(holder)
    while waiter.line().startswith("REACHED"):
        pass
    give_back(waiter)
    team.assert_idle()


@pytest.mark.long
def test_many_more_waiting_processes_than_inotify_instances_are_all_granted_in_the_end(
    team: Team, either: str, with_inotify_instances: Callable[[int], tuple[str, ...]]
) -> None:
    # 140 beside 128, the usual number, would take them from everybody else on the machine.
    configure(team, limit=4)
    holders = [team.start(HOLD, f"holder.{number}") for number in range(4)]
    ready(*holders)
    for holder in holders:
        hold(holder)
    swarm = team.start(SWARM, 140, under=with_inotify_instances(20))
    swarm.expect("FORKED")
    team.until_waiting(140)
    for holder in holders:
        give_back(holder)
    assert swarm.line() == "0"
    assert len(team.referee.intervals()) == 144
    assert team.referee.peak() == 4
    assert swarm.errors() == ""
    team.assert_idle()


def test_a_fork_of_a_process_that_watches_takes_nothing_from_it(team: Team, either: str) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    fork = """
import threading
say("READY")
hear()
def wait():
    leasecap.acquire("p").release()
    say("HELD")
thread = threading.Thread(target=wait)
thread.start()
hear()
pid = os.fork()
if pid == 0:
    import gc
    gc.collect()
    try:
        leasecap.acquire("p", timeout=0.05)
    except leasecap.AcquireTimeout:
        os._exit(0)
    os._exit(1)
say("CHILD", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
thread.join()
"""
    waiter = team.start(SLEEPY + fork)
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    waiter.expect("WATCHES")
    waiter.tell()
    while (line := waiter.line()) == "WATCHES":
        pass  # the child's own
    assert line == "CHILD 0"
    give_back(holder)
    waiter.expect("HELD")
    waiter.done()
    team.assert_idle()
