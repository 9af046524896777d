"""Who is woken and who is notified, also when somebody died before it could do that."""

from __future__ import annotations

from pathlib import Path

import pytest
from helper_process import ended_pid
from staged_world import Actor, as_a_dead_process

from leasecap._decisions.places import GRANTED, LEASES, QUEUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.own_entry import OwnEntry


@pytest.fixture
def actors(root: Path) -> tuple[Actor, Actor]:
    """Two processes in a pool with one slot."""
    return Actor(root), Actor(root)


def granted_and_not_woken(actors: tuple[Actor, Actor]) -> OwnEntry:
    """A waiter whose granter ended between its rename and its word to the waiter."""
    one, other = actors
    first, waiting = one.ask(), other.ask()
    assert one.store.section.try_enter()
    one.store.entries.remove(LEASES, first.name)
    one.store.reconciler.reconcile()
    one.store.section.leave()
    assert one.where(waiting) == GRANTED and one.woken == []
    return waiting


def test_who_was_granted_a_slot_by_one_that_died_is_woken_by_the_next_who_settles_and_once(
    actors: tuple[Actor, Actor],
) -> None:
    waiting = granted_and_not_woken(actors)
    other = actors[1]
    for _ in range(2):
        other.store.reconciler.transact()
        assert other.woken == [waiting.name]


def test_a_sweep_wakes_who_was_granted_a_slot_by_one_that_died(actors: tuple[Actor, Actor]) -> None:
    other = actors[1]
    other.store.sweeper.sweep()  # a thorough one, after which the next isn't
    waiting = granted_and_not_woken(actors)
    other.store.sweeper.sweep()
    assert other.woken == [waiting.name]


def test_who_granted_a_slot_does_not_wake_its_waiter_again(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, waiting = one.ask(), other.ask()
    one.store.release(first)
    one.store.reconciler.transact()
    assert one.woken == [waiting.name]


def test_a_ticket_withdrawn_ahead_of_the_third_makes_it_one_of_the_first_two_and_it_is_told(root: Path) -> None:
    one = Actor(root)
    one.ask()
    tickets = [Actor(root).ask() for _ in range(4)]
    one.store.withdraw(tickets[3])
    assert one.notified == []
    one.store.withdraw(tickets[1])
    assert tickets[2].name in one.notified
    one.notified.clear()
    one.store.finish(tickets[0])  # as a cancelled task does
    assert tickets[2].name in one.notified


def test_a_dead_ticket_reaped_ahead_of_the_third_makes_it_one_of_the_first_two_and_it_is_told(root: Path) -> None:
    one, killed = Actor(root), Actor(root)
    one.ask()
    as_a_dead_process(killed, ended_pid())
    gone = killed.ask()
    killed.store.entries.close(gone)
    tickets = [Actor(root).ask() for _ in range(2)]
    one.store.sweeper.sweep()
    assert one.where(gone) is None
    assert tickets[1].name in one.notified


def test_a_sweep_where_nothing_has_moved_sees_a_holder_that_died(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    holder, waiting = one.ask(), other.ask()
    other.store.sweeper.sweep()
    other.store.sweeper.sweep()
    one.store.entries.rewrite(holder, holder.record._replace(pid=ended_pid(), start=1))
    one.store.entries.close(holder)
    other.store.sweeper.sweep()
    assert one.where(waiting) == GRANTED


def test_a_slot_released_by_one_that_died_before_it_handed_it_on_is_found_by_the_next_sweep(
    actors: tuple[Actor, Actor],
) -> None:
    one, other = actors
    holder, waiting = one.ask(), other.ask()
    other.store.sweeper.sweep()
    one.store.entries.remove(LEASES, holder.name)
    # Somebody is inside, and is killed there: the sweep can't grant, and the one after it looks again.
    assert one.store.section.try_enter()
    other.store.sweeper.sweep()
    assert one.where(waiting) == QUEUE
    one.store.section.leave()
    other.store.sweeper.sweep()
    assert one.where(waiting) == GRANTED


@pytest.mark.posix("handles on the exits of processes")
def test_a_grant_notifies_the_first_two_who_may_rest(root: Path, actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    holder, first = one.ask(), other.ask()
    stays, third, _ = Actor(root).ask(), Actor(root).ask(), Actor(root).ask()
    one.store.release(holder)
    assert one.woken == [first.name]
    assert set(one.notified) == {third.name, stays.name}  # the third is one of the first two now
    one.notified.clear()
    one.store.reconciler.transact()
    assert one.notified == [], "nothing was granted"


def test_where_no_exit_wakes_anybody_nobody_rests_who_had_to_be_notified(
    actors: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = actors
    holder, first, _ = one.ask(), other.ask(), other.ask()
    monkeypatch.setattr(type(one.world), "others_see_exits", False)
    one.store.release(holder)
    assert (one.woken, one.notified) == ([first.name], [])


def test_a_process_without_handles_on_exits_notifies_those_that_may_have_them(
    actors: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = actors
    holder, _, stays = one.ask(), other.ask(), other.ask()
    monkeypatch.setattr(type(one.world), "sees_exits", False)
    monkeypatch.setattr(type(one.world), "others_see_exits", True)
    one.store.release(holder)
    assert one.notified == [stays.name]


def test_who_leaves_work_to_one_that_is_inside_has_the_first_two_look(
    root: Path, actors: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = actors
    holder, gone, first, second, inside = one.ask(), other.ask(), Actor(root).ask(), Actor(root).ask(), Actor(root)
    monkeypatch.setattr(type(one.world), "others_see_exits", True)
    leave = one.store.section.leave

    def left_to_another() -> bool:
        left = leave()
        assert inside.store.section.try_enter()
        return left

    monkeypatch.setattr(one.store.section, "leave", left_to_another)
    one.world.once("rename", lambda: other.store.entries.remove(QUEUE, gone.name), name=f"{GRANTED}/{gone.name}")
    one.world.clock += 1.0  # its own grant was a notice as well
    one.store.release(holder)
    assert one.where(first) == QUEUE
    assert one.notified[-2:] == [first.name, second.name]


def test_a_sweep_that_leaves_work_to_one_that_is_inside_is_in_vain(
    root: Path, actors: tuple[Actor, Actor], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = actors
    holder, waiting, inside = one.ask(), other.ask(), Actor(root)
    one.store.entries.remove(LEASES, holder.name)
    monkeypatch.setattr(one.store.sweeper, "_thorough_at", 0.0)
    leave = one.store.section.leave

    def left_to_another() -> bool:
        leave()
        assert inside.store.section.try_enter()
        return False  # it was robbed, so that it has to look once more

    with monkeypatch.context() as patch:
        patch.setattr(one.store.section, "leave", left_to_another)
        assert one.store.sweeper.sweep().in_vain
    one.world.clock += 10.0  # a thorough one, for which nothing seems to be called for
    assert one.store.sweeper.sweep().in_vain
    inside.store.section.leave()
    assert other.where(waiting) == GRANTED
    assert not one.store.sweeper.sweep().in_vain


def test_a_ticket_that_goes_before_others_has_the_one_right_behind_look(root: Path) -> None:
    one = Actor(root)
    one.ask()
    tickets = [Actor(root).ask() for _ in range(4)]
    Actor(root).ask()
    urgent = Actor(root)
    urgent.ask(order=tickets[1].entry.order + 1)  # it begins again, in its old place
    assert tickets[2].name in urgent.notified and tickets[3].name not in urgent.notified


def test_who_was_granted_a_slot_is_woken_first_and_given_the_processor_before_anything_else_is_done(
    root: Path, actors: tuple[Actor, Actor]
) -> None:
    one, other = actors
    holder, waiting = one.ask(), other.ask()
    stays, third = Actor(root).ask(), Actor(root).ask()
    done: list[str] = []
    one.store.reconciler.waker = one.store.reconciler.notify = lambda process, name: done.append(name)
    one.world.give_way = lambda: done.append("gives way")  # type: ignore[method-assign]
    one.world.before = lambda operation, *names: done.append("looks again") if operation == "list" else None
    one.store.release(holder)
    after = done[done.index(waiting.name) :]
    first = [stays.name] if one.world.others_see_exits else []
    assert list(dict.fromkeys(after)) == [waiting.name, "gives way", "looks again", *first, third.name]


def test_nobody_gives_way_who_has_woken_nobody(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    one.ask(), other.ask()
    done: list[str] = []
    one.world.give_way = lambda: done.append("gives way")  # type: ignore[method-assign]
    one.store.reconciler.transact()
    assert done == []
