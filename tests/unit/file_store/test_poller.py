"""What a waiter's looks at its own ticket do."""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import pytest
from staged_world import Actor

from leasecap._file_store.poller import Poller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.lookout import Lookout


class NoLookout:
    due = math.inf

    def looked(self, name: str, now: float) -> None: ...

    def run(self, now: float) -> None: ...


@pytest.mark.parametrize("fails", [False, True])
def test_a_waiter_that_nobody_wakes_writes_a_heartbeat_when_one_is_due_alone(
    root: Path, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Actor(root).ask()
    one = Actor(root)
    ticket = one.ask()
    poller = Poller(one.store, ticket, cast("Lookout", NoLookout()))
    beats: list[float] = []
    beat = one.store.entries.beat

    def counted(own_entry: object) -> bool:
        beats.append(one.world.clock)
        if fails:
            raise OSError(28, "a full disk")
        return beat(ticket)

    monkeypatch.setattr(one.store.entries, "beat", counted)
    began = one.world.clock = 1000.0
    looks = 0
    while one.world.clock < began + 3.5 * ticket.record.heartbeat:
        pause = poller.look(one.world.clock, watched=False, serves=True)
        assert pause is not None
        one.world.clock += pause
        looks += 1
    assert looks > 100
    if fails:
        assert len(beats) > 10, "it is tried again at each look"
    else:
        assert len(beats) == 3


def test_looks_that_come_sooner_than_the_heartbeat_is_due_write_none(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Actor(root).ask()
    one = Actor(root)
    ticket = one.ask()
    poller = Poller(one.store, ticket, cast("Lookout", NoLookout()))
    beats: list[float] = []

    def counted(own_entry: object) -> bool:
        beats.append(one.world.clock)
        return True

    monkeypatch.setattr(one.store.entries, "beat", counted)
    one.world.clock = 1000.0
    for _ in range(20):  # as one that is woken again and again
        pause = poller.look(one.world.clock, watched=True, serves=False)
        assert pause == pytest.approx(1000.0 + ticket.record.heartbeat - one.world.clock)
        one.world.clock += 0.01
    assert beats == []
    one.world.clock = 1000.0 + ticket.record.heartbeat
    poller.look(one.world.clock, watched=True, serves=False)
    assert beats == [one.world.clock]
