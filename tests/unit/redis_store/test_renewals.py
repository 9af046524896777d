"""Renewals and the moment at which a lease is lost, on clocks that the test moves."""

from __future__ import annotations

import math
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leasecap import _log
from leasecap._errors import ConfigError, StoreError
from leasecap._host.effects import Effects
from leasecap._liveness.record import Record
from leasecap._redis_store.holding import Holding
from leasecap._redis_store.renewals import Kept, Renewals

NAME = f"500-{1:016x}-{2:016x}-{3:012x}-0"
RECORD = Record("p", 1, 1, 0, None, None, None, None, "", False, "lock", None, "", "")


class Clock(Effects):
    """Both clocks; the boot clock goes on while the machine sleeps."""

    __slots__ = ("asleep", "time")

    def __init__(self) -> None:
        self.time, self.asleep = 100.0, 0.0

    def monotonic(self) -> float:
        return self.time

    def boot_clock(self) -> int:
        return int((self.time + self.asleep) * 1e9)


class FakePool:
    """Answers renewals as the test says."""

    ttl, beat = 30.0, 5.0
    name = SimpleNamespace(text="p")
    holding = Holding()

    def __init__(self) -> None:
        self.answer: tuple[str, ...] | Exception = ("kept",)
        self.described: list[str] = []

    def renew(self, leases: list[str], tickets: list[str]) -> tuple[str, ...]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def describe(self, token: str, record: Record) -> bool:
        self.described.append(token)
        return True


class World:
    def __init__(self) -> None:
        self.clock, self.pool, self.gone = Clock(), FakePool(), 0
        self.renewals = Renewals(self.clock, lambda when: None)
        self.renewals._start = lambda: None  # type: ignore[method-assign]  # the test is the thread

    def keep(self, *, is_lease: bool = True) -> Kept:
        kept = Kept(cast("Any", self.pool), NAME, self.clock.boot_clock() / 1e9, RECORD, self._gone, is_lease=is_lease)
        self.renewals.add(kept)
        return kept

    def _gone(self) -> None:
        self.gone += 1

    def renew(self) -> None:
        self.renewals._renew(cast("Any", self.pool))


@pytest.fixture
def world() -> World:
    return World()


def test_lease_is_lost_a_ttl_after_its_last_confirmed_renewal_was_sent(world: World) -> None:
    kept = world.keep()
    world.clock.time += 10
    world.renew()
    world.pool.answer = StoreError("away", path="", remedy="")
    world.clock.time += 29
    world.renew()
    assert world.renewals.check() == pytest.approx(1.0)
    assert not world.gone
    world.clock.time += 1
    world.renewals.check()
    assert (world.gone, kept.unconfirmed) == (1, True)
    assert not world.renewals.keeps(kept)


def test_sleep_of_the_machine_counts(world: World) -> None:
    world.keep()
    world.clock.asleep += 31
    world.renewals.check()
    assert world.gone == 1


def test_answer_that_comes_late_counts_from_when_it_was_asked_for(world: World) -> None:
    kept = world.keep()

    def slow(leases: list[str], tickets: list[str]) -> tuple[str, ...]:
        world.clock.time += 8
        return ("kept",)

    world.pool.renew = slow  # type: ignore[method-assign]
    world.clock.time += 5
    world.renew()
    assert kept.sent == 105


def test_lease_that_the_store_calls_lost_is_told_once(world: World) -> None:
    kept = world.keep()
    world.pool.answer = ("lost",)
    world.renew()
    world.renewals.check()
    assert (world.gone, kept.unconfirmed) == (1, False)


def test_whatever_keeps_an_adopted_lease_from_saying_what_it_is_ends_no_renewals(world: World) -> None:
    world.keep()
    world.pool.answer = ("adopted",)

    def describe(token: str, record: Record) -> bool:
        raise ConfigError("the password's file is being replaced")

    world.pool.describe = describe  # type: ignore[method-assign]
    world.renew()
    world.renew()
    assert world.gone == 0


def test_adopted_lease_says_again_what_it_is(world: World) -> None:
    world.keep()
    world.pool.answer = ("adopted",)
    world.renew()
    assert world.pool.described == [f"{2:016x}"]
    assert not world.gone


def test_ticket_that_is_gone_wakes_its_waiter_and_never_runs_out(world: World) -> None:
    world.keep(is_lease=False)
    world.clock.time += 100
    world.renewals.check()
    before = world.gone
    world.pool.answer = ("lost",)
    world.renew()
    assert (before, world.gone) == (0, 1)


def test_ticket_is_renewed_once_half_of_its_time_is_over_or_at_once_on_suspicion(world: World) -> None:
    asked: list[list[str]] = []

    def renew(leases: list[str], tickets: list[str]) -> tuple[str, ...]:
        asked.append(tickets)
        return ("kept",) * len(tickets)

    world.pool.renew = renew  # type: ignore[method-assign]
    kept = world.keep(is_lease=False)
    world.clock.time += 14
    world.renew()
    assert asked == []
    world.clock.time += 2
    world.renew()
    assert (asked, kept.sent) == ([[NAME]], 116)
    world.renewals.soon()
    world.renew()
    assert asked == [[NAME], [NAME]]


def test_thread_is_woken_only_for_a_beat_that_it_would_miss(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []
    monkeypatch.setattr(world.renewals, "_thread", object())
    monkeypatch.setattr(world.renewals._changed, "notify", lambda: woken.append(1))
    world.keep()
    assert woken == [1]  # it had nothing to wait for
    world.renewals._wakes_at = 105.0
    world.keep()
    assert woken == [1]


def test_thread_lingers_until_the_beat_so_that_the_next_short_lease_does_not_rouse_it(world: World) -> None:
    world.keep()
    world.renewals.remove(NAME)  # before the thread runs
    thread = world.renewals._thread = threading.Thread(target=world.renewals._run)
    thread.start()
    until = time.monotonic() + 20.0
    while world.renewals._wakes_at != 105.0:
        assert time.monotonic() < until
        time.sleep(0.005)
    world.clock.time = 105.0
    with world.renewals._changed:
        world.renewals._changed.notify()
    while world.renewals._wakes_at != math.inf:
        assert time.monotonic() < until, "what isn't kept is forgotten then"
        time.sleep(0.005)
    with world.renewals._changed:
        world.renewals._thread = None
        world.renewals._changed.notify()
    thread.join()


def test_thread_that_is_started_while_another_ends_goes_on(world: World) -> None:
    """`rest`, before a fork, waits for a thread that is in a call; another thread acquires meanwhile."""
    renewals = world.renewals
    threads = [threading.Thread(target=renewals._run) for _ in range(2)]
    renewals._thread = threads[0]
    threads[0].start()
    resting = threading.Event()

    def start_another(thread: object) -> None:
        with renewals._changed:
            assert renewals._thread is None
            renewals._thread = threads[1]
            threads[1].start()
        threads[0].join()
        resting.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leasecap._redis_store.renewals.await_end", start_another)
        renewals.rest()
    assert resting.is_set() and renewals._thread is threads[1]
    with renewals._changed:
        renewals._changed.notify_all()
    threads[1].join(0.2)
    assert threads[1].is_alive()
    renewals.rest()
    threads[1].join()


def test_what_may_have_been_taken_while_an_answer_was_on_its_way_is_asked_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def renew(leases: list[str], tickets: list[str]) -> tuple[str, ...]:
        world.renewals.soon()
        return ("kept",)

    world.keep()
    monkeypatch.setattr(world.pool, "renew", renew)
    world.renew()
    assert world.renewals._due[cast("Any", world.pool)] == world.clock.time
    monkeypatch.undo()
    world.renew()
    assert world.renewals._due[cast("Any", world.pool)] == world.clock.time + FakePool.beat


def test_two_beats_that_fail_are_told_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(_log, "sink", said.append)
    monkeypatch.setattr("leasecap._redis_store.renewals.log_warning_apart", said.append)
    world.keep()
    world.pool.answer = StoreError("can't be reached", path="redis://h:1/0", remedy="")
    for _ in range(12):
        world.clock.time += 1
        world.renew()
    assert len(said) == 1
    assert "are lost in" in said[0]
    world.pool.answer = ("kept",)
    world.renew()
    world.pool.answer = StoreError("can't be reached", path="redis://h:1/0", remedy="")
    for _ in range(7):
        world.clock.time += 1
        world.renew()
    assert len(said) == 2


def test_pools_that_fail_are_renewed_after_the_others(world: World) -> None:
    """A silent node of a cluster took a second of each of its pools, in which leases on the other nodes ran out."""
    pools = [FakePool() for _ in range(6)]
    for number, world.pool in enumerate(pools):
        world.clock.time += 0.1
        kept = Kept(cast("Any", world.pool), f"{number}", 0.0, RECORD, lambda: None, is_lease=True)
        world.renewals.add(kept)
    for world.pool in pools[:3]:
        world.clock.time += 0.1
        world.pool.answer = StoreError("can't be reached", path="redis://h:1/0", remedy="")
        world.renew()
    world.clock.time += FakePool.beat
    order = []
    while (found := world.renewals._next()) is not None:
        order.append(pools.index(cast("Any", found)))
        world.pool = pools[order[-1]]
        world.renew()
        world.clock.time += 0.1
    assert order == [3, 4, 5, 0, 1, 2]


def test_holder_is_told_in_time_once_that_its_command_has_to_end(world: World) -> None:
    world.pool.holding = Holding(when_unsure="end")
    kept = world.keep()
    told: list[float | None] = []
    kept.kill_after = 10.0
    kept.on_unsure = lambda: told.append(kept.ends_in(world.clock.boot_clock() / 1e9))
    world.clock.time += 17.0
    world.renewals.check()
    assert told == []
    world.clock.asleep += 1.0  # it goes on while the machine sleeps
    world.renewals.check()
    world.renewals.check()
    assert told == [pytest.approx(9.5)]
    world.renew()
    world.renewals.check()
    assert kept.ends_in(world.clock.boot_clock() / 1e9) is None
    world.clock.time += 18.0
    world.renewals.check()
    assert len(told) == 2


def test_holder_is_told_nothing_where_commands_run_on(world: World) -> None:
    kept = world.keep()
    kept.kill_after = 10.0
    kept.on_unsure = lambda: pytest.fail("it need not end")
    world.clock.time += 29.0
    world.renewals.check()
    assert kept.ends_in(world.clock.boot_clock() / 1e9) is None


def test_thread_sleeps_until_a_ticket_needs_it_and_wakes_for_a_new_lease(world: World) -> None:
    pool, ticket = cast("Any", world.pool), world.keep(is_lease=False)
    world.clock.time += 5
    world.renew()
    assert world.renewals._due[pool] == ticket.sent + FakePool.ttl / 2
    world.keep()
    assert world.renewals._due[pool] == world.clock.time + FakePool.beat


def test_ticket_is_renewed_sooner_once_a_look_has_found_that_it_lasts_for_less(world: World) -> None:
    ticket = world.keep(is_lease=False)
    world.renew()
    assert world.renewals._due[ticket.pool] == world.clock.time + 15
    world.pool.ttl, world.pool.beat = 2.0, 1 / 3
    world.renewals.note_look(ticket, world.clock.boot_clock() / 1e9, 2.0)
    assert world.renewals._due[ticket.pool] == world.clock.time + 1 / 3
    world.renew()
    assert world.renewals._due[ticket.pool] == world.clock.time + 1
