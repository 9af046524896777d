from __future__ import annotations

import errno
import gc
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helper_process import ended_pid, helper
from staged_world import Actor, nothing, wait_unacknowledged

from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING
from leasecap._liveness.record import encode_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._file_store.own_entry import OwnEntry


def dead(actor: Actor, **facts: object) -> OwnEntry:
    """An entry of a process that has ended."""
    own_entry = actor.ask(change=lambda record: record._replace(pid=ended_pid(), start=1), **facts)
    actor.store.entries.close(own_entry)
    return own_entry


def test_a_sweep_reaps_a_dead_holder_and_grants_its_slot(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    gone, waiting = dead(one), other.ask()
    assert one.where(waiting) == QUEUE
    other.store.sweeper.sweep()
    assert (one.where(gone), one.where(waiting)) == (None, GRANTED)


def test_a_sweep_reaps_a_killed_process(root: Path, kind: str) -> None:
    code = """
import sys
from pathlib import Path
from staged_world import Actor
own_entry = Actor(Path(sys.argv[1]), kind=sys.argv[2]).ask()
print(own_entry.name)
input()
"""
    one = Actor(root, kind=kind)
    with helper(code, root, kind) as holder:
        name = holder.hear()
        waiting = one.ask()
        one.store.sweeper.sweep()
        assert one.held() == {name}
        holder.become_a_zombie()
        one.store.sweeper.sweep()
        assert one.held() == {waiting.name}


def test_a_sweep_removes_what_the_dead_left_wherever_they_were(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first = one.ask()
    staged = one.stage(change=lambda record: record._replace(pid=ended_pid(), start=1))
    one.store.entries.close(staged)
    queued = dead(other)
    other.store.directory.make("trash/half-removed")
    other.store.directory.write("trash/a-file", b"")
    alive = other.stage()
    one.store.sweeper.sweep()
    assert [one.where(own_entry) for own_entry in (first, staged, queued, alive)] == [LEASES, None, None, STAGING]
    assert not os.listdir(one.store.directory.full("trash"))


@pytest.mark.parametrize("place", [GRANTED, PARKED])
def test_a_sweep_reaps_who_died_with_a_grant_unacknowledged(actors: tuple[Actor, Actor], place: str) -> None:
    one, other = actors
    first, waiting = one.ask(), other.ask()
    one.store.release(first)
    if place == PARKED:
        wait_unacknowledged(one)
        one.store.sweeper.sweep()
    assert one.where(waiting) == place
    record = waiting.record._replace(pid=ended_pid(), start=1)
    one.store.directory.replace(f"{place}/{waiting.name}/info.json", encode_record(record))
    one.store.sweeper.sweep()
    assert one.where(waiting) is None


def test_a_dead_ticket_is_never_granted_though_nobody_has_swept(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, gone, waiting = one.ask(), dead(other), other.ask()
    one.store.release(first)
    assert (one.where(gone), one.where(waiting)) == (None, GRANTED)


def test_a_dead_lease_that_can_not_be_removed_counts_and_fails_nobody(root: Path, kind: str) -> None:
    one = Actor(root, kind=kind, limit=2)
    gone, removable = dead(one), dead(one)
    waiting = one.ask()
    one.world.failing("rename", errno.EPERM, name=gone.name)
    one.store.sweeper.sweep()
    assert one.held() == {gone.name, waiting.name}
    assert one.where(removable) is None


def test_a_directory_in_trash_that_can_not_be_deleted_is_in_nobodys_way(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, waiting = one.ask(), other.ask()
    one.world.failing("unlink", errno.EPERM)
    assert one.store.release(first)
    assert one.where(first) == "trash"
    assert one.where(waiting) == GRANTED
    one.world.before = nothing
    one.store.sweeper.sweep()
    assert one.where(first) is None


def test_a_failing_hand_off_does_not_fail_the_release(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, waiting = one.ask(), other.ask()
    one.world.failing("list", errno.EIO)
    assert one.store.release(first)
    one.world.before = nothing
    other.store.sweeper.sweep()
    assert one.where(waiting) == GRANTED


def test_a_release_that_fails_leaves_the_lease_held_and_its_lock_with_it(
    actors: tuple[Actor, Actor], kind: str
) -> None:
    one, other = actors
    first = one.ask()
    one.world.failing("rename", errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        one.store.release(first)
    one.world.before = nothing
    other.store.sweeper.sweep()
    assert other.held() == {first.name}
    assert (first.fd is None) == (kind == "directory")
    assert one.store.release(first)


def test_a_ticket_that_can_not_be_moved_is_passed_over_and_keeps_its_place(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, stuck, second = one.ask(), other.ask(), other.ask()
    one.world.failing("rename", errno.EPERM, name=stuck.name)
    one.store.release(first)
    assert one.held() == {second.name}  # else a slot would be free and nobody get it
    third = one.ask()
    other.store.entries.acknowledge(second)
    one.world.before = nothing
    one.world.clock += ACKNOWLEDGE_WITHIN  # then it is tried again
    other.store.release(second)
    assert one.held() == {stuck.name}
    assert one.where(third) == QUEUE


def test_a_newcomer_passes_over_a_ticket_that_it_can_not_move(root: Path, kind: str) -> None:
    one, other = Actor(root, kind=kind, limit=2), Actor(root, kind=kind, limit=2)
    strict = other.ask(limit=1)
    stuck = other.ask()
    other.store.entries.drop(strict)
    one.world.failing("rename", errno.EPERM, name=stuck.name)
    newcomers = [one.ask() for _ in range(3)]
    assert {one.where(own_entry) for own_entry in newcomers[:2]} <= {LEASES, GRANTED}
    assert (one.where(newcomers[2]), one.where(stuck)) == (QUEUE, QUEUE)


def test_a_late_grant_that_can_not_be_taken_back_counts_and_hangs_nobody(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    first, stuck, waiting = one.ask(), other.ask(), one.ask()
    one.store.release(first)
    wait_unacknowledged(one)
    one.world.failing("rename", errno.EPERM, name=stuck.name)
    one.store.sweeper.sweep()
    assert one.held() == {stuck.name}
    assert one.where(waiting) == QUEUE


def test_sweeps_leave_a_new_stamp_that_the_others_see(actors: tuple[Actor, Actor]) -> None:
    one, other = actors
    stamps = [other.store.sweeper.stamp()]
    for _ in range(3):
        assert other.store.sweeper.stamp() == stamps[-1]
        one.store.sweeper.sweep()
        stamps.append(other.store.sweeper.stamp())
    assert len(set(stamps)) == 4
    assert all(len(stamp) == 16 for stamp in stamps)


def test_names_that_are_not_ours_count_as_held_until_a_person_removes_them(actors: tuple[Actor, Actor]) -> None:
    one, _ = actors
    one.store.directory.make(f"{LEASES}/lost+found")
    waiting = one.ask()
    one.store.sweeper.sweep()
    assert one.where(waiting) == QUEUE
    one.store.directory.rmdir(f"{LEASES}/lost+found")
    one.store.sweeper.sweep()
    assert one.where(waiting) == GRANTED


# -- faults while an entry is built ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EMFILE])
def test_whichever_step_fails_nothing_is_left_that_counts(root: Path, kind: str, fault: int) -> None:
    one, other = Actor(root, kind=kind), Actor(root, kind=kind)
    effects = {"make", "open", "write", "write_at_start", "lock", "rename", "replace"}
    steps = failures = 0

    def fail_at(step: int) -> Callable[..., object]:
        def hook(operation: str, *names: str) -> None:
            nonlocal steps
            if operation in effects:
                steps += 1
                if steps == step:
                    raise OSError(fault, os.strerror(fault))

        return hook

    for step in range(1, 30):
        steps = 0
        one.world.before = fail_at(step)
        own_entry = None
        try:
            own_entry = one.stage()
            if one.store.section.try_enter():
                try:
                    one.store.reconciler.place(own_entry, may_queue=True)
                finally:
                    one.store.reconciler.leave()
        except OSError:
            failures += 1
        one.world.before = nothing
        if own_entry is not None:
            one.store.entries.drop(own_entry)
        assert other.held() == set(), step
        assert not os.listdir(other.store.directory.full(QUEUE)), step
        assert not [name for name in os.listdir(other.store.directory.full(STAGING)) if "lock" not in name], step
        assert other.store.section.try_enter(), step
        assert other.store.section.leave()
        if steps < step:
            break
    assert failures >= 5
    assert steps < step


def test_a_file_descriptor_is_left_open_by_no_failure(root: Path, kind: str) -> None:
    one = Actor(root, kind=kind)
    gc.collect()  # what earlier tests left in cycles would be closed in between
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for operation in ("open", "lock", "write_at_start", "write"):
        one.world.failing(operation, errno.ENOSPC)
        try:
            own_entry = one.stage()
        except OSError:
            continue
        one.store.entries.drop(own_entry)
    assert len(os.listdir("/proc/self/fd")) <= before if before else True


def test_two_threads_that_mark_the_silent_get_in_each_others_way_no_more(root: Path) -> None:
    actor = Actor(root)
    sweeper: Any = actor.store.sweeper
    marked: list[str] = []

    def mark(process: str) -> None:
        marked.append(process)
        sweeper._asked.clear()  # by another thread, which has marked the others by then

    sweeper._marks = SimpleNamespace(mark=mark)
    sweeper._asked = dict.fromkeys("abc", 0.0)
    snapshot = SimpleNamespace(granted=SimpleNamespace(names=["a grant"]), granted_since={"a grant": 0.0})
    sweeper._ask_the_silent(SimpleNamespace(take_back=["a grant"]), snapshot, 100.0)
    assert marked == ["a"]
