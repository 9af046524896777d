"""Feedback between real processes: what one reports, or a person says, holds for all."""

from __future__ import annotations

import sys
import time

from commands import run, until
from holders import HOLD, can_be_had, configure, give_back, hold, queue, ready

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team

# Takes a slot, gives it back, and is gone.
BRIEF = """
lease = leasecap.acquire("p")
say("HELD")
hear()
lease.release()
say("RELEASED")
"""

# Takes a slot when told, and says when.
TIMED = """
import time
say("READY")
hear()
lease = leasecap.acquire("p")
say("HELD", time.monotonic())
hear()
lease.release()
say("RELEASED")
"""


EVER = 600.0


def feedback(team: Team) -> leasecap.PoolFeedback:
    found = team.pool().feedback
    assert found is not None
    return found


def test_a_pause_holds_for_all_and_resume_wakes_those_who_wait(team: Team) -> None:
    configure(team, limit=3)
    workers = [team.start(TIMED) for _ in range(2)]
    ready(*workers)
    team.leasecap("pause", "p").done()
    queue(team, *workers)
    assert not can_be_had(team)
    assert feedback(team).paused and feedback(team).pause_left is None
    before = time.monotonic()
    team.leasecap("resume", "p").done()
    for worker in workers:
        worker.expect("HELD")
    assert time.monotonic() - before < 20


def test_a_retry_after_that_one_process_reports_keeps_all_out_until_then(team: Team) -> None:
    configure(team, limit=3)
    worker = team.start(TIMED)
    ready(worker)
    reported = time.monotonic()
    leasecap.report("p", 429, retry_after=1.5)
    worker.tell()
    assert float(worker.expect("HELD")) - reported >= 1.49


def test_after_a_pause_grants_come_one_by_one(team: Team) -> None:
    configure(team, limit=4, more="stagger = 1\n")
    workers = [team.start(TIMED) for _ in range(4)]
    ready(*workers)
    team.leasecap("pause", "p").done()
    queue(team, *workers)
    before = time.monotonic()
    team.leasecap("resume", "p").done()
    held = sorted(float(worker.expect("HELD")) for worker in workers)
    assert all(moment - before >= number - 0.01 for number, moment in enumerate(held))


def test_a_refusal_lowers_the_limit_for_all_and_setting_it_restores_it(team: Team) -> None:
    configure(team, limit=4)
    workers = [team.start(HOLD, number) for number in range(5)]
    ready(*workers)
    for worker in workers[:3]:
        hold(worker)
    run("report", "p", "--status", "529")
    queue(team, *workers[3:])
    assert (team.pool().limit, team.pool().in_flight) == (3, 3)
    assert feedback(team).lines[0].startswith("3 of 4: cut ")
    assert "a 529 reported by pid" in feedback(team).lines[0]
    team.leasecap("limit", "p", "4").done()
    workers[3].expect("HELD")
    assert team.pool().limit == 4 and feedback(team).lines == ()
    for worker in workers[:3]:
        give_back(worker)
    workers[4].expect("HELD")


def test_a_reduced_limit_grows_back_while_somebody_waits(team: Team) -> None:
    configure(team, limit=4, more="probe_interval = 1.5\n")
    workers = [team.start(HOLD, number) for number in range(6)]
    ready(*workers)
    run("report", "p", "--status", "429")
    for worker in workers:
        worker.tell()
    until(lambda: team.pool().in_flight == 4)
    until(lambda: team.pool().waiting == 2)


def test_a_cooling_slot_outlives_its_holder_and_is_shown(team: Team) -> None:
    configure(team, limit=1, more=f"cooldown = {EVER}\n")
    worker = team.start(BRIEF)
    worker.expect("HELD")
    worker.tell()
    worker.expect("RELEASED")
    worker.done()
    assert feedback(team).cooling == 1
    assert "1 cooling" in run("status").stdout
    assert not can_be_had(team)
    configure(team, limit=1)
    assert can_be_had(team), "a cool-down that was taken back holds no more"


def test_a_slot_that_has_cooled_down_is_granted_to_who_waits(team: Team) -> None:
    configure(team, limit=1, more="cooldown = 1\n")
    first, second = team.start(BRIEF), team.start(TIMED)
    ready(second)
    first.expect("HELD")
    queue(team, second)
    released = time.monotonic()
    first.tell()
    assert float(second.expect("HELD")) - released >= 0.99


def test_run_says_why_it_waits(team: Team) -> None:
    configure(team, limit=1)
    leasecap.report("p", 429, retry_after=EVER)
    done = run("run", "-p", "p", "-w", "1.5", "--", "true")
    assert done.returncode == 75
    assert "paused for" in done.stderr and "a 429 reported by pid" in done.stderr


def test_a_command_under_run_reports_about_its_own_lease(team: Team) -> None:
    configure(team, limit=8)
    report = f"{sys.executable} -m leasecap report p --status 429"
    done = run("run", "-p", "p", "-l", "agent", "--", "sh", "-c", f"{report} && {report}")
    assert done.returncode == 0, done.stderr
    assert team.pool().limit == 6
    assert "(agent)" in str(feedback(team).reduced_by)


def test_report_of_a_lease_from_before_a_cut_cuts_no_further(team: Team) -> None:
    configure(team, limit=4)
    with leasecap.slot("p") as first, leasecap.slot("p", borrow=False) as second:
        first.report(429)
        second.report(429)
    assert leasecap.status("p").pools[0].limit == 3
