from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap import _decide
from leasecap._decide import ACKNOWLEDGE_WITHIN, UNLIMITED

WAITS = st.builds(
    _decide.Wait,
    position=st.integers(0, 2000),
    limit=st.integers(1, 200) | st.just(UNLIMITED),
    waited=st.floats(0, 1e6),
    near_for=st.floats(0, 1e6),
    rate=st.floats(-1e3, 1e6),
    watched=st.booleans(),
    covered=st.booleans(),
)


def test_who_is_not_woken_looks_before_its_grant_is_taken_back() -> None:
    assert _decide.FAR_LOOK < ACKNOWLEDGE_WITHIN


@given(WAITS)
def test_a_rest_is_never_shorter_than_the_first_look_nor_longer_than_the_far_one(wait: _decide.Wait) -> None:
    assert _decide.FIRST_LOOK <= _decide.rest(wait) <= (_decide.SELDOM_LOOK if wait.watched else _decide.FAR_LOOK)


@given(WAITS)
def test_the_first_two_in_the_queue_look_often_enough_to_sweep(wait: _decide.Wait) -> None:
    first = wait._replace(position=wait.position % 3)
    assert _decide.rest(first) <= (_decide.FAR_SWEEP if wait.watched and wait.covered else _decide.SWEEP_EVERY)


@given(WAITS, st.floats(0, 1e6))
def test_who_waits_near_the_head_for_longer_looks_no_more_often(wait: _decide.Wait, longer: float) -> None:
    later = wait._replace(near_for=wait.near_for + longer)
    assert _decide.rest(later) >= _decide.rest(wait)


@given(WAITS, st.integers(0, 100))
def test_who_is_further_back_looks_no_more_often(wait: _decide.Wait, further: int) -> None:
    if not _decide.is_near(wait.position, wait.limit):
        assert _decide.rest(wait._replace(position=wait.position + further)) >= _decide.rest(wait)


def test_a_waiter_near_the_head_looks_at_once_and_one_that_is_watched_leaves_it_to_its_waker() -> None:
    near = _decide.Wait(position=3, limit=4, waited=0.0, near_for=0.0, rate=0.0, watched=False)
    assert _decide.rest(near) == _decide.FIRST_LOOK
    assert _decide.rest(near._replace(watched=True)) == _decide.FAR_LOOK
    assert _decide.rest(near._replace(near_for=1.28)) == pytest.approx(0.01)


def test_who_stands_far_back_looks_when_half_of_those_ahead_should_have_gone() -> None:
    back = _decide.Wait(position=14, limit=4, waited=0.0, near_for=0.0, rate=20.0, watched=False)
    assert _decide.rest(back) == pytest.approx(0.25)


def test_a_queue_that_grew_before_a_waiter_does_not_make_it_look_without_end() -> None:
    # By the time of asking an older call goes before, and a higher priority does: a position can grow.
    back = _decide.Wait(position=14, limit=4, waited=2.0, near_for=0.0, rate=-20.0, watched=False)
    assert _decide.rest(back) == pytest.approx(0.5)
