from __future__ import annotations

import os
from pathlib import Path

import pytest
from places import PLATFORM
from staged_world import Actor, wait_unacknowledged

from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING


def test_a_claim_is_whole_before_anybody_sees_it(actors: tuple[Actor, Actor], kind: str) -> None:
    one, other = actors
    own_entry = one.stage()
    assert one.where(own_entry) == STAGING
    assert set(os.listdir(one.store.directory.full(f"{STAGING}/{own_entry.name}"))) == {"alive", "info.json"}
    held = one.store.directory.probe(f"{STAGING}/{own_entry.name}/alive")[0]
    assert held is (None if PLATFORM == "win32" else kind == "os")
    assert other.held() == set()
    one.place(own_entry)
    assert one.where(own_entry) == LEASES
    assert other.held() == {own_entry.name}


def test_a_ticket_goes_from_the_queue_by_a_grant_to_a_lease_and_is_released(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first = one.ask()
    second = other.ask()
    assert (one.where(first), one.where(second)) == (LEASES, QUEUE)
    assert not other.store.entries.acknowledge(second)
    assert one.store.release(first)
    assert (one.where(first), one.where(second)) == (None, GRANTED)
    assert one.woken == [second.name]
    assert other.store.entries.acknowledge(second)
    assert one.where(second) == LEASES
    assert second.granted
    assert other.store.release(second)
    assert other.held() == set()


def test_a_lease_is_handed_on_to_the_head_and_to_nobody_else(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, low, high, late = one.ask(), other.ask(), other.ask(priority=1), other.ask()
    for own_entry in (first, high, low, late):
        assert one.where(own_entry) in {GRANTED, LEASES}
        assert len(one.held()) == 1
        one.store.entries.acknowledge(own_entry)
        assert one.store.release(own_entry)


def test_a_newcomer_never_overtakes_the_queue(root: Path, kind: str) -> None:
    one = Actor(root, kind=kind, limit=2)
    first, second, waiting = one.ask(), one.ask(), one.ask()
    one.store.entries.remove(LEASES, first.name)  # free, and nobody has handed it on yet
    newcomer = one.ask()
    assert (one.where(waiting), one.where(newcomer)) == (GRANTED, QUEUE)
    assert one.held() == {second.name, waiting.name}


def test_who_may_not_queue_and_finds_no_room_stays_out(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    one.ask()
    own_entry = other.stage()
    assert not other.place(own_entry, may_queue=False)
    assert other.where(own_entry) == STAGING
    assert other.store.entries.drop(own_entry) == STAGING
    assert other.where(own_entry) is None


def test_a_grant_not_acknowledged_is_parked_and_the_next_one_served(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, stopped, waiting = one.ask(), other.ask(), one.ask()
    one.store.release(first)
    wait_unacknowledged(one)
    one.store.sweeper.sweep()
    assert (one.where(stopped), one.where(waiting)) == (PARKED, GRANTED)
    assert not other.store.entries.acknowledge(stopped)
    assert other.store.entries.unpark(stopped)
    assert not other.store.entries.unpark(stopped)
    assert one.where(stopped) == QUEUE
    assert one.store.entries.acknowledge(waiting)
    assert one.store.release(waiting)
    assert one.where(stopped) == GRANTED


def test_a_grant_that_nobody_watched_for_a_while_is_not_late(actors: tuple[Actor, Actor]) -> None:
    # In between it may have been taken back and granted again.
    one, other = actors
    first, waiting = one.ask(), other.ask()
    one.store.release(first)
    one.store.snapshots.take()
    one.world.clock += ACKNOWLEDGE_WITHIN * 2
    one.store.sweeper.sweep()
    assert one.where(waiting) == GRANTED


@pytest.mark.parametrize("place", [STAGING, QUEUE, GRANTED, PARKED, LEASES])
def test_whatever_is_dropped_is_gone_from_wherever_it_stood(actors: tuple[Actor, Actor], place: str) -> None:
    one, other = actors
    first = one.ask()
    own_entry = first if place == LEASES else other.stage()
    if place not in {STAGING, LEASES}:
        other.place(own_entry)
    if place in {GRANTED, PARKED}:
        one.store.release(first)
    if place == PARKED:
        wait_unacknowledged(one)
        one.store.sweeper.sweep()
    assert one.where(own_entry) == place
    assert other.store.entries.drop(own_entry) == place
    assert one.where(own_entry) is None
    assert own_entry.fd is None
    assert other.store.entries.drop(own_entry) is None


@pytest.mark.parametrize("place", [QUEUE, GRANTED, PARKED, LEASES])
def test_a_heartbeat_finds_its_entry_wherever_it_stands(actors: tuple[Actor, Actor], place: str) -> None:
    one, other = actors
    first = one.ask()
    own_entry = first if place == LEASES else other.ask()
    if place in {GRANTED, PARKED}:
        one.store.release(first)
    if place == PARKED:
        wait_unacknowledged(one)
        one.store.sweeper.sweep()
    assert one.where(own_entry) == place
    path = f"{place}/{own_entry.name}/alive"
    before = one.store.directory.read(path, 99)
    assert other.store.beat(own_entry)
    assert one.store.directory.read(path, 99) != before
    other.store.entries.drop(own_entry)
    assert not other.store.beat(own_entry)


def test_a_withdrawn_ticket_takes_its_declared_limit_along(root: Path, kind: str) -> None:
    one = Actor(root, kind=kind, limit=2)
    one.ask()
    strict, waiting = one.ask(limit=1), one.ask()
    assert one.where(waiting) == QUEUE
    assert one.store.withdraw(strict)
    assert one.where(waiting) == GRANTED
