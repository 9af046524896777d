"""Leases that end otherwise than by their release: their holder is told, and their slot is had by the next."""

from __future__ import annotations

import logging
import time

import pytest
from commands import run, status
from holders import HOLD, configure, hold, queue, ready
from referee import DEADLINE, Team, until

import leasecap

TYPE_CHECKING = False


def test_slot_of_a_killed_holder_is_granted_to_who_waits(team: Team) -> None:
    configure(team)
    holder, waiter = team.start(HOLD, "holder"), team.start(HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    killed = holder.kill()
    waiter.expect("HELD")
    assert time.monotonic_ns() - killed < 20e9  # and not after stale_after
    assert team.referee.peak({"holder": killed, "waiter": time.monotonic_ns()}) == 1


def test_slot_of_a_killed_holder_is_had_by_who_tries_once(team: Team) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    holder.kill()
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 0


def test_person_who_releases_a_lease_tells_its_holder_by_whom(team: Team) -> None:
    configure(team, more="heartbeat = 0.05\nstale_after = 3\n")
    lease = leasecap.acquire("p")
    assert run("release", lease.id[:8], "--yes").returncode == 0
    assert lease.lost.wait(60)
    with pytest.raises(leasecap.LeaseLost, match="released by a person"):
        lease.check()
    lease.release()
    team.assert_idle()


def test_lease_says_that_its_time_is_over(team: Team) -> None:
    configure(team)
    with leasecap.acquire("p", max_hold=0.05) as lease:
        assert lease.expired.wait(60)
        assert lease.held
        with pytest.raises(leasecap.LeaseLost):
            lease.check()


def test_slot_that_is_held_for_too_long_is_given_away_if_the_pool_says_so(team: Team) -> None:
    configure(team, more='reclaim = "force"\nkill_after = 0.1\n')
    lease = leasecap.acquire("p", max_hold=0.1)
    with leasecap.acquire("p", timeout=60, borrow=False):
        assert lease.lost.wait(60)
    lease.release()


def test_a_dropped_lease_gives_its_slot_back_and_says_so(team: Team, caplog: pytest.LogCaptureFixture) -> None:
    configure(team)
    lease = leasecap.acquire("p")
    name = lease.id
    with pytest.warns(ResourceWarning, match=f"Lease {name} of pool 'p', held> was dropped without a release"):
        del lease
    leasecap.acquire("p", timeout=DEADLINE).release()
    until(lambda: bool(caplog.records), "a line in the log")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("leasecap", logging.WARNING)
    assert name in record.message and "keep what acquire() returns" in record.message


@pytest.mark.filterwarnings("ignore:.*dropped without a release:ResourceWarning")
def test_a_call_whose_result_is_not_kept_holds_nothing(team: Team) -> None:
    configure(team)
    for _ in range(20):
        leasecap.acquire("p", timeout=DEADLINE)
    until(lambda: status().in_flight == 0, "the slot")
