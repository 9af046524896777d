"""The threads beside the network: alarms and errands."""

from __future__ import annotations

import gc
import math
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leasecap._config.store_address import parse_address
from leasecap._host.effects import Effects
from leasecap._redis_store.alarms import Alarms
from leasecap._redis_store.errands import _MOST, Errands
from leasecap._redis_store.own_store import OwnStore

PATIENCE = 20.0


def never() -> float:
    return math.inf


def test_alarm_rings_at_its_moment_and_a_cancelled_one_does_not() -> None:
    alarms, rung, last = Alarms(time.monotonic, never), [], threading.Event()
    now = time.monotonic()
    with alarms._lock:  # the thread sees all of it at once
        alarms.set("cancelled", now + 0.05, lambda: rung.append("cancelled"))
        alarms.set("first", now + 0.02, lambda: rung.append("first"))
        alarms.set("second", now + 0.1, last.set)
        alarms.cancel("cancelled")
    assert last.wait(PATIENCE)
    assert rung == ["first"]
    assert time.monotonic() >= now + 0.1
    alarms.rest()
    assert alarms._thread is None


def test_alarm_that_raises_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("leasecap._redis_store.alarms.log_warning_apart", said.append)
    alarms, last = Alarms(time.monotonic, never), threading.Event()
    alarms.set("bad", time.monotonic(), lambda: 1 / 0)  # type: ignore[arg-type]
    alarms.set("good", time.monotonic() + 0.05, last.set)
    assert last.wait(PATIENCE)
    assert "ZeroDivisionError" in said[0]
    alarms.rest()


def test_thread_that_watches_does_not_rest() -> None:
    alarms, watched = Alarms(time.monotonic, lambda: 1.0), threading.Event()
    alarms.set("any", time.monotonic(), watched.set)
    assert watched.wait(PATIENCE)
    alarms.rest()
    assert alarms._thread is not None
    alarms._watch = never
    alarms.rest()


def test_thread_is_woken_only_for_what_comes_before_it_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    alarms = Alarms(time.monotonic, never)
    monkeypatch.setattr(alarms, "_thread", threading.current_thread())
    monkeypatch.setattr(alarms, "_wakes_at", 10.0)
    alarms.look_by(11.0)
    assert alarms._inbox.empty()
    alarms.look_by(9.0)
    assert not alarms._inbox.empty()


def test_thread_that_was_roused_lingers_so_that_the_next_short_lease_does_not_rouse_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("leasecap._redis_store.alarms._LINGER", 20.0)
    alarms = Alarms(time.monotonic, never)
    alarms.look_by(time.monotonic())
    alarms.look_by(time.monotonic())  # the lease is gone before the thread runs
    until = time.monotonic() + PATIENCE
    while alarms._wakes_at > time.monotonic() + 20.0:
        assert time.monotonic() < until
        time.sleep(0.005)
    with alarms._lock:  # the thread can't go on
        alarms._wakes_at = max(alarms._wakes_at, time.monotonic() + 0.5)
        alarms.look_by(time.monotonic() + 20.0)
        assert alarms._inbox.empty()
    alarms.rest()


class Thing:
    pass


def test_what_is_no_longer_referred_to_is_noticed() -> None:
    alarms, gone = Alarms(time.monotonic, never), threading.Event()
    alarms.look_by(time.monotonic())
    thing = Thing()
    kept = alarms.when_gone(thing, gone.set)
    del thing
    gc.collect()
    assert gone.wait(PATIENCE)
    assert kept() is None
    alarms.rest()


def test_errand_gives_its_result_or_raises_its_error() -> None:
    errands, done = Errands(), threading.Semaphore(0)
    good, bad = errands.send(lambda: 7, done.release), errands.send(lambda: 1 // 0, done.release)
    assert done.acquire(timeout=PATIENCE) and done.acquire(timeout=PATIENCE)
    assert (good.done, good.result()) == (True, 7)
    with pytest.raises(ZeroDivisionError):
        bad.result()
    errands.drain(PATIENCE)
    errands.rest()
    assert not errands._threads


def test_errands_run_beside_each_other_and_none_is_lost() -> None:
    errands, barrier, count = Errands(), threading.Barrier(4), []
    first = [errands.send(barrier.wait) for _ in range(4)]
    for number in range(100):
        errands.do(lambda number=number: count.append(number))  # type: ignore[misc]
    errands.drain(PATIENCE)
    assert all(errand.done for errand in first)
    assert len(count) == 100
    errands.rest()


def test_errand_in_the_background_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr("leasecap._redis_store.errands.log_warning_apart", said.append)
    errands = Errands()
    errands.do(lambda: 1 // 0)
    errands.drain(PATIENCE)
    assert "ZeroDivisionError" in said[0]
    errands.rest()


def test_errands_that_give_slots_back_wait_for_no_report_behind_them() -> None:
    """All threads may be at that, for leases that were dropped: the report would never begin."""
    own = OwnStore(parse_address("redis://127.0.0.1"), cast("Any", SimpleNamespace(id="p")), Effects(), lambda _: None)
    pool, go_on, noted = cast("Any", object()), threading.Event(), threading.Event()

    def give_back() -> None:
        go_on.wait()
        own.await_reports(pool)

    for _ in range(_MOST):
        own.errands.do(give_back)
    own.report_soon(pool, noted.set)
    go_on.set()
    assert noted.wait(PATIENCE)
    own.errands.drain(PATIENCE)
    own.rest()
