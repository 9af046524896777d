"""The thread that keeps the heartbeats."""

from __future__ import annotations

import threading
from pathlib import Path

from referee import DEADLINE
from staged_world import Actor

from leasecap._file_store.heartbeats import Heartbeats


class Inbox:
    """Where nothing comes, and whoever waits for it sleeps on."""

    def __init__(self) -> None:
        self.asleep = threading.Event()
        self.woken = 0

    def get(self, timeout: float | None) -> None:
        self.asleep.set()
        threading.Event().wait()

    def put(self, item: object) -> None:
        self.woken += 1


def test_leases_held_for_a_moment_do_not_wake_the_heartbeat_thread_each_time(
    root: Path,
) -> None:
    actor = Actor(root)
    own_entry = actor.ask()
    heartbeats = Heartbeats()
    inbox = Inbox()
    heartbeats.prepare()
    heartbeats._inbox = inbox  # type: ignore[assignment]
    with heartbeats._changed:
        heartbeats.add(actor.store, own_entry)
        heartbeats.remove(own_entry)  # before the thread gets to see it
    assert inbox.asleep.wait(DEADLINE)
    inbox.woken = 0
    for _ in range(100):
        heartbeats.add(actor.store, own_entry)
        heartbeats.remove(own_entry)
    assert inbox.woken == 0
