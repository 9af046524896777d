"""Histograms against numpy on the same data: percentiles within the error that is promised, whoever counted what."""

from __future__ import annotations

import random

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leasecap._feedback.histogram import (
    EMPTY,
    ERROR,
    FIRST,
    HIGHEST,
    LAST,
    LOWEST,
    OVER,
    Histogram,
    histogram,
    merged,
    percentile,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PERCENTS = (0, 1, 50, 90, 99, 100)
ROUNDING = 1e-9

SHAPES: dict[str, Callable[[random.Random], float]] = {
    "lognormal": lambda chance: chance.lognormvariate(1, 1.5),
    "pareto": lambda chance: 0.2 * chance.paretovariate(1.1),
    "uniform": lambda chance: chance.uniform(0.5, 130),
    "fast-or-hanging": lambda chance: chance.choice([chance.gauss(2, 0.1), chance.gauss(119, 0.5)]),
    "milliseconds": lambda chance: chance.expovariate(400) + LOWEST,
    "all-alike": lambda chance: 7.3,
}


def true(values: list[float], percent: int) -> float:
    return float(numpy.percentile(values, percent, method="lower"))


def differs(found: Histogram, values: list[float], percent: int) -> float:
    value, exact = percentile(found, percent), true(values, percent)
    assert value is not None
    return abs(value - exact) / exact


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("number", [1, 2, 99, 100, 101, 5000])
def test_percentiles_are_those_of_numpy_within_the_error(shape: str, number: int) -> None:
    chance = random.Random(number)
    values = [min(SHAPES[shape](chance), HIGHEST) for _ in range(number)]
    found = histogram(values)
    for percent in PERCENTS:
        assert differs(found, values, percent) <= ERROR + ROUNDING, percent
    assert (found.n, found.highest) == (number, max(values))
    assert found.over == int(numpy.count_nonzero(numpy.array(values) > OVER))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.floats(LOWEST, HIGHEST), max_size=20), min_size=1, max_size=6), st.randoms())
def test_merged_in_any_order_they_are_one_histogram(parts: list[list[float]], chance: random.Random) -> None:
    every = [value for part in parts for value in part]
    chance.shuffle(parts)
    found = EMPTY
    for part in parts:
        found = merged(found, histogram(part))
    assert found == histogram(every)
    if every:
        assert all(differs(found, every, percent) <= ERROR + ROUNDING for percent in PERCENTS)


@pytest.mark.parametrize("edge", [FIRST, -1, 0, 1, 100, LAST])
def test_both_ends_of_a_bucket_are_within_the_error(edge: int) -> None:
    factor = (1 + ERROR) / (1 - ERROR)
    for value in (factor**edge, factor**edge * 1.000001, factor**edge * 0.999999):
        if LOWEST <= value <= HIGHEST:
            assert differs(histogram([value, HIGHEST * 2]), [value], 0) <= ERROR + ROUNDING


def test_without_values_there_is_no_percentile() -> None:
    assert percentile(EMPTY, 99) is None and histogram([]) == EMPTY


def test_no_value_is_below_the_lowest_or_makes_more_buckets() -> None:
    chance = random.Random(1)
    values = [0.0, 1e-9, LOWEST, HIGHEST, HIGHEST * 100, *(10 ** chance.uniform(-9, 9) for _ in range(100_000))]
    found = histogram(values)
    assert set(found.counts) <= set(range(FIRST, LAST + 1)) and len(found.counts) <= 458
    assert percentile(histogram([0.0, 0.0]), 50) == 0.0, "no percentile is above the longest"
    assert abs((percentile(histogram([0.0, 5.0]), 50) or 0) - LOWEST) <= LOWEST * 2 * ERROR
    assert found.highest == max(values)


def test_the_slowest_of_a_hundred_shows_and_the_median_does_not() -> None:
    found = histogram([1.0] * 980 + [119.0] * 20)
    p50, p99 = percentile(found, 50), percentile(found, 99)
    assert p50 is not None and p99 is not None and p50 < 1.03 and p99 > 116
