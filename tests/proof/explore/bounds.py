"""How far each scenario is explored: quickly with every test run, and deeply by ``scripts/explore``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explore.explorer import Bound

if TYPE_CHECKING:
    from explore.stage import Scenario

BASIC = frozenset(
    (
        *("two_acquire", "three_acquire", "timeout_with_another_behind", "interrupt_meets_release", "hints_alone"),
        *("reapers", "late_reaper", "try_once_beside_the_dead", "grant_meets_newcomer", "release_meets_newcomer"),
        *("nested_two_deep", "two_borrowers", "killed_and_started_anew", "declarer_far_back_killed"),
    )
)
"""Those that every run of the suite explores; the others are long."""

_SECONDS = 60.0  # of processor time; far more than any of them needs

QUICK = {
    name: Bound(switches, faults, _SECONDS)
    for name, switches, faults in (
        ("two_acquire", 1, 1),
        ("three_acquire", 1, 0),
        ("timeout_meets_release", 1, 1),
        ("timeout_with_another_behind", 1, 0),
        ("interrupt_meets_release", 1, 0),
        ("stopped_before_it_acknowledges", 0, 1),
        ("stopped_anywhere", 0, 1),
        ("reapers", 1, 0),
        ("late_reaper", 0, 1),
        ("late_reaper_while_one_tries_once", 0, 1),
        ("try_once_beside_the_dead", 1, 0),
        ("looked_at_while_one_tries", 2, 0),
        ("released_by_a_person", 1, 0),
        ("nested_two_deep", 1, 0),
        ("nested_three_deep", 1, 1),
        ("two_borrowers", 1, 0),
        ("two_threads", 2, 0),
        ("held_too_long", 1, 0),
        ("another_pid_namespace", 0, 1),
        ("kept_for_the_next_time", 1, 0),
        ("command_outlives_its_wrapper", 0, 1),
        ("swept_while_it_is_made", 2, 0),
        ("grant_meets_newcomer", 1, 0),
        ("release_meets_newcomer", 1, 0),
        ("waiter_behind_the_dead", None, 0),
        ("waiter_that_swept_behind_the_dead", None, 0),
        ("short_of_time_behind_a_stopped_one", 1, 0),
        ("pid_used_again", None, 0),
        ("after_a_reboot", None, 0),
        ("hints_alone", 1, 0),
        ("killed_with_its_tickets", 0, 1),
        ("killed_and_started_anew", 0, 0),
        ("stopped_with_its_tickets", 0, 1),
        ("stopped_unseen", 0, 1),
        ("blocked_with_its_tickets", 0, 0),
        ("blocked_beside_a_sound_one", 0, 1),
        ("blocked_beside_a_sound_one_alone", 0, 0),
        ("sweeper_killed_beside_a_stopped_one", 0, 1),
        ("killed_with_the_first_two", 0, 1),
        ("two_stopped_then_the_holder_killed", 0, 1),
        ("three_stopped_then_the_holder_killed", 0, 1),
        ("stopped_with_three_tickets_then_the_holder_killed", 0, 1),
        ("declarer_far_back_killed", 0, 1),
        ("inserted_and_killed", 0, 1),
        ("elder_inserted_and_killed", 0, 1),
        ("gives_up_and_all_ahead_killed", 0, 1),
        ("lost_wake_ups", 0, 1),
        ("killed_without_handles", 0, 1),
        ("directory_two_acquire", 1, 1),
        ("judged_by_another_kernel", 1, 0),
        ("robbed_inside", 0, 1),
        ("robbed_inside_by_one_of_two", 0, 0),
        ("robbed_and_thief", 1, 0),
        ("swept_inside", 0, 0),
    )
}

_STEPS = ((0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 1), (None, 1), (None, 2))
_STEPS_WITHOUT_FAULTS = ((0, 0), (1, 0), (2, 0), (3, 0), (None, 0))


def deeper(scenario: Scenario, seconds: float) -> list[Bound]:
    """Bounds to try one after the other, each within the time, until one is not explored to its end."""
    quick, stage = QUICK[scenario.name], scenario.stage()
    stage.world.close()
    steps = _STEPS if stage.kills or stage.stops else _STEPS_WITHOUT_FAULTS
    ladder = [Bound(switches, faults, seconds) for switches, faults in steps]
    return [quick._replace(seconds=seconds), *(bound for bound in ladder if _is_more(bound, quick))]


def _is_more(bound: Bound, than: Bound) -> bool:
    many = 1_000_000
    switches = many if bound.switches is None else bound.switches
    others = many if than.switches is None else than.switches
    return switches >= others and bound.faults >= than.faults and (switches, bound.faults) != (others, than.faults)
