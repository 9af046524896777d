"""For how long a call that must not block waits for an answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from leasecap._config.config import parse_config
from leasecap._config.store_address import parse_address
from leasecap._errors import Unreachable
from leasecap._redis_store.errands import Errand
from leasecap._redis_store.open_pool import ANSWERS_WITHIN, SAFETY, OpenPool


class World:
    """A store whose answer never comes, though it may answer others."""

    def __init__(self) -> None:
        self.now = 100.0
        self.client = SimpleNamespace(answered_at=50.0)
        own = SimpleNamespace(
            pool=lambda _: None,
            address=parse_address("redis://localhost/0"),
            client=self.client,
            errands=SimpleNamespace(send=lambda call, wake: Errand(call, wake)),
            effects=SimpleNamespace(monotonic=lambda: self.now),
            has_answered=False,
        )
        self.pool = OpenPool(cast("Any", own), parse_config("", "").pool("p"))


def test_silent_store_is_given_up_a_while_after_the_time_is_over() -> None:
    world = World()
    steps = world.pool.until_done(int, lambda: None, world.now + 3)
    assert next(steps) == 3 + ANSWERS_WITHIN
    world.now += 3 + ANSWERS_WITHIN - 0.5
    assert next(steps) == 0.5
    world.now += 0.5
    with pytest.raises(Unreachable, match="didn't answer in time"):
        next(steps)


def test_store_that_answers_others_is_waited_for() -> None:
    world = World()
    steps = world.pool.until_done(int, lambda: None, world.now)
    for _ in range(10):
        world.now += 0.9
        world.client.answered_at = world.now
        assert next(steps) == ANSWERS_WITHIN
    world.now += ANSWERS_WITHIN
    with pytest.raises(Unreachable):
        next(steps)


def test_store_that_is_asked_only_when_the_time_is_over_has_a_while_as_well() -> None:
    """What came before took all of the call's time: a look at the pool's former store."""
    world = World()
    assert next(world.pool.until_done(int, lambda: None, world.now - 60)) == ANSWERS_WITHIN


def test_call_without_an_end_looks_now_and_then() -> None:
    assert next(World().pool.until_done(int, lambda: None)) == SAFETY
