"""What is sent to a server of how long requests took, and what becomes of what can't be."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leasecap._errors import StoreError
from leasecap._feedback.histogram import histogram
from leasecap._feedback.latency import Kind, Row, added
from leasecap._redis_store import latency_sender
from leasecap._redis_store.latency_sender import LatencySender

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._feedback.latency import Table

KIND = Kind("opus", True)
AWAY = StoreError("is away", path="redis://here", remedy="start it")


def table(*durations: float) -> Table:
    return {KIND: Row(histogram(durations), histogram(()), False)}


class FakePool:
    name = SimpleNamespace(text="p")

    def __init__(self, add: object) -> None:
        self.latency = SimpleNamespace(add=add)


class World:
    """A server that counts, errands that are run when the test says so, and one alarm."""

    def __init__(self) -> None:
        self.hour, self.away = 100, False
        self.arrived: dict[tuple[str, int], Table] = {}
        self.ages: list[int] = []
        self.errands: list[Callable[[], object]] = []
        self.alarm: Callable[[], object] | None = None
        self.told: list[str] = []
        effects: Any = SimpleNamespace(wall_clock=lambda: self.hour * 3600.0, monotonic=lambda: 5.0)
        self.sender = LatencySender(
            "me",
            effects,
            cast("Any", SimpleNamespace(do=self.errands.append)),
            cast("Any", SimpleNamespace(set=self._set)),
        )
        self.pool: Any = FakePool(self._add)

    def _set(self, key: object, when: float, call: Callable[[], object]) -> None:
        assert when == 6.0
        self.alarm = call

    def _add(self, source: str, number: int, age: int, found: Table) -> Table:
        before = self.arrived.setdefault((source, number), found)
        assert before == found, "what may have arrived was changed"
        if self.away:
            raise AWAY
        self.ages.append(age)
        return self.all()

    def all(self) -> Table:
        whole: Table = {}
        for each in self.arrived.values():
            whole = added(whole, each)
        return whole

    def note(self, *durations: float, hour: int = 100) -> int:
        known = self.sender.add(self.pool, hour, table(*durations), self.told.append)
        return known[KIND].first.n

    def run(self) -> None:
        while self.errands:
            self.errands.pop(0)()

    def ring(self) -> None:
        assert self.alarm is not None
        alarm, self.alarm = self.alarm, None
        alarm()
        self.run()


@pytest.fixture
def world() -> World:
    return World()


def test_what_comes_together_is_sent_together_and_known_from_then_on(world: World) -> None:
    assert world.note(1.0) == 1
    assert world.note(2.0, 3.0) == 3
    assert len(world.errands) == 1
    world.run()
    assert list(world.arrived) == [("me 100", 1)]
    assert world.note(4.0) == 4
    world.run()
    assert world.all()[KIND].first.n == 4


def test_what_may_have_arrived_is_sent_again_as_it_was(world: World) -> None:
    world.away = True
    world.note(1.0)
    world.run()
    world.note(2.0)
    assert world.errands == []  # it waits for the alarm
    world.ring()
    world.away = False
    world.ring()
    assert list(world.arrived) == [("me 100", 1), ("me 100", 2)]
    assert world.all()[KIND].first.n == 2
    assert world.alarm is None


def test_failure_is_told_once_and_only_when_the_next_try_fails_too(world: World) -> None:
    world.away = True
    world.note(1.0)
    world.run()
    assert world.told == []
    for _ in range(3):
        world.ring()
    [message] = world.told
    assert "pool 'p'" in message and "is away" in message
    world.away = False
    world.ring()
    world.away = True
    world.note(1.0)
    world.run()
    assert len(world.told) == 1
    world.ring()
    assert len(world.told) == 2


def test_each_hour_says_how_long_ago_it_was(world: World) -> None:
    world.hour = 102
    world.note(1.0, hour=100)
    world.note(1.0, hour=102)
    world.note(1.0, hour=103)  # the clock was set back
    world.run()
    assert world.ages == [2, 0, 0]


def test_little_is_kept_while_a_server_is_away(world: World) -> None:
    world.away = True
    for hour in range(300):
        world.note(1.0, hour=hour)
    world.run()
    assert len(world.sender._waiting) + len(world.sender._sent) <= 2 * latency_sender._MOST


def test_what_is_left_at_the_end_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(latency_sender, "log_warning", told.append)
    world.sender.tell_what_is_left()
    assert told == []
    world.away = True
    world.note(1.0)
    world.run()
    world.sender.tell_what_is_left()
    assert "is away" in told[0]
