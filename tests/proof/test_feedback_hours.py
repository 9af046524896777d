"""An hour with a provider of `provider_model`: what the provider's answers do to a limit in the long run."""

from __future__ import annotations

import math

import pytest
from provider_model import Hour

from leasecap._feedback.rules import Rules

pytestmark = pytest.mark.long
RULES = Rules()
BEGIN = 1000.0
"""Of an hour, on the model's clock."""


@pytest.mark.parametrize(
    ("true_limit", "configured", "lag", "cooldown"), [(5, 20, 0.0, 0.0), (5, 20, 0.3, 0.35), (8, 12, 0.3, 0.35)]
)
def test_an_hour_at_a_lower_true_limit(true_limit: int, configured: int, lag: float, cooldown: float) -> None:
    hour = Hour(true_limit=lambda now: true_limit, configured=configured, rules=Rules(cooldown=cooldown), seed=1)
    hour.run(3600, workers=20, lag=lag)
    assert hour.first_cut == hour.refused[0], "the first refusal cuts at once"
    assert hour.refused_after_first_cut < 5 / 1000
    assert hour.used / hour.room > 0.97


def test_an_hour_at_a_provider_that_counts_late_and_no_cooldown() -> None:
    hour = Hour(true_limit=lambda now: 5, configured=20, rules=RULES, seed=1)
    hour.run(3600, workers=20, lag=0.3)
    assert hour.refused_after_first_cut < 40 / 1000
    assert hour.used / hour.room > 0.6


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_hour_of_refusals_without_load_leaves_the_limit(seed: int) -> None:
    """When each refusal cut, the limit was 2 on average, and 1 for much of the hour."""
    hour = Hour(true_limit=lambda now: 1000, configured=10, rules=RULES, seed=seed, unrelated=0.03)
    hour.run(3600, workers=20, lag=0.0)
    assert hour.mean_limit > 9.5
    assert hour.cuts < 15


def test_an_hour_of_refusals_for_both_reasons_finds_the_true_limit() -> None:
    """When each refusal cut, a third of the provider's limit was used."""
    hour = Hour(true_limit=lambda now: 5, configured=20, rules=RULES, seed=1, unrelated=0.03)
    hour.run(3600, workers=20, lag=0.0)
    assert hour.used / hour.room > 0.9
    assert hour.refused_after_first_cut < 45 / 1000


def test_an_hour_of_many_refusals_without_load_calls_for_a_min_limit() -> None:
    means: list[float] = []
    for rules in (RULES, Rules(min_limit=8), Rules(adaptive="off")):
        hour = Hour(true_limit=lambda now: 1000, configured=10, rules=rules, seed=1, unrelated=0.1)
        hour.run(3600, workers=20, lag=0.0)
        means.append(hour.mean_limit)
    assert means[0] < 4, "as the README says"
    assert means[1] >= 8 and means[2] == 10


def test_when_the_true_limit_doubles_the_effective_one_follows_within_three_probe_intervals() -> None:
    doubled = BEGIN + 200
    hour = Hour(true_limit=lambda now: 5 if now < doubled else 10, configured=20, rules=RULES, seed=2)
    hour.run(1000, workers=20, lag=0.0)
    interval = 2 * RULES.probe_interval  # one probe has failed by then
    reached = next(at for at, limit in hour.limits if at > doubled and limit >= 10)
    assert reached - doubled <= 3 * interval
    assert math.isclose(hour.limits[-1][1], 10, abs_tol=3)
