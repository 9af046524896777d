from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from helper_process import ended_pid
from staged_world import Actor, as_a_dead_process, nothing, wait_unacknowledged

from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE
from leasecap._decisions.polling import SWEEP_EVERY
from leasecap._host.exits import SEES_EXITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.own_entry import OwnEntry


def test_of_two_that_remove_an_entry_one_succeeds(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    own_entry = one.ask()
    assert other.store.entries.remove(LEASES, own_entry.name)
    assert not one.store.entries.remove(LEASES, own_entry.name)
    assert not one.store.release(own_entry)


def test_a_lease_that_was_taken_is_told_to_its_holder_and_its_release_hits_nobody(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    taken = one.ask()
    assert other.store.end(taken.name)
    successor = other.ask()
    assert other.where(successor) == LEASES
    assert not one.store.beat(taken)
    assert not one.store.release(taken)
    assert other.held() == {successor.name}


@pytest.mark.parametrize("comes_back", [True, False], ids=["comes back", "is parked"])
def test_ticket_that_moves_while_the_places_are_listed_keeps_others_to_its_limit(root: Path, comes_back: bool) -> None:
    """It stood in each place when the other was listed: a newcomer got a slot above the limit that it declares."""
    for moves_at in range(1, 6):
        holder, waiter = Actor(root, limit=2), Actor(root, limit=2)
        held, declares = holder.ask(), waiter.ask(limit=1)
        path = (QUEUE, PARKED)
        if comes_back:
            assert waiter.store.entries.discard(QUEUE, declares.name, PARKED)
            path = (PARKED, QUEUE)
        listed = 0

        def move(operation: str, *names: str) -> None:
            nonlocal listed
            if operation == "list" and names[0] in (QUEUE, PARKED, GRANTED, LEASES):
                listed += 1
                if listed == moves_at:  # noqa: B023  # it is called in this round alone
                    waiter.store.directory.rename(*(f"{where}/{declares.name}" for where in path))  # noqa: B023

        holder.world.before = move
        newcomer = holder.ask()
        holder.world.before = nothing
        assert listed >= moves_at
        assert holder.where(newcomer) == QUEUE, moves_at
        for actor, entry in ((holder, newcomer), (waiter, declares), (holder, held)):
            actor.store.entries.drop(entry)


def test_withdrawing_a_ticket_that_was_granted_meanwhile_is_a_success(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, waiting = one.ask(), other.ask()
    other.world.once("rename", lambda: one.store.release(first), name=QUEUE)  # in the very moment it gives up
    assert not other.store.withdraw(waiting)
    assert one.where(waiting) == LEASES
    assert waiting.granted


def test_withdrawing_leaves_nothing_behind(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, waiting = one.ask(), other.ask()
    assert other.store.withdraw(waiting)
    assert one.where(waiting) is None
    assert waiting.fd is None
    one.store.release(first)
    assert one.held() == set()


def test_withdrawing_a_grant_that_was_taken_back_in_that_moment_leaves_nothing_behind(
    actors: tuple[Actor, Actor],
) -> None:
    one, other = actors
    first, waiting, third = one.ask(), other.ask(), one.ask()
    one.store.release(first)
    wait_unacknowledged(one)
    other.world.once("rename", one.store.sweeper.sweep, name=LEASES)  # about to acknowledge
    assert other.store.withdraw(waiting)
    assert one.where(waiting) is None
    assert one.where(third) == GRANTED


def test_an_acknowledgement_in_the_moment_of_the_take_back_wins_or_loses_but_never_doubles(
    actors: tuple[Actor, Actor],
) -> None:
    one, other = actors
    first, slow, waiting = one.ask(), other.ask(), one.ask()
    one.store.release(first)
    wait_unacknowledged(one)
    one.world.once("rename", lambda: other.store.entries.acknowledge(slow), name=PARKED)
    one.store.sweeper.sweep()
    assert one.where(slow) == LEASES
    assert one.where(waiting) == QUEUE  # the slot that the take-back was to free is not given away
    assert one.held() == {slow.name}


def test_a_ticket_withdrawn_in_the_moment_of_its_grant_leaves_the_slot_to_the_next(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, leaving, waiting = one.ask(), other.ask(), other.ask()
    one.world.once("rename", lambda: other.store.withdraw(leaving), name=GRANTED)
    one.store.release(first)
    assert one.where(leaving) is None
    assert one.where(waiting) == GRANTED


@pytest.mark.parametrize("moment", ["before it is queued", "after it is queued"])
def test_a_release_while_somebody_is_inside_is_seen_on_the_way_out(actors: tuple[Actor, Actor], moment: str) -> None:
    # The releaser finds nobody queued, or can't enter; who is inside has counted its lease. Neither must walk away.
    one, other = actors
    first, waiting = one.ask(), other.stage()
    if moment == "before it is queued":
        other.world.once("rename", lambda: one.store.release(first), name=QUEUE)
        other.place(waiting)
    else:
        assert other.store.section.try_enter()
        assert not other.store.reconciler.place(waiting, may_queue=True)
        one.store.release(first)
        assert one.where(waiting) == QUEUE
        if other.store.reconciler.leave():
            other.store.reconciler.transact()
    assert one.where(waiting) == GRANTED


@pytest.mark.skipif(not SEES_EXITS, reason="there nobody rests")
def test_who_cannot_hand_off_notifies_the_first_two_that_run_and_no_sooner_again_than_a_period_later(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, inside = Actor(root, limit=3), Actor(root, limit=3)
    leases = [holder.ask() for _ in range(3)]
    waiters = [Actor(root, limit=3) for _ in range(4)]
    deaf, first, second, _ = ([waiter.ask(), waiter.ask()][0].name for waiter in waiters)
    monkeypatch.setattr(holder.store.peers, "_is_deaf", lambda process: process == waiters[0].process)

    def told_of_release() -> list[str]:
        holder.notified.clear()
        holder.store.release(leases.pop())
        return list(holder.notified)

    assert deaf < first < second
    holder.world.clock += 1.1 * SWEEP_EVERY  # since its own grants
    assert inside.store.section.try_enter()
    assert told_of_release() == [first, second]
    holder.world.clock += 0.6 * SWEEP_EVERY
    assert told_of_release() == []
    holder.world.clock += 0.6 * SWEEP_EVERY
    assert told_of_release() == [first, second]


@pytest.mark.skipif(not SEES_EXITS, reason="there nobody rests")
def test_who_has_just_granted_a_slot_notifies_nobody_of_one_that_it_cannot_hand_off(root: Path) -> None:
    holder, inside, waiter = (Actor(root, limit=2) for _ in range(3))
    one, other = holder.ask(), holder.ask()
    granted, waiting = waiter.ask(), waiter.ask()
    holder.world.clock += 1.1 * SWEEP_EVERY
    holder.store.release(one)
    assert waiter.store.entries.acknowledge(granted)
    assert holder.notified == [waiting.name]  # of the grant
    assert inside.store.section.try_enter()
    holder.store.release(other)
    assert holder.notified == [waiting.name]


def test_a_declared_limit_that_goes_while_somebody_is_inside_is_seen_on_the_way_out(root: Path, kind: str) -> None:
    one, other = Actor(root, kind=kind, limit=2), Actor(root, kind=kind, limit=2)
    one.ask()
    strict, waiting = one.ask(limit=1), other.stage()
    assert one.where(strict) == QUEUE
    assert other.store.section.try_enter()
    assert not other.store.reconciler.place(waiting, may_queue=True)
    assert one.store.withdraw(strict)
    if other.store.reconciler.leave():
        other.store.reconciler.transact()
    assert one.where(waiting) == GRANTED


def test_who_waits_is_not_looked_at_again_when_nothing_has_happened(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    one.ask()
    own_entry = other.stage()
    assert other.store.section.try_enter()
    other.store.reconciler.place(own_entry, may_queue=True)
    assert not other.store.reconciler.leave()


# -- a section that was stolen ---------------------------------------------------------------------------------------


def robbed_while_it_grants(root: Path) -> tuple[Actor, Actor, OwnEntry, OwnEntry]:
    """A section is stolen between its look and its grant, and thief and robbed each grant the only slot."""
    robbed, thief = Actor(root, kind="directory"), Actor(root, kind="directory")
    slow = thief.ask(priority=-1)
    thief.store.entries.drop(slow)
    first, slow = thief.ask(), thief.ask(priority=-1)
    fast = thief.stage()
    as_a_dead_process(robbed, ended_pid())
    robbed.world.once("rename", lambda: thief.place(fast), name=f"{GRANTED}/{slow.name}")
    assert robbed.store.section.try_enter()
    thief.store.entries.remove(LEASES, first.name)
    robbed.store.reconciler.reconcile()
    assert robbed.held() == {slow.name, fast.name}
    return robbed, thief, slow, fast


def test_the_excess_of_a_robbed_section_goes_back_to_the_queue_as_soon_as_it_leaves(root: Path) -> None:
    robbed, thief, slow, fast = robbed_while_it_grants(root)
    assert robbed.store.reconciler.leave()  # it learns it
    robbed.store.reconciler.transact()
    assert thief.held() == {fast.name}
    assert thief.where(slow) == PARKED


def test_the_excess_of_a_robbed_section_is_revoked_and_its_holder_told(root: Path) -> None:
    robbed, thief, slow, fast = robbed_while_it_grants(root)
    assert thief.store.entries.acknowledge(slow)
    thief.store.sweeper.sweep()  # whoever looks next: the robbed one may be stopped still
    assert thief.held() == {fast.name}
    assert not thief.store.beat(slow)
    assert not thief.store.release(slow)
    assert robbed.store.reconciler.leave()


def test_a_suspect_grant_that_can_not_be_moved_hangs_nobody(root: Path) -> None:
    _, thief, slow, fast = robbed_while_it_grants(root)
    tries = 0

    def refuse(operation: str, *names: str) -> None:
        nonlocal tries
        if operation == "rename" and names[1].startswith(PARKED):
            tries += 1
            assert tries < 50
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    thief.world.before = refuse
    thief.store.sweeper.sweep()
    assert thief.held() == {slow.name, fast.name}


def test_what_a_section_granted_before_it_was_robbed_is_not_suspect(root: Path) -> None:
    robbed, thief = Actor(root, kind="directory", limit=2), Actor(root, kind="directory", limit=2)
    as_a_dead_process(robbed, ended_pid())
    before = thief.stage()
    assert robbed.store.section.try_enter()
    assert robbed.store.reconciler.place(before, may_queue=True)
    other = thief.ask()
    assert thief.held() == {before.name, other.name}
    for actor in (robbed, thief):
        actor.store.policy.configured = 1  # lowering a limit never revokes what runs
    assert robbed.store.reconciler.leave()
    robbed.store.reconciler.transact()
    thief.store.sweeper.sweep()
    assert thief.held() == {before.name, other.name}
