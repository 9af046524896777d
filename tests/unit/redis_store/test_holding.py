"""When a holder that can't tell whether it still has its slot must have ended."""

from __future__ import annotations

import pytest

from leasecap._redis_store.holding import Holding, ends_in, holding_in, text_of


@pytest.mark.parametrize(("ttl", "kill_after"), [(30.0, 10.0), (30.0, 0.0), (2.0, 10.0), (1.0, 0.1), (600.0, 10.0)])
def test_command_is_told_after_two_beats_and_ends_before_its_slot_is_anothers(ttl: float, kill_after: float) -> None:
    beat, told, over = ttl / 6, None, None
    for step in range(1001):
        now = 100 + ttl * step / 1000
        left = ends_in(100.0, ttl, kill_after, now)
        if left is not None and told is None:
            told = now - 100
            assert left <= kill_after + 1e-9
        if left is not None and left <= 0 and over is None:
            over = now - 100
    assert told is not None
    assert 2 * beat < told
    assert over is not None
    assert told <= over < ttl


def test_holding_that_says_nothing_is_no_field_and_unknown_fields_are_ignored() -> None:
    assert text_of(Holding()) == ""
    assert holding_in("") == Holding()
    assert holding_in(text_of(Holding(when_unsure="end"))) == Holding(when_unsure="end")
    assert holding_in('{"when_unsure": "end", "later": {"a": 1}}') == Holding(when_unsure="end")


@pytest.mark.parametrize("text", ["{", "[]", '{"when_unsure": 1}', "[" * 5000])
def test_holding_that_cannot_be_read_ends_nothing(text: str) -> None:
    assert holding_in(text) == Holding()
