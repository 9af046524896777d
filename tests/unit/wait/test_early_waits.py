"""Where a thread's timed wait ends at once, as under libfaketime before 1970: nobody spins."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path

from staged_world import Actor

from leasecap._file_store.heartbeats import Heartbeats
from leasecap._host.deferred_signals import DeferredSignals
from leasecap._host.effects import EARLY
from leasecap._wait.blocking import ThreadWaiter


class NoWait:
    """A lock that nobody gives back, and for which nobody waits."""

    def acquire(self, timeout: float) -> bool:
        return False


class NoTime:
    """An inbox in which nothing comes and nobody waits. Notes when it was asked, and is ``over`` after five times."""

    def __init__(self) -> None:
        self.moments: list[float] = []
        self.over = threading.Event()

    def get(self, timeout: float | None) -> None:
        if timeout is None:
            threading.Event().wait()
        self.moments.append(time.monotonic())
        if len(self.moments) == 5:
            self.over.set()
        raise queue.Empty

    def put(self, item: object) -> None: ...


def test_a_waiter_does_not_spin() -> None:
    waiter = ThreadWaiter()
    waiter._asleep = NoWait()  # type: ignore[assignment]
    begin = time.monotonic()
    for _ in range(3):
        waiter.wait(5.0, DeferredSignals())
    assert time.monotonic() - begin >= 3 * EARLY


def test_the_heartbeats_do_not_spin(root: Path) -> None:
    actor = Actor(root)
    heartbeats, inbox = Heartbeats(), NoTime()
    heartbeats.prepare()
    heartbeats._inbox = inbox  # type: ignore[assignment]
    own_entry = actor.ask()
    heartbeats.add(actor.store, own_entry)
    assert inbox.over.wait(60)
    heartbeats.remove(own_entry)
    assert inbox.moments[4] - inbox.moments[0] >= 4 * EARLY
