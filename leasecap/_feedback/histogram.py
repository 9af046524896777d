"""Counts of durations in buckets that grow by a factor, from which percentiles are read.

The buckets are those of DDSketch (Masson, Rim and Lee, "DDSketch: A Fast and Fully-Mergeable Quantile Sketch with
Relative-Error Guarantees", VLDB 2019): bucket ``i`` holds what is above ``G ** (i - 1)`` and up to ``G ** i``. With
``G = (1 + ERROR) / (1 - ERROR)`` the value that stands for a bucket differs from each that is in it by at most `ERROR`
of that. Histograms are merged by adding their counts, in any order, so many processes can write one.
"""

from __future__ import annotations

import math

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ERROR = 0.02
"""A percentile differs by this share of it at most from the true one, which is always one of the values: the lower one
where it is between two (numpy's method "lower")."""

LOWEST, HIGHEST = 0.001, 86400.0
"""Seconds. What is shorter counts as the lowest, what is longer as the highest; so there are 458 buckets at most."""

OVER = 120.0
"""Seconds, of which many clients and providers make an end."""

_LOG = math.log((1 + ERROR) / (1 - ERROR))
_SCALE = 1 - ERROR  # from a bucket's upper end to the value that stands for it

FIRST = math.ceil(math.log(LOWEST) / _LOG)
LAST = math.ceil(math.log(HIGHEST) / _LOG)


class Histogram(NamedTuple):
    """Durations.

    :ivar n: how many there are.
    :ivar over: how many took longer than `OVER`.
    :ivar highest: the longest of them, exactly.
    :ivar counts: how many are in each bucket, for those that have any.
    """

    n: int
    over: int
    highest: float
    counts: Mapping[int, int]


EMPTY = Histogram(0, 0, 0.0, {})


def histogram(durations: Iterable[float]) -> Histogram:
    """That of these durations (seconds, 0 or more)."""
    n, over, highest = 0, 0, 0.0
    counts: dict[int, int] = {}
    for seconds in durations:
        n += 1
        over += seconds > OVER
        highest = max(highest, seconds)
        bucket = _bucket(seconds)
        counts[bucket] = counts.get(bucket, 0) + 1
    return Histogram(n, over, highest, counts)


def _bucket(seconds: float) -> int:
    return math.ceil(math.log(min(max(seconds, LOWEST), HIGHEST)) / _LOG)


def merged(one: Histogram, other: Histogram) -> Histogram:
    """That of the durations of both."""
    counts = dict(one.counts)
    for bucket, count in other.counts.items():
        counts[bucket] = counts.get(bucket, 0) + count
    return Histogram(one.n + other.n, one.over + other.over, max(one.highest, other.highest), counts)


def percentile(found: Histogram, percent: int) -> float | None:
    """The value that ``percent`` of a hundred don't exceed; None if there are none."""
    if not found.n:
        return None
    rank = percent * (found.n - 1) // 100
    bucket = 0
    for bucket in sorted(found.counts):
        rank -= found.counts[bucket]
        if rank < 0:
            break
    return min(math.exp(bucket * _LOG) * _SCALE, found.highest)
