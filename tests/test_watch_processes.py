"""Being woken: hints that arrive, and waiting that works as well where none can be had."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from holders import HOLD, configure, give_back, hold, queue, ready
from referee import Team, until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Once it listens, it looks by itself only once a minute.
SLEEPY = """
from leasecap._decisions import polling
rest, look = polling.poll_interval, polling.process_look
listens = False
polling.poll_interval = lambda wait: 60.0 if listens else rest(wait)
polling.process_look = lambda rank, **how: 60.0 if listens else look(rank, **how)
from leasecap._file_store import wakeups
start = wakeups.Watch.start
def telling_start(self, **how):
    global listens
    listens = start(self, **how)
    say("WATCHES" if listens else "LOOKS")
    return listens
wakeups.Watch.start = telling_start
"""

# Can make no named pipe.
DEAF = """
import os
del os.mkfifo
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


@pytest.mark.parametrize("lock", ["os", "directory"])
def test_a_waiter_is_woken_by_the_release(
    team: Team, lock: str, record_property: Callable[[str, object], None]
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


def test_a_second_wait_of_one_process_is_woken_as_well(team: Team) -> None:
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


def test_without_named_pipes_waiting_works_silently(team: Team) -> None:
    configure(team)
    holder, waiter = team.start(HOLD, "holder"), team.start(DEAF + SLEEPY + HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    waiter.expect("LOOKS")
    give_back(holder)
    waiter.expect("HELD")
    give_back(waiter)
    assert waiter.errors() == ""
    team.assert_idle()


def test_a_killed_waiters_pipe_is_cleared_away_by_the_next_one(team: Team) -> None:
    configure(team)
    holder, killed, waiter = (team.start(code + HOLD, name) for name, code in (("h", ""), ("k", ""), ("w", SLEEPY)))
    ready(holder, killed, waiter)
    hold(holder)
    queue(team, killed)
    pipes = team.root / "wake"
    until(lambda: pipes.is_dir() and any(not name.startswith(".") for name in os.listdir(pipes)), "a pipe")
    (left,) = os.listdir(pipes)
    killed.kill()
    queue(team, waiter)
    waiter.expect("WATCHES")
    assert left not in os.listdir(pipes)
    give_back(holder)
    waiter.expect("HELD")
    give_back(waiter)
    assert os.listdir(pipes) == []


def test_many_more_waiting_processes_than_inotify_instances_are_all_granted_in_the_end(
    team: Team, with_inotify_instances: Callable[[int], tuple[str, ...]]
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


def test_a_fork_of_a_process_that_watches_takes_nothing_from_it(team: Team) -> None:
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
    while (line := waiter.line()) in ("WATCHES", "LOOKS"):
        pass  # the child's own
    assert line == "CHILD 0"
    give_back(holder)
    waiter.expect("HELD")
    waiter.done()
    team.assert_idle()
