"""What the provider's answers do, as pure decisions: always with more than one slot free and more than one waiter."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from staged_world import entry, pool_at

from leasecap._decisions import grants as _decide
from leasecap._decisions.limits import UNLIMITED
from leasecap._feedback import adaptive as _feedback
from leasecap._feedback.adaptive import Report
from leasecap._feedback.rules import Rules
from leasecap._feedback.state import (
    NOTHING,
    Clock,
    Cut,
    Latency,
    Ramp,
    State,
    Usage,
    decode_state,
    encode_state,
    rebased,
)

if TYPE_CHECKING:
    from leasecap._decisions.grants import Plan

NOW = 1000.0
RULES = Rules()
REFUSAL = Report("concurrency", "a 429")


def refused(
    state: State,
    *,
    level: int,
    now: float = NOW,
    rules: Rules = RULES,
    granted: float | None = None,
    retry_after: float | None = None,
    jitter: float = 0.0,
) -> State:
    report = Report(
        "concurrency", "a 429", granted=now if granted is None else granted, retry_after=retry_after, jitter=jitter
    )
    return _feedback.reported(state, rules, now, report, level, level)


def plan_for(
    state: State,
    *,
    limit: int = 8,
    leases: int = 0,
    waiting: int = 5,
    cooling: int = 0,
    now: float = NOW,
    rules: Rules = RULES,
    gated: bool = False,
    newcomer: bool = False,
) -> Plan:
    admission = _feedback.admission(state, rules, now, gated=gated)
    queue = tuple(entry(100 + number, order=number) for number in range(waiting))
    snapshot = pool_at(
        limit,
        queue,
        leases=tuple(entry(number) for number in range(1, leases + 1)),
        cooling=tuple(entry(50 + number) for number in range(cooling)),
        newcomer=queue[-1].name if newcomer else None,
        admission=admission,
    )
    return _decide.decide(snapshot, now)


def grown(state: State, seconds: float, *, full: int, rules: Rules = RULES, now: float = NOW) -> State:
    """After so many seconds in which somebody presses all the time, looking ten times a second."""
    for tick in range(1, int(seconds * 10) + 1):
        state = _feedback.pressed(state, rules, now + tick / 10, full)
    return state


def cut_of(state: State) -> Cut:
    assert state.cut is not None
    return state.cut


# -- pauses ----------------------------------------------------------------------------------------------------------


def test_a_retry_after_closes_the_pool_for_all_who_wait_and_no_longer() -> None:
    state = refused(NOTHING, level=8, retry_after=30)
    assert plan_for(state, now=NOW + 29.9).grant == ()
    assert plan_for(state, now=NOW + 31.1).grant != ()


def test_a_pause_keeps_borrowers_waiting_as_well() -> None:
    state = _feedback.paused(NOTHING, NOW, 30, "by hand")
    admission = _feedback.admission(state, RULES, NOW, gated=False)
    snapshot = pool_at(2, (entry(2, 1), entry(3)), leases=(entry(1),), admission=admission)
    assert _decide.decide(snapshot, NOW).grant == ()


@given(st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(0, 2000)), min_size=1, max_size=6))
def test_no_later_report_shortens_a_pause(reports: list[tuple[float, float | None]]) -> None:
    state, now = NOTHING, NOW
    for later, seconds in reports:
        now += later
        before = state.pause
        state = refused(state, level=8, now=now, retry_after=seconds or 0.0)
        if before is not None and before.until is not None:
            assert state.pause is not None and state.pause.until is not None
            assert state.pause.until >= before.until


@given(st.floats(0.001, 10_000), st.floats(0, 1, exclude_max=True))
def test_jitter_only_ever_adds_and_a_pause_is_bounded(seconds: float, jitter: float) -> None:
    state = refused(NOTHING, level=8, retry_after=seconds, jitter=jitter)
    assert state.pause is not None and state.pause.until is not None
    assert state.pause.until - NOW >= min(seconds, RULES.max_pause) - 1e-6
    assert state.pause.until - NOW <= min(seconds + 1.0, RULES.max_pause) + 1e-6


def test_a_used_up_quota_closes_the_pool_until_a_person_resumes_it() -> None:
    quota = Report("quota", "a used-up quota")
    state = _feedback.reported(NOTHING, RULES, NOW, quota, 8, 0)
    state = refused(state, level=8, retry_after=5)  # must not end it by time-out
    assert plan_for(state, now=NOW + 365 * 86400).grant == ()
    assert len(plan_for(_feedback.resumed(state)).grant) > 0


def test_a_quota_with_a_time_closes_until_then_even_beyond_the_longest_pause() -> None:
    state = _feedback.reported(NOTHING, RULES, NOW, Report("quota", "", retry_after=3600), 8, 0)
    assert plan_for(state, now=NOW + 3599).grant == ()
    assert plan_for(state, now=NOW + 3601).grant != ()


@given(st.integers(1, 50))
def test_what_is_neutral_changes_nothing(level: int) -> None:
    assert _feedback.reported(NOTHING, RULES, NOW, Report("neutral", ""), level, level) is NOTHING


# -- grants after a pause --------------------------------------------------------------------------------------------


@given(st.integers(2, 8), st.integers(2, 12), st.floats(0.05, 3))
def test_after_a_pause_grants_that_raise_the_load_are_spaced(limit: int, waiting: int, stagger: float) -> None:
    rules = Rules(stagger=stagger)
    state = _feedback.paused(NOTHING, NOW, 10, "by hand")
    at: list[float] = []
    leases, now = 0, NOW + 10
    while leases < min(limit, waiting):
        plan = plan_for(state, limit=limit, leases=leases, waiting=waiting - leases, now=now, rules=rules)
        assert len(plan.grant) <= 1, "one at a time, whatever is free and whoever waits"
        at += [now] * len(plan.grant)
        leases += len(plan.grant)
        state = _feedback.granted(state, now, plan.high, plan.spent, len(plan.grant))
        now += stagger / 7
    assert at[0] == NOW + 10, "the first one need not wait"
    assert all(later - earlier >= stagger * 0.999 for earlier, later in itertools.pairwise(at))


def test_a_hand_off_is_never_delayed_after_a_pause() -> None:
    state = State(ramp=Ramp(3, NOW - 0.01))
    plan = plan_for(state, limit=8, leases=1)
    assert len(plan.grant) == 2, "up to the load that was there; then one stagger later"
    assert plan.high is None


def test_without_a_pause_nothing_is_spaced() -> None:
    assert len(plan_for(refused(NOTHING, level=8), limit=8, waiting=8).grant) == 6  # the reduced limit


def test_what_runs_on_through_a_pause_is_no_reason_to_wait_longer() -> None:
    state = _feedback.paused(NOTHING, NOW, 10, "by hand")
    assert len(plan_for(state, limit=8, leases=3, now=NOW + 10).grant) == 1


# -- cuts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "limit"), [(10, 7), (20, 14), (4, 3), (3, 2), (2, 1)])
def test_a_refusal_cuts_the_limit_by_the_factor_and_by_one_at_least(level: int, limit: int) -> None:
    assert cut_of(refused(NOTHING, level=level)).limit == limit


@given(st.integers(1, 1000), st.integers(1, 1000), st.floats(0.1, 0.95))
def test_a_cut_is_never_below_the_least_limit_nor_above_what_it_was(level: int, least: int, backoff: float) -> None:
    state = refused(NOTHING, level=level, rules=Rules(min_limit=least, backoff=backoff))
    if state.cut is not None:
        assert min(least, level) <= state.cut.limit < level
        assert state.cut.limit == least or state.cut.limit <= max(round(level * backoff), level - 1)
    else:
        assert level <= least


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_reports_about_leases_granted_before_the_last_cut_do_not_cut_again(earlier: list[float]) -> None:
    state = once = refused(NOTHING, level=20)
    for before in earlier:
        state = refused(state, level=14, now=NOW + 5, granted=NOW - before)
    assert state == once
    assert cut_of(refused(state, level=14, now=NOW + 5, granted=NOW + 1)).limit == 10


def test_reports_that_belong_to_no_lease_cut_once_per_epoch() -> None:
    unknown = REFUSAL._replace(granted=None)
    state = once = _feedback.reported(NOTHING, RULES, NOW, unknown, 20, 20)
    state = _feedback.reported(state, RULES, NOW + 1, unknown, 14, 3)
    state = _feedback.reported(state, RULES, NOW + 60, unknown, 14, 15)  # more is in flight than the limit allows
    assert state == once
    assert _feedback.reported(state, RULES, NOW + 60, unknown, 14, 14) != once


def test_reports_that_belong_to_no_lease_and_are_older_than_the_cut_do_not_cut_again() -> None:
    # A process wrote its report, and before the file had its name another one reported, and both were taken up.
    unknown = REFUSAL._replace(granted=None)
    state = once = _feedback.reported(NOTHING, RULES, NOW, unknown, 20, 3)
    for _ in range(5):
        state = _feedback.reported(state, RULES, NOW - 0.02, unknown, 14, 3)
    assert state == once


def test_the_reduced_limit_holds_for_all_who_wait() -> None:
    state = refused(NOTHING, level=10)
    assert len(plan_for(state, limit=10, leases=2, waiting=9).grant) == 5
    assert plan_for(state, limit=10, leases=9, waiting=9).grant == ()
    assert not plan_for(state, limit=10, leases=9).over, "what runs above a reduced limit is nobody's to revoke"


def test_a_pool_without_any_limit_stays_shut_even_when_reduced() -> None:
    admission = _feedback.admission(refused(NOTHING, level=10), RULES, NOW, gated=False)
    assert _decide.decide(pool_at(None, (entry(1), entry(2)), admission=admission), NOW).grant == ()


def test_an_unlimited_pool_is_cut_from_what_is_in_flight() -> None:
    state = _feedback.reported(NOTHING, RULES, NOW, REFUSAL._replace(granted=NOW), 30, 30)
    assert cut_of(state).limit == 21
    assert len(plan_for(state, limit=UNLIMITED, leases=20).grant) == 1


def test_off_pauses_and_does_not_cut() -> None:
    state = refused(NOTHING, level=8, rules=Rules(adaptive="off"), retry_after=10)
    assert state.cut is None and state.pause is not None


def after_refusals(state: State, number: int, *, grants: int = 1, level: int = 14) -> State:
    """Each about a lease granted after the last cut, and so many grants in between."""
    for _ in range(number):
        state = _feedback.granted(state, NOW + 1, None, False, grants)
        state = refused(state, level=level, now=NOW + 1)
    return state


def test_second_cut_takes_a_refusal_at_once_or_three_among_few_grants() -> None:
    once = refused(NOTHING, level=20)
    assert cut_of(after_refusals(once, 1)).limit == 10, "the level that it was cut to is refused as well"
    calm = _feedback.granted(once, NOW, None, False, 20)
    assert calm.refusals == 0
    assert after_refusals(calm, 2).cut == once.cut
    assert cut_of(after_refusals(calm, 3)).limit == 10


@given(st.integers(10, 1000), st.integers(1, 200))
def test_refusals_that_grants_outweigh_never_cut_again(grants: int, number: int) -> None:
    once = refused(NOTHING, level=20)
    calm = _feedback.granted(once, NOW, None, False, 20)
    assert after_refusals(calm, number, grants=grants).cut == once.cut


def test_probe_fails_by_two_refusals() -> None:
    state = grown(refused(NOTHING, level=10), 65, full=20)
    assert cut_of(state).phase == "hold"
    state = _feedback.granted(state, NOW + 65, None, False, 20)
    state = refused(state, level=10, now=NOW + 66)
    assert cut_of(state).limit == 10
    assert cut_of(refused(state, level=10, now=NOW + 66)).limit == 7


def test_refusals_count_no_further_than_a_cut_takes() -> None:
    rules = Rules(min_limit=14)
    state = refused(NOTHING, level=20, rules=rules)
    for _ in range(100):
        state = refused(state, level=14, now=NOW + 1, rules=rules)
    assert state.refusals <= _feedback.EVIDENCE + 1


# -- the way back ----------------------------------------------------------------------------------------------------


def test_it_grows_quickly_to_just_under_the_level_it_was_cut_from_and_then_probes() -> None:
    state = refused(NOTHING, level=10)
    assert cut_of(grown(state, 1.9, full=20)).limit == 7
    assert cut_of(grown(state, 4.3, full=20)).limit == 9
    assert cut_of(grown(state, 50, full=20)).limit == 9
    assert cut_of(grown(state, 65, full=20)).limit == 10


def test_failed_probes_come_ever_more_rarely_and_one_that_holds_starts_again() -> None:
    state, now = refused(NOTHING, level=6), NOW
    waits: list[float] = []
    for _ in range(6):
        for tick in range(1, 10_000):
            state = _feedback.pressed(state, RULES, now + tick / 10, 20)
            if cut_of(state).phase == "hold":
                break
        waits.append(round(tick / 10))
        now += tick / 10
        state = refused(state, level=6, now=now + 0.1)
    assert [round(wait / 60) for wait in waits] == [1, 2, 4, 8, 10, 10]
    state = grown(state, 600 + 30 + 4, full=20, now=now + 0.1)
    assert cut_of(state).probe_after == RULES.probe_interval
    assert cut_of(state).limit > 6, "and after a probe that holds quickly on"


def test_after_a_probe_that_holds_it_grows_up_to_the_configured_limit_and_is_forgotten() -> None:
    state = grown(refused(NOTHING, level=6), 4 + 60 + 30 + 30, full=12)
    assert state.cut is None
    assert state.last_cut == NOW, "reports about older leases still don't cut"


def test_reduce_never_grows_back_by_itself() -> None:
    rules = Rules(adaptive="reduce")
    state = refused(NOTHING, level=10, rules=rules)
    assert grown(state, 1000, full=10, rules=rules) == state


def test_it_grows_only_while_somebody_presses() -> None:
    state = refused(NOTHING, level=10)
    for minute in range(60):  # one look a minute, and nobody knows what was between
        state = _feedback.pressed(state, RULES, NOW + 60 * minute, 10)
    assert cut_of(state).limit == 7


def test_only_a_waiter_whom_the_reduced_limit_keeps_out_presses() -> None:
    state = refused(NOTHING, level=10)
    assert plan_for(state, limit=10, leases=7).pressed
    assert not plan_for(state, limit=10, leases=5, waiting=2).pressed, "all are served"
    assert not plan_for(state, limit=5, leases=5).pressed, "another limit keeps them out"
    assert not plan_for(_feedback.paused(state, NOW, 9, ""), limit=10, leases=7).pressed
    assert not plan_for(NOTHING, limit=10, leases=10).pressed


def test_report_that_is_taken_up_late_ages_no_time_that_was_reported_since() -> None:
    """The limit would be raised, and not lowered, though the first bytes come late."""
    slow = Report("neutral", "a slow first byte", ttfb=9.0)
    state = State(latency=Latency(9.0, 1.0, 20, NOW - 1))
    state = _feedback.reported(state, RULES, NOW, slow, 7, 7)
    state = _feedback.reported(state, RULES, NOW - 100, slow, 7, 7)
    assert _feedback.is_slow(state.latency, NOW + 1)


def test_a_rising_time_to_first_byte_holds_growth_back_and_with_the_guard_cuts() -> None:
    slow = Latency(short=5.0, long=1.0, samples=20, at=NOW)
    state = refused(NOTHING, level=10)._replace(latency=slow)
    assert cut_of(grown(state, 20, full=10)).limit == 7
    report = Report("neutral", "a slow first byte", ttfb=9.0, granted=NOW + 1)
    assert cut_of(_feedback.reported(state, RULES, NOW + 2, report, 7, 7)).limit == 7
    guarded = _feedback.reported(state, Rules(latency_guard=True), NOW + 2, report, 7, 7)
    assert cut_of(guarded).limit == 5
    assert cut_of(grown(state, 66, full=10)).limit > 7, "what was slow a minute ago says nothing"


# -- slots that cool down, and the provider's own count ----------------------------------------------------------------


def test_a_cooling_slot_counts() -> None:
    assert len(plan_for(NOTHING, limit=8, leases=2, cooling=3, waiting=9).grant) == 3
    assert plan_for(NOTHING, limit=8, leases=5, cooling=3).grant == ()


def test_a_cooling_borrower_is_counted_within_its_lender() -> None:
    snapshot = pool_at(2, (entry(7), entry(8)), leases=(entry(1),), cooling=(entry(2, 1), entry(3, 2, 1)))
    assert len(_decide.decide(snapshot, NOW).grant) == 1


def answer(count: int | None, *, took: float = 0.1, old: float = 0.0, spent: bool = False) -> State:
    at = NOW - old
    return State(usage=Usage(asked=at - took, answered=at, in_flight=count, error=None, spent=spent))


@pytest.mark.parametrize("state", [NOTHING, answer(2, old=1.1), answer(2, spent=True), answer(8), answer(9)])
def test_without_room_by_a_fresh_answer_nobody_who_waits_is_granted_anything(state: State) -> None:
    plan = plan_for(state, limit=8, leases=2, gated=True)
    assert plan.grant == () and plan.ask


def test_one_grant_is_given_on_one_answer() -> None:
    plan = plan_for(answer(2), limit=8, leases=2, gated=True)
    assert len(plan.grant) == 1 and plan.spent and plan.ask
    state = _feedback.granted(answer(2), NOW, plan.high, plan.spent, 1)
    assert plan_for(state, limit=8, leases=3, gated=True).grant == ()


@pytest.mark.parametrize("took", [0.1, 1.1, 4.9, 60.0])
def test_answer_is_fresh_from_when_it_came(took: float) -> None:
    for rules in (RULES, Rules(usage_interval=0.1)):
        plan = plan_for(answer(2, took=took, old=0.9), limit=8, leases=2, gated=True, rules=rules)
        assert len(plan.grant) == 1 and plan.spent


def test_no_information_leaves_it_to_the_other_rules() -> None:
    plan = plan_for(answer(None), limit=8, leases=2, gated=True)
    assert len(plan.grant) == 5 and not plan.ask


def test_no_answer_in_time_leaves_it_to_the_other_rules_until_one_comes() -> None:
    state = _feedback.asking(NOTHING, NOW)
    assert plan_for(state, now=NOW + 4.9, gated=True).grant == ()
    assert len(plan_for(state, now=NOW + 5.0, gated=True).grant) == 5
    late = plan_for(state, now=NOW + 5000.0, gated=True)
    assert late.grant == () and late.ask, "who asked was killed: somebody else asks now"
    again = _feedback.asking(state, NOW + 6.0)
    assert len(plan_for(again, now=NOW + 6.0, gated=True).grant) == 5, "it doesn't close anew with each question"
    heard = _feedback.answered(again, NOW + 6.0, NOW + 7.0, 8, None)
    assert plan_for(heard, now=NOW + 7.0, gated=True).grant == ()
    assert plan_for(_feedback.asking(heard, NOW + 8.0), now=NOW + 8.0, gated=True).grant == ()


def test_a_newcomer_is_asked_for_only_if_it_would_fill_the_last_slot() -> None:
    free = plan_for(NOTHING, limit=8, leases=2, waiting=1, newcomer=True, gated=True)
    assert len(free.grant) == 1 and not free.spent
    last = plan_for(NOTHING, limit=8, leases=7, waiting=1, newcomer=True, gated=True)
    assert last.grant == () and last.ask
    behind = plan_for(NOTHING, limit=8, leases=2, waiting=2, newcomer=True, gated=True)
    assert behind.grant == (), "nobody passes the head"


def test_one_question_at_a_time_and_one_per_interval() -> None:
    assert _feedback.may_ask(NOTHING, RULES, NOW)
    out = _feedback.asking(NOTHING, NOW)
    assert not _feedback.may_ask(out, RULES, NOW + 5.9)
    assert _feedback.may_ask(out, RULES, NOW + 6.1), "who asked was killed"
    heard = _feedback.answered(out, NOW, NOW + 0.2, 3, None)
    assert not _feedback.may_ask(heard, RULES, NOW + 0.9)
    assert _feedback.may_ask(heard, RULES, NOW + 1.1)
    assert _feedback.answered(heard, NOW - 50, NOW, 0, None) == heard, "an answer to an older question"


# -- reboots and clocks ----------------------------------------------------------------------------------------------

BEFORE = Clock("boot 1", NOW, 5_000_000.0)


@given(st.floats(-86_400, 86_400 * 30), st.floats(0, 1e6))
def test_no_step_of_a_clock_across_a_reboot_makes_a_pause_longer(step: float, boot: float) -> None:
    state = refused(NOTHING, level=8, retry_after=60)._replace(epoch="boot 1", boot=NOW, wall=BEFORE.wall)
    after = rebased(state, Clock("boot 2", boot, BEFORE.wall + step))
    assert after.pause is not None and after.pause.until is not None
    assert after.pause.until - boot <= 60 + 1e-3
    if step < 0:
        assert after.pause.until - boot >= 60 - 1e-3, "nor does one back end it"
    assert after.last_cut is not None and after.last_cut <= boot


def test_a_pause_goes_on_after_a_reboot() -> None:
    state = refused(NOTHING, level=8, retry_after=60)._replace(epoch="boot 1", boot=NOW, wall=BEFORE.wall)
    after = rebased(state, Clock("boot 2", 20.0, BEFORE.wall + 45))
    assert plan_for(after, now=20.0 + 14.9).grant == ()
    assert plan_for(after, now=20.0 + 15.1).grant != ()


def test_the_wall_clock_means_nothing_within_one_boot() -> None:
    state = refused(NOTHING, level=8, retry_after=60)._replace(epoch="boot 1", boot=NOW, wall=BEFORE.wall)
    assert rebased(state, Clock("boot 1", NOW + 1, BEFORE.wall + 86_400)) == state


def test_an_unknown_boot_equals_no_other_unknown_one() -> None:
    state = refused(NOTHING, level=8, retry_after=60)._replace(epoch=None, boot=NOW, wall=BEFORE.wall)
    after = rebased(state, Clock(None, 5.0, BEFORE.wall + 10))
    assert after.pause is not None and after.pause.until == pytest.approx(55.0)


def test_each_released_slot_may_be_asked_for_at_once() -> None:
    state = _feedback.noted_held(answer(7), 8, 8)
    assert not _feedback.may_ask(state, RULES, NOW + 0.1)
    state = _feedback.noted_held(state, 6, 6)
    for _ in range(2):
        assert _feedback.may_ask(state, RULES, NOW + 0.1)
        state = _feedback.asking(state, NOW + 0.1)
        assert not _feedback.may_ask(state, RULES, NOW + 0.1), "one question is out"
        state = _feedback.answered(state, NOW + 0.1, NOW + 0.1, 8, None)
    assert not _feedback.may_ask(state, RULES, NOW + 0.2)
    assert _feedback.may_ask(state, RULES, NOW + 1.2)


def test_slot_released_while_the_question_is_out_is_asked_for_after_it() -> None:
    state = _feedback.asking(_feedback.noted_held(answer(7), 8, 8), NOW + 1.0)
    state = _feedback.noted_held(state, 7, 7)
    state = _feedback.answered(state, NOW + 1.0, NOW + 1.1, 8, None)
    assert _feedback.may_ask(state, RULES, NOW + 1.1)


def test_provider_that_gave_no_answer_is_not_asked_at_once() -> None:
    state = _feedback.noted_held(_feedback.noted_held(answer(None), 8, 8), 5, 5)
    assert not _feedback.may_ask(state, RULES, NOW + 0.1)


OWN_LIMIT = Rules(usage_url="https://a.example", usage_field="n", usage_limit_field="limit")


def test_own_limit_of_the_provider_holds_where_it_is_lower() -> None:
    state = answer(0)
    for limit, granted in ((3, 1), (None, 1), (2, 0)):
        state = state._replace(usage=state.usage and state.usage._replace(limit=limit))
        plan = plan_for(state, limit=8, leases=2, gated=True, rules=OWN_LIMIT)
        assert len(plan.grant) == granted
    assert len(plan_for(state, limit=8, leases=2, gated=True).grant) == 1, "nobody asks for it any more"


def test_own_limit_that_keeps_somebody_out_is_asked_for_again() -> None:
    full = answer(3)._replace(usage=answer(3).usage._replace(limit=3))  # type: ignore[union-attr]
    assert plan_for(full, limit=8, leases=3, gated=True, rules=OWN_LIMIT).ask
    assert not plan_for(full, limit=3, leases=3, gated=True, rules=OWN_LIMIT).ask


def test_until_the_providers_limit_is_known_nobody_is_granted_anything() -> None:
    newcomer = partial(plan_for, limit=8, leases=0, waiting=1, newcomer=True, gated=True, rules=OWN_LIMIT)
    unknown = newcomer(NOTHING)
    assert unknown.grant == () and unknown.ask
    said = _feedback.answered(_feedback.asking(NOTHING, NOW), NOW, NOW, 0, None, 4)
    assert len(newcomer(said).grant) == 1
    assert len(newcomer(_feedback.asking(said, NOW)).grant) == 1, "it is known"


def test_answer_without_a_limit_does_not_hold_newcomers_back() -> None:
    said = _feedback.answered(_feedback.asking(NOTHING, NOW), NOW, NOW, 0, None)
    later = plan_for(said, limit=8, waiting=1, newcomer=True, gated=True, rules=OWN_LIMIT, now=NOW + 99)
    assert len(later.grant) == 1 and not later.spent


def test_own_limit_outlasts_an_answer_without_it() -> None:
    said = _feedback.answered(_feedback.asking(NOTHING, NOW), NOW, NOW, 0, None, 4)
    silent = _feedback.answered(_feedback.asking(said, NOW + 9), NOW + 9, NOW + 9, None, "no answer")
    assert silent.usage is not None and silent.usage.limit == 4
    assert decode_state(encode_state(silent)) == silent
