"""Why `latency_guard` is off: what it costs where nothing is wrong, and what it gains where a provider slows down."""

from __future__ import annotations

from functools import lru_cache

import pytest
from latency_model import SCENES, Hour, played

from leasecap._feedback.rules import Rules

AMPLE = [scene for scene in SCENES if scene.startswith("ample")]
FALLS = "falls to 2 places for 20 minutes"


@lru_cache
def hour(scene: str, guard: str) -> Hour:
    return played(scene, guard, 1)


def test_it_is_off_unless_a_person_sets_it() -> None:
    assert not Rules().latency_guard


@pytest.mark.parametrize("scene", AMPLE)
def test_where_the_provider_takes_all_it_costs_answers(scene: str) -> None:
    off, pool = hour(scene, "off"), hour(scene, "pool")
    assert (off.cuts, off.late) == (0, 0)
    assert pool.cuts > 5 and pool.answers < 0.97 * off.answers, "long prompts and slow models look like load"


def test_where_the_provider_slows_down_it_saves_no_requests() -> None:
    off, pool = hour(FALLS, "off"), hour(FALLS, "pool")
    assert off.late > 0 and off.cuts > 0, "those that run out of time cut anyhow"
    assert pool.late > 0.7 * off.late
    assert abs(pool.answers - off.answers) < 0.02 * off.answers


def test_a_pool_that_is_overloaded_from_the_start_has_no_usual_time() -> None:
    scene = "6 places, slower for each that waits"
    off = hour(scene, "off")
    for guard in ("pool", "usual by kind"):
        assert abs(hour(scene, guard).answers - off.answers) < 0.05 * off.answers
    assert hour(scene, "all-knowing").answers > 1.2 * off.answers, "there is something to gain for who knew"


@pytest.mark.parametrize("guard", ["usual by kind", "least by kind"])
def test_by_model_and_size_of_the_prompt_it_costs_nothing(guard: str) -> None:
    assert hour(AMPLE[1], guard).answers == hour(AMPLE[1], "off").answers
