"""When a holder that can't tell whether it still has its slot must have ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from leasecap._errors import ConfigError
from leasecap._liveness.record import Record
from leasecap._redis_store.held_lease import HeldLease
from leasecap._redis_store.holding import Holding, ends_in, holding_in, text_of
from leasecap._redis_store.renewals import Kept

RECORD = Record("p", 1, 1, 0, None, None, None, None, "", False, "lock", None, "", "")


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


@pytest.mark.parametrize(
    ("is_kept", "is_over", "left"), [(True, False, -9.0), (False, True, -9.0), (False, False, None)]
)
def test_lease_that_was_taken_or_given_back_is_in_no_doubt(is_kept: bool, is_over: bool, left: float | None) -> None:
    pool: Any = SimpleNamespace(ttl=12.0, holding=Holding(when_unsure="end"))
    kept = Kept(pool, "500-", 80.0, RECORD, lambda: None, is_lease=True)
    kept.unconfirmed, kept.kill_after = is_over, 10.0
    own = SimpleNamespace(renewals=SimpleNamespace(keeps=lambda _: is_kept))
    store: Any = SimpleNamespace(name="p", place=("", ""), own=own, boot_clock=lambda: 100.0)
    assert HeldLease(store, kept, 0.0, 0.0).ends_in() == left


def test_release_that_the_configuration_keeps_from_the_server_is_told_and_tried_on() -> None:
    """The file that a password stands in is gone, for instance. What the block itself raised is not replaced by it."""
    tried: list[float] = []

    def end(token: str, *, by_holder: bool) -> bool:
        raise ConfigError("this file can't be read", file="config.toml", key="password_file")

    pool: Any = SimpleNamespace(ttl=12.0, holding=Holding(), end=end, name=SimpleNamespace(text="p"))
    kept = Kept(pool, "500-", 80.0, RECORD, lambda: None, is_lease=True)
    own = SimpleNamespace(
        renewals=SimpleNamespace(remove=lambda name: None),
        alarms=SimpleNamespace(cancel=lambda key: None),
        await_reports=lambda pool: None,
        end_again=lambda pool, token, until: tried.append(until),
    )
    store: Any = SimpleNamespace(name="p", place=("", ""), own=own, pool=pool, monotonic=lambda: 100.0)
    assert HeldLease(store, kept, 0.0, 0.0).release()
    assert tried == [80.0 + 12.0]


@pytest.mark.parametrize("text", ["{", "[]", '{"when_unsure": 1}', "[" * 5000])
def test_holding_that_cannot_be_read_ends_nothing(text: str) -> None:
    assert holding_in(text) == Holding()
