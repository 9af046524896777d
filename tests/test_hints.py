"""Who is woken, also when somebody died before it woke anybody; and how seldom those far back look."""

from __future__ import annotations

from pathlib import Path

import pytest
from helper_process import ended_pid
from staged_world import Actor, as_a_dead_process, entry

from leasecap import _decide
from leasecap._look import Look
from leasecap._pool import GRANTED, LEASES, QUEUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._entries import Claim


@pytest.fixture
def actors(root: Path) -> tuple[Actor, Actor]:
    """Two processes in a pool with one slot."""
    return Actor(root), Actor(root)


def granted_and_not_woken(actors: tuple[Actor, Actor]) -> Claim:
    """A waiter whose granter ended between its rename and its word to the waiter."""
    one, other = actors
    first, waiting = one.ask(), other.ask()
    assert one.store.section.try_enter()
    one.store.remove(LEASES, first.name)
    one.store.settle()
    one.store.section.leave()
    assert one.where(waiting) == GRANTED and one.woken == []
    return waiting


def test_who_was_granted_a_slot_by_one_that_died_is_woken_by_the_next_who_settles_and_once(
    actors: tuple[Actor, Actor],
) -> None:
    waiting = granted_and_not_woken(actors)
    other = actors[1]
    for _ in range(2):
        other.store.enter_and_settle()
        assert other.woken == [waiting.name]


def test_a_sweep_wakes_who_was_granted_a_slot_by_one_that_died(actors: tuple[Actor, Actor]) -> None:
    other = actors[1]
    other.store.sweep()  # a thorough one, after which the next isn't
    waiting = granted_and_not_woken(actors)
    other.store.sweep()
    assert other.woken == [waiting.name]


def test_who_granted_a_slot_does_not_wake_its_waiter_again(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, waiting = one.ask(), other.ask()
    one.store.release(first)
    one.store.enter_and_settle()
    assert one.woken == [waiting.name]


def test_a_ticket_withdrawn_ahead_of_the_third_makes_it_one_of_the_first_two_and_it_is_told(root: Path) -> None:
    one = Actor(root)
    one.ask()
    tickets = [one.ask() for _ in range(4)]
    one.store.withdraw(tickets[3])
    assert one.woken == []
    one.store.withdraw(tickets[1])
    assert tickets[2].name in one.woken
    one.woken.clear()
    one.store.finish(tickets[0])  # as a cancelled task does
    assert tickets[2].name in one.woken


def test_a_dead_ticket_reaped_ahead_of_the_third_makes_it_one_of_the_first_two_and_it_is_told(root: Path) -> None:
    one, killed = Actor(root), Actor(root)
    one.ask()
    as_a_dead_process(killed, ended_pid())
    gone = killed.ask()
    killed.store.close(gone)
    tickets = [one.ask() for _ in range(2)]
    one.store.sweep()
    assert one.where(gone) is None
    assert tickets[1].name in one.woken


def test_a_sweep_where_nothing_has_moved_looks_at_the_holders_alone_and_sees_one_that_died(
    actors: tuple[Actor, Actor],
) -> None:
    one, other = actors
    holder, waiting = one.ask(), other.ask()
    other.store.sweep()
    listed: list[str] = []
    other.world.before = lambda operation, *names: listed.extend(names if operation in ("list", "stat") else ())
    other.store.sweep()
    assert [name for name in listed if "/" not in name] == [LEASES, GRANTED]
    one.store.rewrite(holder, holder.record._replace(pid=ended_pid(), start=1))
    one.store.close(holder)
    other.store.sweep()
    assert one.where(waiting) == GRANTED


def test_a_slot_released_by_one_that_died_before_it_handed_it_on_is_found_by_the_next_sweep(
    actors: tuple[Actor, Actor],
) -> None:
    one, other = actors
    holder, waiting = one.ask(), other.ask()
    other.store.sweep()
    one.store.remove(LEASES, holder.name)
    # Somebody is inside, and is killed there: the sweep can't grant, and the one after it looks again.
    assert one.store.section.try_enter()
    other.store.sweep()
    assert one.where(waiting) == QUEUE
    one.store.section.leave()
    other.store.sweep()
    assert one.where(waiting) == GRANTED


class Waiting:
    """As much of an acquisition as a look needs."""

    def __init__(self, actor: Actor, tells: bool) -> None:
        self.store = actor.store
        self.tells = tells
        self.told = 0
        self.position = 0

    def refresh(self) -> None:
        """The configuration stays as it is."""

    def sweep(self) -> float:
        return self.store.sweep()

    def tell(self, snapshot: _decide.Snapshot) -> None:
        self.told += 1


def fortieth(actor: Actor) -> Claim:
    actor.ask()
    for number in range(39):
        actor.store.directory.make(f"{QUEUE}/{entry(number).name}")
    return actor.ask(order=1000)


@pytest.fixture
def far_back(root: Path) -> tuple[Actor, Look]:
    actor = Actor(root)
    return actor, Look(Waiting(actor, False), fortieth(actor))  # type: ignore[arg-type]


def test_who_is_woken_and_far_back_looks_seldom_while_others_sweep(far_back: tuple[Actor, Look]) -> None:
    actor, look = far_back
    for number in range(4):
        actor.store.directory.overwrite("sweep", b"%016d" % number)
        pause = look(actor.world.clock, True)
        assert pause == _decide.SELDOM_LOOK
        actor.world.clock += pause


def test_who_is_far_back_and_sees_that_nobody_sweeps_does_so_as_often_as_a_late_grant_needs(
    far_back: tuple[Actor, Look],
) -> None:
    actor, look = far_back
    for expected in (_decide.SELDOM_LOOK, _decide.FAR_SWEEP, _decide.FAR_SWEEP):
        pause = look(actor.world.clock, True)
        assert pause == expected
        actor.world.clock += pause
    assert _decide.FAR_SWEEP < _decide.ACKNOWLEDGE_WITHIN


def test_who_has_come_to_be_one_of_the_first_two_sweeps_as_often_as_they_do_from_then_on(root: Path) -> None:
    actor = Actor(root)
    holder, ahead, third = actor.ask(), [actor.ask() for _ in range(2)], actor.ask()
    look = Look(Waiting(actor, False), third)  # type: ignore[arg-type]
    look(actor.world.clock, True)
    for ticket in ahead:
        actor.store.withdraw(ticket)
    actor.store.rewrite(holder, holder.record._replace(pid=ended_pid(), start=1))
    actor.store.close(holder)
    for _ in range(2):  # it is told, and looks again after a period
        look(actor.world.clock, True)
        actor.world.clock += _decide.SWEEP_EVERY
    assert actor.where(third) == GRANTED


def test_who_is_far_back_and_wants_to_be_told_of_the_wait_is_told_in_time(root: Path) -> None:
    actor = Actor(root)
    waiting = Waiting(actor, True)
    look = Look(waiting, fortieth(actor))  # type: ignore[arg-type]
    begun = actor.world.clock
    told_after: list[float] = []
    while len(told_after) < 3:
        pause = look(actor.world.clock, True)
        assert pause is not None
        if waiting.told > len(told_after):
            told_after.append(actor.world.clock - begun)
        actor.world.clock += pause
    assert told_after == [1.0, 3.0, 7.0]
