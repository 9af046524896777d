"""The thread that keeps the heartbeats."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from referee import DEADLINE
from staged_world import Actor

from leasecap._file_store.heartbeats import Beating, Heartbeats


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


def test_configuration_is_read_without_the_lock_that_a_release_needs(root: Path) -> None:
    """A thread that was collecting garbage under the lock of forks waited for it, while reading waited for that one."""
    actor, heartbeats = Actor(root), Heartbeats()
    own_entry = actor.ask()
    release = threading.Thread(target=heartbeats.remove, args=(own_entry,), daemon=True)

    def refresh() -> None:
        release.start()
        release.join(DEADLINE)
        assert not release.is_alive()

    actor.store.refresh = refresh
    beating = heartbeats._beating[own_entry.name] = Beating(actor.store, own_entry, None, ending=False)
    beating.due = 0.0
    heartbeats._round(idle=False)
    assert not release.is_alive()


def test_what_is_called_later_is_called_once_and_not_before() -> None:
    heartbeats, called = Heartbeats(), threading.Event()
    times: list[float] = []

    def call() -> None:
        times.append(time.monotonic())
        called.set()

    began = time.monotonic()
    assert heartbeats.call_later(0.05, call)
    assert called.wait(DEADLINE)
    heartbeats.rest()
    assert len(times) == 1 and times[0] - began >= 0.05


def test_what_is_called_later_wakes_a_thread_that_would_sleep_for_longer() -> None:
    heartbeats, called = Heartbeats(), threading.Event()
    assert heartbeats.call_later(3600, lambda: None)
    assert heartbeats.call_later(0.05, called.set)
    assert called.wait(DEADLINE)
    heartbeats.rest()


def test_before_the_thread_ends_it_calls_what_was_for_later() -> None:
    heartbeats = Heartbeats()
    called: list[int] = []
    assert heartbeats.call_later(3600, lambda: called.append(1))
    heartbeats.rest()
    assert called == [1]
    heartbeats.rest()
    assert called == [1]
