"""Who is woken, also when somebody died before it woke anybody; and how seldom those far back look."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from helper_process import ended_pid
from staged_world import Actor, Hook, as_a_dead_process, entry

from leasecap import _decide
from leasecap._look import Look
from leasecap._pool import GRANTED, LEASES, QUEUE, RESTS

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


class Watched:
    """What stands for `_ends.Ends`.

    :ivar covers: what it answers.
    :ivar asked: how often it was asked.
    """

    def __init__(self) -> None:
        self.came = self.covers = False
        self.asked = 0

    def cover(self) -> bool:
        self.asked += 1
        return self.covers


class Waiting:
    """As much of an acquisition as a look needs."""

    def __init__(self, actor: Actor, tells: bool) -> None:
        self.watched = Watched()
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

    def ends(self, claim: Claim) -> Watched:
        return self.watched


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


@pytest.fixture
def head(root: Path) -> tuple[Actor, Waiting, Look]:
    """The first in the queue, whose first look has been."""
    actor = Actor(root)
    actor.ask()
    waiting = Waiting(actor, False)
    look = Look(waiting, actor.ask())  # type: ignore[arg-type]
    assert look(actor.world.clock, True) == _decide.SWEEP_EVERY
    assert waiting.watched.asked == 0, "most waits are over by the second look"
    return actor, waiting, look


def test_the_head_rests_once_a_period_was_quiet_and_the_ends_of_all_holders_wake_it(
    head: tuple[Actor, Waiting, Look],
) -> None:
    actor, waiting, look = head
    waiting.watched.covers = True
    for _ in range(2):
        actor.world.clock += _decide.SWEEP_EVERY
        assert look(actor.world.clock, True) == _decide.FAR_SWEEP
        actor.world.clock += _decide.SWEEP_EVERY  # it is woken: somebody was granted something, or is about to be
        assert look(actor.world.clock, True) == _decide.SWEEP_EVERY
    assert waiting.watched.asked == 2


def test_who_cannot_be_covered_goes_on_as_before_and_tries_again_after_a_while(
    head: tuple[Actor, Waiting, Look],
) -> None:
    actor, waiting, look = head
    for _ in range(25):
        actor.world.clock += _decide.SWEEP_EVERY
        assert look(actor.world.clock, True) == _decide.SWEEP_EVERY
    assert waiting.watched.asked == 3


@pytest.mark.parametrize("watched", [True, False])
def test_who_is_far_back_or_woken_by_nobody_is_never_covered(root: Path, watched: bool) -> None:
    actor = Actor(root)
    waiting = Waiting(actor, False)
    actor.ask()
    if watched:
        actor.ask(), actor.ask()
    look = Look(waiting, actor.ask())  # type: ignore[arg-type]
    for _ in range(5):
        pause = look(actor.world.clock, watched)
        assert pause is not None
        actor.world.clock += pause
    assert waiting.watched.asked == 0


def test_the_end_of_a_process_is_looked_into_at_once_though_another_has_just_swept(
    head: tuple[Actor, Waiting, Look],
) -> None:
    actor, waiting, look = head
    waiting.watched.covers = True
    actor.world.clock += _decide.SWEEP_EVERY
    look(actor.world.clock, True)
    actor.store.directory.overwrite("sweep", b"f" * 16)
    waiting.watched.came = True
    look(actor.world.clock + 0.001, True)
    assert actor.store.stamp() != b"f" * 16
    assert not waiting.watched.came


def test_a_grant_wakes_of_the_first_two_those_who_rest(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    holder, first, rests, third = one.ask(), other.ask(), other.ask(), other.ask()
    one.store.directory.write(f"{QUEUE}/{rests.name}/{RESTS}", b"")
    one.store.directory.write(f"{QUEUE}/{third.name}/{RESTS}", b"")
    one.store.release(holder)
    assert one.woken == [first.name, third.name, rests.name]  # the third is one of the first two now
    one.woken.clear()
    one.store.enter_and_settle()
    assert one.woken == [], "nothing was granted"


def test_a_grant_wakes_nobody_of_the_first_two_who_looks_by_itself(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    holder, first, _ = one.ask(), other.ask(), other.ask()
    one.store.release(holder)
    assert one.woken == [first.name]


def test_where_no_end_of_a_process_wakes_anybody_nobody_rests_and_nobody_is_asked_whether_it_does(
    head: tuple[Actor, Waiting, Look], monkeypatch: pytest.MonkeyPatch
) -> None:
    actor, waiting, look = head
    monkeypatch.setattr(type(actor.world), "sees_ends", False)
    actor.world.clock += _decide.SWEEP_EVERY
    assert look(actor.world.clock, True) == _decide.SWEEP_EVERY
    assert waiting.watched.asked == 0
    actor.ask()
    (lease,) = actor.store.snapshot().leases
    done: list[str] = []
    actor.world.before = lambda operation, *names: done.append(" ".join((operation, *names)))
    assert actor.store.end(lease.name)
    assert not any(RESTS in line for line in done)


@pytest.mark.parametrize("heartbeat", [0.3, 4.0, 10.0, 25.0])
def test_a_ticket_is_never_without_a_heartbeat_for_longer_than_is_said_and_nobody_wakes_for_it(
    root: Path, heartbeat: float
) -> None:
    actor = Actor(root, heartbeat=heartbeat)
    claim = fortieth(actor)
    look = Look(Waiting(actor, False), claim)  # type: ignore[arg-type]
    begun = beaten = actor.world.clock
    content = b""
    looks = 0
    while actor.world.clock < begun + 200:
        assert actor.world.clock - beaten <= heartbeat + 1e-6
        actor.store.directory.overwrite("sweep", b"%016d" % looks)
        pause = look(actor.world.clock, True)
        assert pause is not None
        now = actor.store.directory.read(f"{QUEUE}/{claim.name}/alive", 50)
        if now != content:
            content, beaten = now, actor.world.clock
        actor.world.clock += pause
        looks += 1
    assert looks <= 200 / min(heartbeat, _decide.SELDOM_LOOK) + 2


def test_a_heartbeat_that_cannot_be_written_fails_no_wait(root: Path) -> None:
    actor = Actor(root, heartbeat=0.05)
    actor.ask()
    look = Look(Waiting(actor, False), actor.ask())  # type: ignore[arg-type]
    tried: list[str] = []
    for _ in range(5):
        pause = look(actor.world.clock, True)
        assert pause is not None
        actor.world.clock += pause
        actor.world.failing("write_at_start", errno.EROFS)
        fail = actor.world.before

        def note(operation: str, *names: str, fail: Hook = fail) -> None:
            tried.extend(operation for _ in range(operation == "write_at_start"))
            fail(operation, *names)

        actor.world.before = note
    assert len(tried) == 4


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


def test_who_was_granted_a_slot_is_woken_first_and_given_the_processor_before_anything_else_is_done(
    actors: tuple[Actor, Actor],
) -> None:
    one, other = actors
    holder, waiting, _, third = one.ask(), other.ask(), other.ask(), other.ask()
    done: list[str] = []
    one.store.waker = lambda process, name: done.append(name)
    one.world.give_way = lambda: done.append("gives way")  # type: ignore[method-assign]
    one.world.before = lambda operation, *names: done.append("looks again") if operation == "list" else None
    one.store.release(holder)
    after = done[done.index(waiting.name) :]  # where link counts tell nothing, it looks at more places than one
    assert list(dict.fromkeys(after)) == [waiting.name, "gives way", "looks again", third.name]


def test_nobody_gives_way_who_has_woken_nobody(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    one.ask(), other.ask()
    done: list[str] = []
    one.world.give_way = lambda: done.append("gives way")  # type: ignore[method-assign]
    one.store.enter_and_settle()
    assert done == []


@pytest.mark.parametrize("listens", [True, False])
def test_who_listens_is_granted_a_slot_without_a_look_at_its_record_and_else_that_decides(
    actors: tuple[Actor, Actor], listens: bool
) -> None:
    one, other = actors
    holder = one.ask()
    as_a_dead_process(other, ended_pid())  # as far as its record tells
    waiting = other.ask()
    one.store._listens = lambda process: listens
    one.store.release(holder)
    assert (one.where(waiting) == GRANTED) == listens
