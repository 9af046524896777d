from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from staged_world import entry

from leasecap._decisions import polling
from leasecap._decisions.entry import process_of
from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN
from leasecap._decisions.limits import UNLIMITED
from leasecap._decisions.snapshot import first_processes

WAITS = st.builds(
    polling.Wait,
    position=st.integers(0, 2000),
    limit=st.integers(1, 200) | st.just(UNLIMITED),
    waited=st.floats(0, 1e6),
    near_for=st.floats(0, 1e6),
    rate=st.floats(-1e3, 1e6),
    watched=st.booleans(),
)


def test_who_is_not_woken_looks_before_its_grant_is_taken_back() -> None:
    assert polling.FAR_LOOK < ACKNOWLEDGE_WITHIN


@given(WAITS)
def test_a_rest_is_never_shorter_than_the_first_look_nor_longer_than_the_far_one(wait: polling.Wait) -> None:
    assert (
        polling.FIRST_LOOK <= polling.poll_interval(wait) <= (polling.SELDOM_LOOK if wait.watched else polling.FAR_LOOK)
    )


@given(WAITS, st.floats(0, 1e6))
def test_who_waits_near_the_head_for_longer_looks_no_more_often(wait: polling.Wait, longer: float) -> None:
    later = wait._replace(near_for=wait.near_for + longer)
    assert polling.poll_interval(later) >= polling.poll_interval(wait)


@given(WAITS, st.integers(0, 100))
def test_who_is_further_back_looks_no_more_often(wait: polling.Wait, further: int) -> None:
    if not polling.is_near(wait.position, wait.limit):
        assert polling.poll_interval(wait._replace(position=wait.position + further)) >= polling.poll_interval(wait)


def test_a_waiter_near_the_head_looks_at_once_and_one_that_is_watched_leaves_it_to_its_waker() -> None:
    near = polling.Wait(position=3, limit=4, waited=0.0, near_for=0.0, rate=0.0, watched=False)
    assert polling.poll_interval(near) == polling.FIRST_LOOK
    assert polling.poll_interval(near._replace(watched=True)) == polling.SELDOM_LOOK
    assert polling.poll_interval(near._replace(near_for=1.28)) == pytest.approx(0.01)


def test_who_stands_far_back_looks_when_half_of_those_ahead_should_have_gone() -> None:
    back = polling.Wait(position=14, limit=4, waited=0.0, near_for=0.0, rate=20.0, watched=False)
    assert polling.poll_interval(back) == pytest.approx(0.25)


def test_a_queue_that_grew_before_a_waiter_does_not_make_it_look_without_end() -> None:
    # By the time of asking an older call goes before, and a higher priority does: a position can grow.
    back = polling.Wait(position=14, limit=4, waited=2.0, near_for=0.0, rate=-20.0, watched=False)
    assert polling.poll_interval(back) == pytest.approx(0.5)


# -- looks of a process ----------------------------------------------------------------------------------------------


@given(st.integers(1, 500), st.booleans(), st.booleans(), st.booleans())
def test_a_process_looks_the_more_seldom_the_further_back(rank: int, duty: bool, covered: bool, watched: bool) -> None:
    pause = polling.process_look(rank, on_duty=duty, covered=covered, watched=watched)
    further = polling.process_look(rank + 1, on_duty=duty, covered=covered, watched=watched)
    assert 0 < pause <= further <= polling.SELDOM_LOOK
    if duty and not covered:
        assert pause == polling.SWEEP_EVERY


def test_the_third_sees_a_stop_of_the_first_two_within_what_is_promised() -> None:
    third = polling.process_look(3, on_duty=False, covered=False, watched=True)
    assert polling.UNSWEPT + third < 2.3
    assert polling.COVERED_SWEEP < polling.UNSWEPT, "those on duty sweep in time"


QUEUES = st.lists(st.integers(1, 5), max_size=12).map(
    lambda processes: [entry(number, process=process).name for number, process in enumerate(processes)]
)


@given(QUEUES, st.integers(1, 6))
def test_a_process_stands_behind_those_with_a_ticket_ahead_of_its_first(queue: list[str], number: int) -> None:
    own = f"{number:012x}"
    found = polling.standing(reversed(queue), own)
    mine = [name for name in queue if process_of(name) == own]
    assert (found is None) == (not mine)
    if found is not None:
        ahead = queue[: queue.index(mine[0])]
        assert found.rank == len({process_of(name) for name in ahead}) + 1
        assert list(map(process_of, found.ahead)) == list(dict.fromkeys(map(process_of, reversed(ahead))))
        assert set(found.ahead) <= set(ahead)
        assert found.ahead[:1] == tuple(ahead[-1:])


@given(QUEUES, st.data())
def test_whoever_comes_to_stand_behind_another_one_or_first_is_told(queue: list[str], data: st.DataObject) -> None:
    left = [name for name in queue if data.draw(st.booleans())]
    if not left:
        return
    after = [name for name in queue if name not in left]
    told = {process_of(name) for name in polling.to_notify(after, left)}
    first = set(first_processes(after))
    assert first - set(first_processes(queue)) <= told
    for process in set(map(process_of, after)):
        before, now = polling.standing(queue, process), polling.standing(after, process)
        assert before is not None and now is not None
        first_stays = next(name for name in queue if process_of(name) == process) in after
        if first_stays and before.ahead[:1] != now.ahead[:1]:
            assert process in told
