"""Every schedule of every scenario up to a bound holds; deeper with ``scripts/explore``.

A failure prints a line that replays the schedule: ``scripts/explore --replay 'LINE'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from explore.bounds import BASIC, QUICK
from explore.checks import load
from explore.explorer import Bound, Explorer, Failure, squeeze, stretch
from explore.programs import once
from explore.scenarios import SCENARIOS
from explore.stage import Scenario, Stage
from explore.trace import replay

from leasecap._decisions.entry import Entry, make_entry

if TYPE_CHECKING:
    from explore.scheduler import Actor


@pytest.mark.parametrize(
    "name", [name if name in BASIC else pytest.param(name, marks=pytest.mark.long) for name in SCENARIOS]
)
def test_no_schedule_within_the_bound_breaks_a_promise(name: str) -> None:
    figures = Explorer(SCENARIOS[name], QUICK[name]).run()
    assert figures.complete
    assert figures.states > 5


def test_the_same_exploration_comes_to_the_same_states() -> None:
    explored = {Explorer(SCENARIOS["two_acquire"], Bound(1, 0, 60.0)).run()[2:4] for _ in range(2)}
    assert len(explored) == 1


# -- what a failure says --------------------------------------------------------------------------------------------


def greedy() -> Stage:
    """One that takes a slot without asking."""
    stage = Stage()
    holder = stage.actor(once)

    def program(actor: Actor) -> None:
        actor.holds(holder.had[0] if holder.had else None)
        actor.world.perform("work")

    stage.run(holder, "works")
    stage.actor(program)
    return stage.raise_curtain()


GREEDY = Scenario("greedy", "", greedy)


def test_a_failing_schedule_is_one_line_that_replays_it_in_words() -> None:
    with pytest.raises(Failure, match="2 work at once") as caught:
        Explorer(GREEDY, Bound(1, 0, 60.0)).run()
    assert caught.value.schedule in str(caught.value)
    told = replay(caught.value.schedule, {"greedy": GREEDY})
    assert told.endswith("*** 2 work at once, and the limit is 1")


def test_a_replay_shows_who_did_what_to_which_entry() -> None:
    told = replay("two_acquire: a25 !b b9 .")
    assert "staging/a1 -> leases/a1" in told
    assert "b is killed" in told


@pytest.mark.parametrize("choices", [[], ["a"], ["a", "a", "b", ".", ".", "!a", "+b"], ["~a", "a", "~a"]])
def test_a_schedule_is_read_as_it_was_written(choices: list[str]) -> None:
    assert stretch(squeeze(choices)) == choices


def test_the_referees_load_is_the_one_that_the_design_defines() -> None:
    def entry(number: int, *ancestors: int) -> Entry:
        token, above = f"{number:016x}", tuple(f"{ancestor:016x}" for ancestor in ancestors)
        return make_entry(token=token, process="a" * 12, order=number, priority=0, limit=None, ancestors=above)

    parent, child, grandchild = entry(1), entry(2, 1), entry(3, 2, 1)
    assert load([]) == 0
    assert load([parent, child, grandchild]) == 1
    assert load([parent, child, entry(4, 1)]) == 2
    assert load([parent, grandchild]) == 1
    assert load([child, grandchild, entry(5)]) == 2
