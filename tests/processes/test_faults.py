"""Killed or stopped, seen from elsewhere, its pid used twice: the cap holds, and no slot leaks."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from holders import HOLD, SLOW_TO_TAKE_UP, can_be_had, configure, give_back, hold, queue, ready
from places import PLATFORM

from leasecap._host.process import start_of
from leasecap._liveness.record import decode_record, encode_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from referee import Team, Worker


# -- killed and stopped ---------------------------------------------------------------------------------------------


def test_the_slot_of_a_killed_holder_is_granted_again(
    team: Team, lock: str, record_property: Callable[[str, object], None]
) -> None:
    configure(team, lock)
    holder, waiter = (team.start(HOLD, name) for name in ("holder", "waiter"))
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    killed = holder.kill()
    waiter.expect("HELD")
    give_back(waiter)
    second = team.referee.intervals({"holder": killed})[1]
    recovery = (second.start - killed) / 1e6
    record_property("recovery_ms", recovery)
    assert recovery < 5000
    team.assert_idle()


def test_a_waiter_killed_in_the_queue_is_passed_over(team: Team, lock: str) -> None:
    configure(team, lock)
    holder, dead, next_one = (team.start(HOLD, name) for name in ("holder", "dead", "next"))
    ready(holder, dead, next_one)
    hold(holder)
    queue(team, dead, next_one)
    dead.kill()
    give_back(holder)
    assert dead.pid not in [found.pid for found in team.pool().holders]
    next_one.expect("HELD")
    give_back(next_one)
    assert team.referee.order() == ["holder", "next"]
    assert team.referee.peak() == 1
    team.assert_idle()


def test_a_waiter_killed_between_its_grant_and_taking_it_up_leaks_no_slot(team: Team, lock: str) -> None:
    configure(team, lock)
    holder, dead, next_one = (
        team.start(code + HOLD, name) for name, code in (("holder", ""), ("dead", SLOW_TO_TAKE_UP), ("next", ""))
    )
    ready(holder, dead, next_one)
    hold(holder)
    queue(team, dead)
    give_back(holder)
    dead.expect("GRANTED")
    assert [found.state for found in team.pool().holders] == ["granted"]
    queue(team, next_one)
    dead.kill()
    next_one.expect("HELD")
    give_back(next_one)
    team.assert_idle()


def test_a_stopped_holder_keeps_its_slot_for_longer_than_stale_after(team: Team, lock: str) -> None:
    configure(team, lock, more="stale_after = 0.6\nheartbeat = 0.2\n")
    holder, waiter, last = team.start(HOLD, "holder"), team.start(HOLD, "waiter", 1.5), team.start(HOLD, "last")
    ready(holder, waiter, last)
    hold(holder)
    holder.stop()
    waiter.tell()
    waiter.expect("TIMEOUT")
    (found,) = team.pool().holders
    assert (found.pid, found.alive) == (holder.pid, True)
    holder.go_on()
    queue(team, last)
    give_back(holder)
    last.expect("HELD")
    give_back(last)
    assert team.referee.peak() == 1


def test_a_waiter_stopped_at_the_head_is_passed_over_and_gets_its_turn_when_it_goes_on(team: Team, lock: str) -> None:
    configure(team, lock)
    names = ("holder", "stopped", "second", "third")
    holder, stopped, second, third = (team.start(HOLD, name) for name in names)
    ready(holder, stopped, second, third)
    hold(holder)
    queue(team, stopped, second, third)
    team.stop_outside(stopped)
    before = time.monotonic()
    give_back(holder)
    second.expect("HELD")
    assert time.monotonic() - before < 20
    assert [waiter.pid for waiter in team.pool().waiters] == [stopped.pid, third.pid], "it keeps its place"
    stopped.go_on()
    give_back(second)
    stopped.expect("HELD")
    give_back(stopped)
    third.expect("HELD")
    give_back(third)
    assert team.referee.order() == ["holder", "second", "stopped", "third"]
    assert team.referee.peak() == 1
    team.assert_idle()


def test_a_waiter_that_runs_again_takes_up_a_grant_that_nobody_took_back(team: Team, lock: str) -> None:
    configure(team, lock)
    holder, stopped = (team.start(HOLD, name) for name in ("holder", "stopped"))
    ready(holder, stopped)
    hold(holder)
    queue(team, stopped)
    team.stop_outside(stopped)
    give_back(holder)
    stopped.go_on()
    stopped.expect("HELD")
    give_back(stopped)
    team.assert_idle()


# A waiter that stops for a word with the test whenever it is about to take back somebody's grant.
TAKER = """
from leasecap._file_store.reconcile import Reconciler
park = Reconciler._park
def slow_park(self, entry):
    say("TAKING")
    hear()
    return park(self, entry)
Reconciler._park = slow_park
"""


def test_a_grant_taken_up_in_the_moment_in_which_it_is_taken_back_is_not_given_twice(team: Team, lock: str) -> None:
    configure(team, lock)
    holder, slow = team.start(HOLD, "holder"), team.start(SLOW_TO_TAKE_UP + HOLD, "slow")
    taker = team.start(TAKER + HOLD, "taker")
    ready(holder, slow, taker)
    hold(holder)
    queue(team, slow, taker)
    give_back(holder)
    slow.expect("GRANTED")
    taker.expect("TAKING")
    slow.tell()
    slow.expect("HELD")
    taker.tell()
    # Enters the section after the taker and finds the slot in use, by one.
    assert not can_be_had(team)
    assert team.pool().in_flight == 1
    give_back(slow)
    taker.expect("HELD")
    give_back(taker)
    assert team.referee.peak() == 1
    team.assert_idle()


# -- other namespaces, and pids used twice --------------------------------------------------------------------------

UNSHARE = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture
def unshare() -> tuple[str, ...]:
    """A command that runs another one in a pid namespace of its own."""
    if PLATFORM != "linux":
        pytest.skip("linux: pid namespaces")
    try:
        tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare(1)")
    if tried.returncode:
        pytest.skip(f"no pid namespace is to be had here: {tried.stderr.strip()}")
    return UNSHARE


def inside(worker: Worker) -> psutil.Process:
    """The process that `unshare` started, as it is seen from here."""
    (child,) = psutil.Process(worker.pid).children()
    return child


def test_a_live_holder_in_another_pid_namespace_keeps_its_slot(team: Team, unshare: tuple[str, ...]) -> None:
    configure(team, more="stale_after = 0.6\nheartbeat = 0.2\n")
    holder = team.start(HOLD, "holder", under=unshare)
    waiter, last = team.start(HOLD, "waiter", 1.5), team.start(HOLD, "last")
    ready(holder, waiter, last)
    hold(holder)
    # Not even a heartbeat then: the lock alone speaks for it.
    inside(holder).suspend()
    waiter.tell()
    waiter.expect("TIMEOUT")
    assert [(found.alive, found.evidence) for found in team.pool().holders] == [(True, "lock held")]
    inside(holder).resume()
    queue(team, last)
    killed = holder.kill()
    last.expect("HELD")
    give_back(last)
    assert team.referee.peak({"holder": killed}) == 1


def test_where_only_heartbeats_are_seen_a_stopped_holder_is_taken_for_dead_and_told_so(
    team: Team, unshare: tuple[str, ...]
) -> None:
    configure(team, "directory", more="stale_after = 1\nheartbeat = 0.3\n")
    holder, waiter = team.start(HOLD, "holder", under=unshare), team.start(HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    assert [found.alive for found in team.pool().holders] == [True]
    inside(holder).suspend()
    waiter.tell()
    waiter.expect("HELD")
    inside(holder).resume()
    assert holder.expect("LOST") == "False"
    holder.tell()
    assert holder.expect("RELEASED") == "True"
    assert [found.pid for found in team.pool().holders] == [waiter.pid]
    give_back(waiter)
    team.assert_idle()


def test_a_holder_in_another_pid_namespace_that_goes_on_beating_is_not_taken_for_dead(
    team: Team, unshare: tuple[str, ...]
) -> None:
    configure(team, "directory", more="stale_after = 5\nheartbeat = 0.3\n")
    holder, waiter = team.start(HOLD, "holder", under=unshare), team.start(HOLD, "waiter", 7)
    ready(holder, waiter)
    hold(holder)
    waiter.tell()
    waiter.expect("TIMEOUT")
    give_back(holder)
    team.assert_idle()


def rewrite_record(team: Team, **changes: object) -> None:
    (entry,) = Path(team.pool().path, "leases").iterdir()
    record = decode_record((entry / "info.json").read_bytes())
    assert record is not None
    (entry / "info.json").write_bytes(encode_record(record._replace(**changes)))  # type: ignore[arg-type]


def test_a_live_process_with_the_pid_of_a_dead_holder_keeps_no_slot(team: Team, lock: str) -> None:
    configure(team, lock)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    holder.kill()
    # As if this process had got its pid: the start time is still that of the dead one.
    rewrite_record(team, pid=os.getpid())
    assert can_be_had(team)


def test_a_record_whose_pid_and_start_time_are_those_of_a_live_process_keeps_its_slot(team: Team, lock: str) -> None:
    configure(team, lock)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    holder.kill()
    rewrite_record(team, pid=os.getpid(), start=start_of(os.getpid()))
    assert not can_be_had(team)
