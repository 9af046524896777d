"""What is computed from the times that the workers report; no clock and no process in here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Hold(NamedTuple):
    """One acquire, hold and release, in seconds of one clock for all processes.

    :ivar asked: before the call that acquires.
    :ivar granted: after it.
    :ivar ended: before the call that releases.
    """

    asked: float
    granted: float
    ended: float


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` (0 to 1) of all values don't exceed; nan of none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Sequence[float]) -> float:
    return percentile(values, 0.5)


def utilisation(holds: Sequence[Hold], cap: int, hold: float) -> float:
    """The least time in which the work could have been done, over the time that it took."""
    return len(holds) * hold / cap / wall(holds)


def wall(holds: Sequence[Hold]) -> float:
    """Seconds from the first call to the end of the last hold."""
    return max(hold.ended for hold in holds) - min(hold.asked for hold in holds)


def hand_offs(holds: Sequence[Hold], cap: int) -> list[float]:
    """Seconds from each end of a hold to the grant that it made room for, where somebody waited for it by then.

    The k-th end makes room for grant number cap + k, whoever gets it.
    """
    grants = sorted(holds, key=lambda hold: hold.granted)[cap:]
    ends = sorted(hold.ended for hold in holds)
    return [max(grant.granted - end, 0.0) for grant, end in zip(grants, ends, strict=False) if grant.asked < end]


def overtakings(holds: Sequence[Hold]) -> float:
    """How many who asked later were granted earlier, on average."""
    passed = sum(other.asked > hold.asked and other.granted < hold.granted for hold in holds for other in holds)
    return passed / len(holds)


def most_at_once(holds: Sequence[Hold]) -> int:
    """The highest number of holds at one time."""
    moments = sorted([(hold.granted, 1) for hold in holds] + [(hold.ended, -1) for hold in holds])
    most = now = 0
    for _, step in moments:
        now += step
        most = max(most, now)
    return most
