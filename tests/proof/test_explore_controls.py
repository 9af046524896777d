"""Each guard of the protocol, removed: the exploration then finds what it guards against.

The table in docs/proof.md names these tests. With all guards in place the same scenarios hold (`test_explore.py`).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from explore import controls, process_controls
from explore.controls import FORKED
from explore.explorer import Bound, Explorer, Failure
from explore.scenarios import SCENARIOS, queueing
from explore.stage import Scenario, Stage

SECONDS = 60.0

OVER = "work at once|takes the load to"
LATE = "too long, beside|is the first that runs"
STUCK = "still waits|stays free|no newcomer|waited for"


def finds(scenario: Scenario, what: str, *, switches: int = 2, faults: int = 0) -> None:
    """That the exploration fails, and says so."""
    with pytest.raises(Failure, match=what):
        Explorer(scenario, Bound(switches, faults, SECONDS), looks_for=what).run()


@pytest.mark.long
@pytest.mark.parametrize(
    ("remove", "scenario", "what", "switches", "faults"),
    [
        (controls.no_token_in_the_name, "late_reaper_while_one_tries_once", OVER, 2, 0),
        (controls.built_in_place, "two_acquire", f"{STUCK}|failed|left behind", 2, 0),
        (controls.listed_in_another_order, "grant_meets_newcomer", OVER, 2, 0),
        (controls.no_liveness_lock, "another_pid_namespace", "live process was taken", 1, 0),
        (controls.exclusive_probes, "looked_at_while_one_tries", "failed", 2, 0),
        (controls.looks_before_it_subscribes, "hints_alone", STUCK, 2, 0),
        (controls.stamp_compared_with_the_clock, "waiter_that_swept_behind_the_dead", STUCK, 0, 0),
        (controls.no_acknowledgement, "stopped_before_it_acknowledges", STUCK, 0, 1),
        (controls.borrowing_without_load, "two_borrowers", OVER, 1, 0),
        (controls.several_deadlines, "short_of_time_behind_a_stopped_one", "had its answer after", 0, 0),
        (controls.no_mutex_round_the_lock, "two_threads", OVER, 2, 0),
        (controls.no_look_on_leaving, "release_meets_newcomer", STUCK, 2, 0),
        (controls.no_probe_before_a_grant, "release_meets_newcomer", "granted to the dead", 0, 1),
        (controls.no_signed_grants, "robbed_inside", "nobody was told", 1, 1),
        (controls.robbed_and_not_told, "robbed_inside", "nobody was told", 1, 1),
        (controls.built_in_the_trash, "swept_while_it_is_made", "failed|no newcomer|left behind", 2, 1),
        (controls.without_the_child, "command_outlives_its_wrapper", OVER, 1, 1),
        (controls.without_start_ticks, "pid_used_again", "failed", 0, 0),
        (controls.without_the_boot_id, "after_a_reboot", "failed", 0, 0),
        (process_controls.nobody_told_of_who_goes_before, "inserted_and_killed", LATE, 0, 1),
        (process_controls.nobody_told_of_who_goes_before, "elder_inserted_and_killed", LATE, 0, 1),
        (process_controls.nobody_told_of_who_leaves, "gives_up_and_all_ahead_killed", LATE, 0, 1),
        (
            process_controls.duty_counted_per_ticket,
            "stopped_with_three_tickets_then_the_holder_killed",
            LATE,
            0,
            1,
        ),
        (process_controls.predecessor_not_watched, "gives_up_and_all_ahead_killed", LATE, 0, 1),
        (process_controls.exit_before_it_is_watched, "gives_up_and_all_ahead_killed", LATE, 0, 1),
        (process_controls.third_does_not_look, "two_stopped_then_the_holder_killed", LATE, 0, 1),
        (process_controls.stopped_ones_granted, "stopped_with_its_tickets", LATE, 0, 1),
        (process_controls.marks_not_cleared, "stopped_unseen", LATE, 0, 1),
        (process_controls.nobody_asked, "stopped_unseen", LATE, 0, 1),
        (process_controls.notices_taken_for_wake_ups, "inserted_and_killed", LATE, 0, 1),
        (process_controls.granted_processes_not_notified, "blocked_beside_a_sound_one_alone", LATE, 0, 0),
        (process_controls.nobody_notified_of_grants, "killed_with_its_tickets", LATE, 0, 1),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_without_the_guard_the_exploration_finds_a_violation(
    monkeypatch: pytest.MonkeyPatch,
    remove: Callable[[pytest.MonkeyPatch], None],
    scenario: str,
    what: str,
    switches: int,
    faults: int,
) -> None:
    remove(monkeypatch)
    finds(SCENARIOS[scenario], what, switches=switches, faults=faults)


def test_a_fork_that_goes_on_using_the_parents_lock_takes_the_pool_above_its_limit() -> None:
    finds(FORKED, OVER)


@pytest.mark.long
def test_a_grant_that_is_a_mark_in_a_name_is_missed_by_a_listing_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunked() -> Stage:
        with monkeypatch.context() as patch:
            patch.setattr(queueing, "Stage", lambda **how: Stage(chunked=True, **how))
            return queueing.grant_meets_newcomer()

    scenario = Scenario("grant_meets_newcomer", "", chunked)
    assert Explorer(scenario, Bound(1, 0, SECONDS)).run().complete
    controls.acknowledged_within_one_directory(monkeypatch)
    finds(scenario, OVER)
