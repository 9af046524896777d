"""The thread that keeps the heartbeats."""

from __future__ import annotations

from pathlib import Path

from referee import until
from staged_world import Actor

from leasecap._heartbeat import Heartbeats

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest


def test_leases_held_for_a_moment_do_not_wake_the_heartbeat_thread_each_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = Actor(root)
    claim = actor.ask()
    heartbeats = Heartbeats()
    with heartbeats._changed:
        heartbeats.add(actor.store, claim)
        heartbeats.remove(claim)  # before the thread gets to see it
    until(lambda: bool(heartbeats._changed._waiters), "the thread sleeps")  # type: ignore[attr-defined]
    woken = 0

    def notify(n: int = 1) -> None:
        nonlocal woken
        woken += n

    monkeypatch.setattr(heartbeats._changed, "notify", notify)
    for _ in range(100):
        heartbeats.add(actor.store, claim)
        heartbeats.remove(claim)
    assert woken == 0
