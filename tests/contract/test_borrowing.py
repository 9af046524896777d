"""An agent that calls agents: at a cap of 1 it never dead-locks, and what truly runs stays within the cap."""

from __future__ import annotations

import os
import re
import shlex
import sys

import pytest
from commands import environment, run
from holders import HOLD, can_be_had, configure, give_back, hold, queue, ready
from referee import Team, Worker, until

import leasecap

TYPE_CHECKING = False

# A process that takes a slot and then starts itself, so many times deep, under its lease. It logs only what it does
# itself, not its wait for the inner one.
NEST = """
import subprocess
depth, pools = int(sys.argv[1]), sys.argv[2].split(",")
log = Log()
with leasecap.slot(pools[0], timeout=60) as lease:
    log.start(f"{depth}.before")
    time.sleep(0.005)
    log.end(f"{depth}.before")
    if depth > 1:
        rest = ",".join(pools[1:] + pools[:1])
        command = [sys.executable, "-c", os.environ["NEST"], str(depth - 1), rest]
        subprocess.run(command, env={**os.environ, **lease.env()}, check=True)
    log.start(f"{depth}.after")
    time.sleep(0.005)
    log.end(f"{depth}.after")
"""
PRELUDE = "import os, sys, time, leasecap\nfrom worker import Log, hear, say\n"

# Takes a slot, says what makes another process run under it, and gives it back when told.
LENDER = """
lease = leasecap.acquire("p", timeout=60)
say("HELD")
while (order := hear()) != "end":
    if order == "borrow":
        say("ENV", lease.env()["LEASECAP_LEASE"])
    elif order == "release":
        lease.release()
        say("RELEASED")
"""


def lend(lender: Worker) -> dict[str, str]:
    """The environment of a process that runs under the lender's lease."""
    lender.tell("borrow")
    return {"LEASECAP_LEASE": lender.expect("ENV")}


@pytest.mark.parametrize("depth", [2, 5])
def test_agents_that_start_agents_never_dead_lock_at_a_cap_of_one(team: Team, depth: int) -> None:
    configure(team)
    team.start(NEST, depth, "p", env={"NEST": PRELUDE + NEST}).done()
    inner = range(depth - 1, 0, -1)
    before, after = [f"{depth}.before"], [f"{depth}.after"]
    nested = [f"{one}.before" for one in inner], [f"{one}.after" for one in reversed(inner)]
    assert team.referee.order() == before + nested[0] + nested[1] + after
    team.assert_idle()


def test_two_such_trees_take_turns(team: Team) -> None:
    configure(team)
    trees = [team.start(NEST.replace('f"', f'f"{name}.'), 3, "p", env={"NEST": PRELUDE + NEST}) for name in "ab"]
    for tree in trees:
        tree.done()
    assert len(team.referee.intervals()) == 12
    assert team.referee.peak() == 1
    team.assert_idle()


def test_a_in_b_in_a_finds_the_outer_a(team: Team) -> None:
    team.configure("[pools.a]\nlimit = 1\n[pools.b]\nlimit = 1\n")
    team.start(NEST, 4, "a,b", env={"NEST": PRELUDE + NEST}).done()
    assert len(team.referee.intervals()) == 8
    team.assert_idle("a")
    team.assert_idle("b")


def test_nested_runs_of_the_command_line_share_one_slot(team: Team) -> None:
    team.configure("[pools.a]\nlimit = 1\n[pools.b]\nlimit = 1\n")
    run = [sys.executable, "-m", "leasecap", "run", "-w", "60"]
    nested = team.run([*run, "-p", "a", *run, "-p", "b", *run, "-p", "a", *run, "-p", "a", "echo", "DONE"])
    assert nested.line() == "DONE"
    nested.done()


def test_a_borrower_that_outlives_its_lender_keeps_the_slot(team: Team) -> None:
    configure(team)
    lender = team.start(LENDER)
    lender.expect("HELD")
    borrower = team.start(HOLD, "borrower", env=lend(lender))
    ready(borrower)
    hold(borrower)
    assert [holder.borrows_from is not None for holder in team.pool().holders] == [False, True]
    assert team.pool().in_flight == 1
    lender.tell("release")
    lender.expect("RELEASED")
    assert team.pool().in_flight == 1
    assert not can_be_had(team)
    give_back(borrower)
    assert can_be_had(team)


def test_in_a_chain_whose_middle_ends_the_innermost_goes_on_to_borrow_from_the_outermost(team: Team) -> None:
    configure(team)
    outer = team.start(LENDER)
    outer.expect("HELD")
    middle = team.start(LENDER, env=lend(outer))
    middle.expect("HELD")
    inner = team.start(HOLD, "inner", env=lend(middle))
    # Started under the middle one, but asks only once that has ended.
    late = team.start(HOLD, "late", env=lend(middle))
    ready(inner, late)
    hold(inner)
    middle.tell("release")
    middle.expect("RELEASED")
    assert team.pool().in_flight == 1
    queue(team, late)
    assert not can_be_had(team)
    give_back(inner)
    late.expect("HELD")
    assert team.pool().in_flight == 1
    outer.tell("release")
    outer.expect("RELEASED")
    assert not can_be_had(team)
    give_back(late)
    assert can_be_had(team)
    assert team.referee.peak() == 1


def test_borrowers_of_one_lender_run_one_at_a_time_at_a_cap_of_one(team: Team) -> None:
    configure(team)
    lender = team.start(LENDER)
    lender.expect("HELD")
    environment = lend(lender)
    first, second = (team.start(HOLD, name, env=environment) for name in ("first", "second"))
    ready(first, second)
    hold(first)
    queue(team, second)
    give_back(first)
    second.expect("HELD")
    give_back(second)
    assert team.referee.order() == ["first", "second"]
    assert team.referee.peak() == 1


def test_a_borrower_goes_before_a_stranger_who_waits_for_longer(team: Team) -> None:
    configure(team)
    lender = team.start(LENDER)
    lender.expect("HELD")
    stranger, borrower = team.start(HOLD, "stranger"), team.start(HOLD, "borrower", env=lend(lender))
    ready(stranger, borrower)
    queue(team, stranger)
    hold(borrower)
    give_back(borrower)
    lender.tell("release")
    lender.expect("RELEASED")
    stranger.expect("HELD")
    give_back(stranger)
    assert team.referee.order() == ["borrower", "stranger"]


def test_a_borrower_takes_a_free_slot_of_the_pool_when_the_lenders_is_lent_already(team: Team) -> None:
    configure(team, limit=2)
    lender = team.start(LENDER)
    lender.expect("HELD")
    environment = lend(lender)
    first, second, third = (team.start(HOLD, name, env=environment) for name in ("first", "second", "third"))
    ready(first, second, third)
    hold(first)
    hold(second)
    assert team.pool().in_flight == 2
    queue(team, third)
    give_back(second)
    third.expect("HELD")
    give_back(third)
    give_back(first)
    assert team.referee.peak() == 2


def test_a_killed_lender_leaves_its_borrower_the_one_slot(team: Team) -> None:
    configure(team)
    lender = team.start(LENDER)
    lender.expect("HELD")
    borrower = team.start(HOLD, "borrower", env=lend(lender))
    ready(borrower)
    hold(borrower)
    lender.kill()
    assert not can_be_had(team)
    until(lambda: len(team.pool().holders) == 1, "the dead lender is reaped")
    give_back(borrower)
    assert can_be_had(team)


def test_who_does_not_want_to_borrow_waits_for_a_slot_of_its_own(team: Team) -> None:
    configure(team)
    with leasecap.slot("p"):
        assert leasecap.try_acquire("p", borrow=False) is None
        with leasecap.slot("p", timeout=0):
            pass
    team.assert_idle()


@pytest.mark.parametrize("elsewhere", ["/somewhere/else", "redis%3A//127.0.0.1%3A1/0"], ids=["files", "server"])
def test_a_lease_of_another_store_lends_nothing(team: Team, elsewhere: str) -> None:
    configure(team)
    lender = team.start(LENDER)
    lender.expect("HELD")
    _, pool, lease = lend(lender)["LEASECAP_LEASE"].rsplit("/", 2)
    waiter = team.start(HOLD, "waiter", 0, env={"LEASECAP_LEASE": f"{elsewhere}/{pool}/{lease}"})
    ready(waiter)
    waiter.tell()
    waiter.expect("TIMEOUT")


def test_who_waits_for_its_agents_slot_is_told_how_to_share_it(team: Team) -> None:
    configure(team)
    assert run("acquire", "-p", "p", "--for-pid", str(os.getpid())).returncode == 0
    said = run("run", "-p", "p", "-w", "1.5", "--", "true")
    assert said.returncode == 75
    assert "has a slot of this pool by a hook" in said.stderr
    [shared] = re.findall(r"begin with LEASECAP_LEASE=(\S+)", said.stderr)
    given = environment(LEASECAP_LEASE=shlex.split(shared)[0])
    assert run("run", "-p", "p", "-n", "--", "true", env=given).returncode == 0
    assert run("release", "--for-pid", str(os.getpid())).returncode == 0


def test_who_waits_for_its_own_parent_is_told_that_the_list_of_leases_got_lost(team: Team) -> None:
    configure(team)
    stripped = ["env", "-u", "LEASECAP_LEASE"]
    run = [sys.executable, "-m", "leasecap", "run", "-p", "p"]
    outer = team.run([*run, "-l", "the outer one", *stripped, *run, "-w", "1.5", "true"])
    assert outer.wait() == 75
    said = outer.errors()
    assert f"pid {outer.pid} (the outer one) holds a slot of this pool and is a parent of this process" in said
    assert "LEASECAP_LEASE did not reach it" in said
