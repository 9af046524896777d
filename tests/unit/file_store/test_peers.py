"""What a granter sees of the processes that wait: one look for each, however many tickets it has."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from children import await_continue, await_stop
from helper_process import ended_pid, helper
from staged_world import Actor, as_a_dead_process

from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE
from leasecap._file_store import observer
from leasecap._file_store import peers as _peers
from leasecap._host import process as _process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.own_entry import OwnEntry


def as_process(actor: Actor, pid: int) -> None:
    """Let what ``actor`` writes of itself name that process, which runs."""
    actor.world.identity = actor.world.me()._replace(pid=pid, start=_process.start_of(pid))


def presences(actor: Actor, what: str = "presence") -> list[str]:
    """The processes that ``actor`` looks at from now on."""
    found: list[str] = []
    actor.world.before = lambda operation, *names: found.extend(names if operation == what else ())
    return found


def places(actor: Actor, *own_entries: OwnEntry) -> list[str | None]:
    return [actor.where(own_entry) for own_entry in own_entries]


def test_all_tickets_of_an_exited_process_cost_one_look_and_are_removed(root: Path) -> None:
    one, killed = Actor(root), Actor(root)
    holder = one.ask()
    as_a_dead_process(killed, ended_pid())
    gone = [killed.ask() for _ in range(200)]
    waiting = Actor(root).ask()
    looked = presences(one)
    one.store.release(holder)
    assert one.where(waiting) == GRANTED
    assert len(looked) == 2  # at the exited one, and at the one that was granted the slot
    left = [own_entry for own_entry in gone if one.where(own_entry) is not None]
    assert len(left) == 200 - 64, "who releases a slot clears away only some"
    one.store.sweeper.sweep()
    assert not any(places(one, *gone))


def test_a_ticket_whose_record_is_corrupt_says_nothing_of_its_process(root: Path) -> None:
    one, killed = Actor(root), Actor(root)
    one.ask()
    as_a_dead_process(killed, ended_pid())
    corrupt, dead, waiting = killed.ask(), killed.ask(), Actor(root).ask()
    (root / one.store.directory.full(f"{QUEUE}/{corrupt.name}/info.json")).write_bytes(b"{")
    Actor(root, limit=3).ask()
    assert places(one, corrupt, dead, waiting) == [None, None, GRANTED]


def test_leases_of_a_process_are_judged_one_by_one_though_its_tickets_are_gone(root: Path) -> None:
    one, killed = Actor(root, limit=2), Actor(root, limit=2)
    as_a_dead_process(killed, ended_pid())
    kept = killed.ask()  # its liveness lock is held by a command that outlives it, as far as can be seen
    holder, ticket, waiting = one.ask(), killed.ask(), Actor(root, limit=2).ask()
    record = kept.record._replace(pid=os.getpid(), start=_process.start_of(os.getpid()))
    one.store.directory.unlink(f"{LEASES}/{kept.name}/info.json")
    killed.store.entries.rewrite(kept, record)
    one.store.release(holder)
    assert places(one, kept, ticket, waiting) == [LEASES, None, GRANTED]


def test_many_that_died_together_are_looked_at_outside_the_section(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Actor(root)
    holder = one.ask()
    for _ in range(100):
        killed = Actor(root)
        as_a_dead_process(killed, ended_pid() if _ < 1 else 2**22 + _)
        killed.ask()
    waiting = Actor(root).ask()
    inside: list[bool] = []
    presence = type(one.world).presence

    def looked(world: object, pid: int, start: int) -> object:
        inside.append(one.store.section._mutex.locked())  # type: ignore[attr-defined]
        return presence(world, pid, start)  # type: ignore[arg-type]

    monkeypatch.setattr(type(one.world), "presence", looked)
    one.store.release(holder)
    assert one.where(waiting) == GRANTED
    assert sum(inside) <= 2 * _peers.LOOKS_INSIDE + 2
    assert inside.count(False) >= 100 - _peers.LOOKS_INSIDE


@pytest.mark.parametrize("dead", [0, 10])
def test_more_that_run_than_are_looked_at_inside_are_granted_at_once(
    root: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit was raised, or the holder of many leases was killed."""
    one = Actor(root)
    one.ask()
    waiting = [Actor(root).ask() for _ in range(_peers.LOOKS_INSIDE)]
    for number in range(dead):
        killed = Actor(root)
        as_a_dead_process(killed, 2**22 + number)
        killed.ask()
    waiting += [Actor(root).ask() for _ in range(_peers.LOOKS_INSIDE)]
    reconcile = one.store.reconciler.reconcile
    passes: list[None] = []

    def counted() -> None:
        passes.append(None)
        assert len(passes) < 10, "it would go on for ever"
        reconcile()

    monkeypatch.setattr(one.store.reconciler, "reconcile", counted)
    one.store.policy.configured = 1000
    one.store.sweeper.sweep()
    assert {one.where(own_entry) for own_entry in waiting} == {GRANTED}
    assert not one.store.peers.seen_running


@pytest.mark.posix("stopped processes")
def test_a_stopped_process_is_passed_over_keeps_its_place_and_is_notified(root: Path) -> None:
    one, other = Actor(root), Actor(root)
    holder = one.ask()
    with helper("input()") as process:
        stopped = Actor(root)
        as_process(stopped, process.pid)
        tickets = [stopped.ask() for _ in range(3)]
        waiting = other.ask()
        os.kill(process.pid, signal.SIGSTOP)
        await_stop(process.pid)
        one.store.release(holder)
        assert places(one, *tickets, waiting) == [QUEUE, QUEUE, QUEUE, GRANTED]
        assert [name for name in one.notified if name in {own_entry.name for own_entry in tickets}]
        os.kill(process.pid, signal.SIGCONT)
        await_continue(process.pid)
        other.store.entries.acknowledge(waiting)
        other.store.release(waiting)
        assert places(one, *tickets) == [GRANTED, QUEUE, QUEUE]


@pytest.mark.posix("stopped processes")
def test_a_newcomer_passes_those_who_are_stopped(root: Path) -> None:
    one = Actor(root)
    holder = one.ask()
    with helper("input()") as process:
        stopped = Actor(root)
        as_process(stopped, process.pid)
        ticket = stopped.ask()
        os.kill(process.pid, signal.SIGSTOP)
        await_stop(process.pid)
        one.store.release(holder)
        newcomer = one.ask()
        assert places(one, ticket, newcomer) == [QUEUE, LEASES]


@pytest.mark.posix("stopped processes")
def test_a_grant_of_a_process_that_was_stopped_after_it_goes_back_once_that_is_seen(root: Path) -> None:
    one, other = Actor(root), Actor(root)
    holder = one.ask()
    with helper("input()") as process:
        stopped = Actor(root)
        as_process(stopped, process.pid)
        ticket, waiting = stopped.ask(), other.ask()
        one.store.release(holder)
        assert places(one, ticket, waiting) == [GRANTED, QUEUE]
        os.kill(process.pid, signal.SIGSTOP)
        await_stop(process.pid)
        other.store.sweeper.sweep()
        other.world.clock += _peers.SLOW
        other.store.sweeper.sweep()
        assert places(one, ticket, waiting) == [PARKED, GRANTED]


def test_hundreds_of_stopped_processes_keep_no_slot(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Actor(root)
    holder = one.ask()
    sleepers = [Actor(root) for _ in range(3 * _peers.LOOKS_INSIDE)]
    for sleeper in sleepers:
        sleeper.ask()
    waiting = Actor(root)
    own_entry = waiting.ask()
    processes = {sleeper.process for sleeper in sleepers}
    look = _peers.Peers.look

    def seen(peers: _peers.Peers, ticket: object, where: str = QUEUE) -> str:
        process = ticket.process  # type: ignore[attr-defined]
        if process in peers.seen_away or process in processes:
            return "away"
        return look(peers, ticket, where)  # type: ignore[arg-type]

    monkeypatch.setattr(_peers.Peers, "look", seen)
    one.store.release(holder)
    assert one.where(own_entry) == GRANTED


@pytest.mark.posix("OS locks")
@pytest.mark.parametrize("listens", [True, False])
def test_one_that_cannot_be_seen_lives_if_it_listens_and_else_its_lock_decides(root: Path, listens: bool) -> None:
    one, other = Actor(root), Actor(root)
    holder = one.ask()
    foreign = other.ask(change=lambda record: record._replace(pid_ns="pid:[1]"))
    other.store.entries.close(foreign)  # the lock is free
    waiting = other.ask()
    one.store.peers._listens = lambda process: listens
    one.store.release(holder)
    assert places(one, foreign, waiting) == ([GRANTED, QUEUE] if listens else [None, GRANTED])


def test_one_that_is_deaf_is_passed_over(root: Path) -> None:
    one, other = Actor(root), Actor(root)
    holder, deaf, waiting = one.ask(), other.ask(), Actor(root).ask()
    one.store.peers._is_deaf = lambda process: process == other.process
    one.store.release(holder)
    assert places(one, deaf, waiting) == [QUEUE, GRANTED]


# -- declared limits -------------------------------------------------------------------------------------------------


def test_a_limit_that_a_dead_process_declared_far_back_holds_no_longer_than_a_sweep(root: Path) -> None:
    one, killed = Actor(root, limit=10), Actor(root, limit=10)
    holders = [one.ask() for _ in range(10)]
    waiting = [Actor(root, limit=10).ask() for _ in range(30)]
    as_a_dead_process(killed, ended_pid())
    dead = killed.ask(limit=1)
    for holder in holders[1:]:
        one.store.release(holder)
    assert [one.where(own_entry) for own_entry in waiting].count(GRANTED) == 0
    one.store.sweeper.sweep()
    assert [one.where(own_entry) for own_entry in waiting].count(GRANTED) == 9
    assert one.where(dead) is None


def test_a_sweep_asks_no_more_of_those_who_declare_a_limit_than_it_takes_to_find_one_alive(root: Path) -> None:
    one = Actor(root, limit=10)
    one.ask()
    tickets = [Actor(root, limit=10).ask(limit=1) for _ in range(30)]
    one.store.sweeper.sweep()
    looked = presences(one)
    swept = one.store.sweeper.sweep()
    assert len(looked) <= 4  # the holder, the first two, and one that declares the limit
    assert swept.declarer is not None
    assert all(one.where(ticket) == QUEUE for ticket in tickets)


def test_one_who_grants_to_ever_more_processes_remembers_a_bounded_number(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_peers, "MOST_REMEMBERED", 8)
    monkeypatch.setattr(observer, "_MOST_RECORDS", 8)
    one = Actor(root)
    for _ in range(30):
        holder, waiting = one.ask(), Actor(root).ask()
        one.store.release(holder)
        assert one.where(waiting) == GRANTED
        one.store.entries.remove(GRANTED, waiting.name)
    assert len(one.store.peers._known) <= 8
    assert len(one.store.observer._records) <= 8


# -- grants that nobody takes up -------------------------------------------------------------------------------------


class Asked:
    """What stands for `marks.Marks`: who was asked, and who is marked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.marked: list[str] = []

    def ask(self, process: str) -> bool:
        self.asked.append(process)
        return True

    def mark(self, process: str) -> bool:
        self.marked.append(process)
        return True


def test_all_who_wait_are_asked_once_and_the_silent_marked_though_sweeps_come_late(root: Path) -> None:
    one, blocked, other = Actor(root), Actor(root), Actor(root)
    marks = Asked()
    other.store.sweeper._marks = marks  # type: ignore[assignment]
    holder, granted, waiting = one.ask(), blocked.ask(), Actor(root).ask()
    one.store.release(holder)
    other.store.sweeper.sweep()
    for late in (1.09, 0.92):  # from the look that first saw the grant: 1.09 and 2.01 s
        assert not marks.marked
        other.world.clock += late
        other.store.sweeper.sweep()
    assert sorted(marks.asked) == sorted({granted.entry.process, waiting.entry.process})
    assert set(marks.marked) == set(marks.asked)
    assert places(one, granted, waiting) == [PARKED, GRANTED]


def test_whoever_takes_over_the_sweeps_counts_a_grant_from_its_own_first_look(root: Path) -> None:
    one, blocked, heir = Actor(root), Actor(root), Actor(root)
    holder, granted, waiting = one.ask(), blocked.ask(), heir.ask()
    one.store.release(holder)
    for _ in range(4):  # another one sweeps
        heir.store.snapshots.see_grants()
        heir.world.clock += 0.5
    heir.store.sweeper.sweep()
    assert places(one, granted, waiting) == [PARKED, GRANTED]
