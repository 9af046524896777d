from __future__ import annotations

import errno
import os
import signal
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from helper_process import Helper, ended_pid, helper
from staged_world import Actor, as_a_dead_process, nothing

from leasecap._errors import StoreError
from leasecap._file_store.lock_directory import LockDirectory
from leasecap._file_store.self_record import describe_self
from leasecap._liveness.record import encode_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.section import Section

# Enters ROUNDS times, says from when to when it was inside, and counts in a file, which goes wrong when two are inside.
WORKER = """
import os, sys, time
from pathlib import Path
from staged_world import Actor
root, kind, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
section, count = Actor(root, kind=kind).store.section, root / "count"
input()
for _ in range(rounds):
    while not section.try_enter():
        time.sleep(0.0002)
    began = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    number = int(count.read_text())
    time.sleep(0.0005)
    count.write_text(str(number + 1))
    ended = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert section.leave()
    print(began, ended)
"""

INSIDE = """
import sys
from pathlib import Path
from staged_world import Actor
section = Actor(Path(sys.argv[1]), kind=sys.argv[2]).store.section
while not section.try_enter():
    pass
print("inside")
input()
print(section.leave())
input()
"""


def enter_soon(section: Section) -> None:
    while not section.try_enter():
        time.sleep(0.0005)


def overlaps(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    intervals.sort()
    return [later for earlier, later in pairwise(intervals) if later[0] < earlier[1]]


# -- both kinds ------------------------------------------------------------------------------------------------------


def test_many_processes_are_never_inside_together(root: Path, kind: str) -> None:
    Actor(root, kind=kind)
    (root / "count").write_text("0")
    workers = [Helper(WORKER, root, kind, 20) for _ in range(4)]
    for worker in workers:
        worker.say()
    intervals: list[tuple[int, int]] = []
    for worker in workers:
        said, _ = worker.process.communicate()
        assert worker.process.returncode == 0
        intervals += [(int(began), int(ended)) for began, ended in map(str.split, said.splitlines())]
    assert len(intervals) == 80
    assert not overlaps(intervals)
    assert (root / "count").read_text() == "80"


def test_threads_of_one_process_are_never_inside_together(root: Path, kind: str) -> None:
    section = Actor(root, kind=kind).store.section
    inside = most = rounds = 0

    def work() -> None:
        nonlocal inside, most, rounds
        for _ in range(20):
            enter_soon(section)
            inside += 1
            most = max(most, inside)
            time.sleep(0.0002)
            rounds += 1
            inside -= 1
            assert section.leave()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, rounds) == (1, 80)


def test_whoever_is_inside_keeps_out_threads_and_processes_and_is_named(root: Path, kind: str) -> None:
    actor, other = Actor(root, kind=kind), Actor(root, kind=kind)
    assert actor.store.section.try_enter()
    assert not actor.store.section.try_enter()
    assert not other.store.section.try_enter()
    assert f"pid {os.getpid()}" in other.store.section.occupant().who
    assert actor.store.section.leave()
    assert other.store.section.try_enter()
    assert other.store.section.leave()


FORKED = """
import os, sys
from pathlib import Path
from staged_world import Actor
section = Actor(Path(sys.argv[1]), kind=sys.argv[2]).store.section
assert section.try_enter()
if not os.fork():
    section.forget()
    print("forgotten")
    input()
    os._exit(0)
os.wait()
print("alone")
input()
"""


def test_a_forked_child_does_not_give_back_its_parents_section(root: Path, kind: str) -> None:
    other = Actor(root, kind=kind).store.section
    with helper(FORKED, root, kind) as parent:
        assert parent.hear() == "forgotten"
        assert not other.try_enter()
        parent.say()
        assert parent.hear() == "alone"
        assert not other.try_enter()


@pytest.mark.posix("forks")
def test_a_forked_child_does_not_keep_its_dead_parents_section(root: Path, kind: str) -> None:
    other = Actor(root, kind=kind).store.section
    with helper(FORKED, root, kind) as parent:
        assert parent.hear() == "forgotten"
        parent.end()
        assert other.try_enter()
        assert other.leave()


def test_a_killed_holder_keeps_nobody_out(root: Path, kind: str) -> None:
    other = Actor(root, kind=kind).store.section
    with helper(INSIDE, root, kind) as holder:
        assert holder.hear() == "inside"
        assert not other.try_enter()
        holder.end()
        assert other.try_enter()
        assert other.leave()


@pytest.mark.posix("stopped processes")
def test_a_stopped_holder_is_not_robbed(root: Path, kind: str) -> None:
    other = Actor(root, kind=kind)
    with helper(INSIDE, root, kind) as holder:
        assert holder.hear() == "inside"
        holder.process.send_signal(signal.SIGSTOP)
        for _ in range(10):
            assert not other.store.section.try_enter()
            other.world.clock += 9
        assert other.store.section.occupant().who.startswith(f"pid {holder.pid}")
        holder.process.send_signal(signal.SIGCONT)
        holder.say()
        assert holder.hear() == "True"


def test_an_error_while_entering_leaves_the_section_free(root: Path, kind: str) -> None:
    actor = Actor(root, kind=kind)
    actor.world.failing({"os": "lock", "directory": "make"}[kind], errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        actor.store.section.try_enter()
    actor.world.before = nothing
    assert actor.store.section.try_enter()
    assert actor.store.section.leave()


# -- an OS lock ------------------------------------------------------------------------------------------------------


def test_a_full_disk_keeps_nobody_from_entering(root: Path) -> None:
    actor = Actor(root)
    actor.world.failing("write_at_start", errno.ENOSPC)
    assert actor.store.section.try_enter()
    assert actor.store.section.leave()


def test_a_lock_file_that_was_scribbled_on_names_nobody_and_still_locks(root: Path) -> None:
    actor = Actor(root)
    actor.store.directory.overwrite("lock", b"\xff" * 11)
    assert actor.store.section.occupant().who == "an unknown process"
    assert actor.store.section.try_enter()
    assert actor.store.section.leave()


@pytest.mark.posix("forks")
def test_a_section_forgotten_in_a_fork_can_not_be_entered(root: Path) -> None:
    section = Actor(root).store.section
    section.forget()
    with pytest.raises(OSError, match="fork"):
        section.try_enter()


@pytest.mark.posix("OS locks")
@pytest.mark.parametrize("plant", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/null", path)])
def test_something_else_in_place_of_the_lock_file_is_refused_with_its_path(root: Path, plant: object) -> None:
    lock = Path(Actor(root).store.directory.full("lock"))
    lock.unlink()
    plant(lock)  # type: ignore[operator]
    with pytest.raises(StoreError) as caught:
        Actor(root)
    assert caught.value.path == str(lock)
    assert caught.value.remedy


# -- a lock directory ------------------------------------------------------------------------------------------------


@pytest.fixture
def thief(root: Path) -> Actor:
    return Actor(root, kind="directory")


@pytest.fixture
def robbed(root: Path) -> Actor:
    """One that the others take for dead, and that goes on."""
    actor = Actor(root, kind="directory")
    as_a_dead_process(actor, ended_pid())
    return actor


def test_of_two_thieves_one_wins(root: Path, thief: Actor, robbed: Actor) -> None:
    # Both have looked at the record and found its holder dead; the second is about to move it away.
    assert robbed.store.section.try_enter()
    slower = Actor(root, kind="directory")
    won: list[bool] = []
    slower.world.once("rename", lambda: won.append(thief.store.section.try_enter()), name="stolen/")
    won.append(slower.store.section.try_enter())
    assert won == [True, False]
    assert thief.store.section.leave()
    assert slower.store.section.try_enter()


def test_a_slow_thief_never_robs_the_successor(root: Path, thief: Actor, robbed: Actor) -> None:
    assert robbed.store.section.try_enter()
    slower = Actor(root, kind="directory")

    def another_generation() -> None:
        assert thief.store.section.try_enter()
        assert thief.store.section.leave()
        assert thief.store.section.try_enter()

    slower.world.once("rename", another_generation, name="stolen/")
    assert not slower.store.section.try_enter()
    assert thief.store.section.leave()


def test_a_robbed_holder_is_told_when_it_leaves_and_frees_nobody_elses(thief: Actor, robbed: Actor) -> None:
    assert robbed.store.section.try_enter()
    assert thief.store.section.try_enter()
    assert not robbed.store.section.leave()
    assert not robbed.store.section.try_enter()
    assert thief.store.section.leave()


def test_the_first_to_enter_after_a_theft_vouches_for_what_is_held_and_nobody_after_it(root: Path) -> None:
    adopted: list[str] = []

    def section(name: str) -> LockDirectory:
        actor = Actor(root, kind="directory")
        return LockDirectory(
            actor.world, actor.store.directory, lambda: b"", lambda path: True, lambda token: adopted.append(name)
        )

    first, second, third = section("first"), section("second"), section("third")
    assert first.try_enter()
    assert adopted == []
    assert second.try_enter()  # who seems dead is robbed
    assert second.leave()
    assert third.try_enter()
    assert third.leave()
    assert adopted == ["second"]


def test_a_thief_that_dies_before_it_vouches_leaves_that_to_the_next(root: Path, thief: Actor, robbed: Actor) -> None:
    assert robbed.store.section.try_enter()
    vouched: list[str] = []
    thief.world.failing("rename", errno.EIO, name=".known")
    with pytest.raises(OSError, match="Input/output"):
        thief.store.section.try_enter()
    next_one = Actor(root, kind="directory")
    next_one.world.before = lambda operation, *names: vouched.extend(name for name in names if ".known" in name)
    assert next_one.store.section.try_enter()
    assert len(vouched) == 1


def test_an_empty_lock_directory_is_claimed(thief: Actor) -> None:
    thief.store.directory.make("lock.d")
    assert thief.store.section.try_enter()
    assert thief.store.section.leave()


@pytest.mark.parametrize("refusal", [errno.EEXIST, errno.ENOTEMPTY, errno.EACCES, errno.EPERM])
def test_an_empty_one_is_removed_where_the_file_system_refuses_to_rename_onto_it(thief: Actor, refusal: int) -> None:
    lock = Path(thief.store.directory.full("lock.d"))

    def refuse(operation: str, *names: str) -> None:
        if operation == "rename" and names[1] == "lock.d" and lock.exists():
            raise OSError(refusal, os.strerror(refusal))

    thief.world.before = refuse
    lock.mkdir()
    assert thief.store.section.try_enter()
    assert not thief.store.section.try_enter()
    assert thief.store.section.leave()


def test_a_claim_between_the_look_and_the_rename_loses(root: Path, thief: Actor) -> None:
    faster = Actor(root, kind="directory")
    thief.world.once("rename", lambda: faster.store.section.try_enter(), name="lock.d")
    assert not thief.store.section.try_enter()
    assert faster.store.section.leave()
    assert not os.listdir(thief.store.directory.full("staging"))  # the loser's claim is gone


def test_a_claim_onto_the_lock_directory_that_its_holder_is_about_to_remove_stands(root: Path, thief: Actor) -> None:
    leaving = Actor(root, kind="directory")
    assert leaving.store.section.try_enter()
    leaving.world.once("rmdir", lambda: thief.store.section.try_enter(), name="lock.d")
    assert leaving.store.section.leave()
    assert not leaving.store.section.try_enter()
    assert thief.store.section.leave()


def test_a_record_of_the_holder_that_can_not_be_read_is_robbed_when_it_has_stood_still_for_long(thief: Actor) -> None:
    thief.store.directory.make("lock.d")
    thief.store.directory.write("lock.d/0123456789abcdef", b"{")
    for _ in range(30):
        assert not thief.store.section.try_enter()
        thief.world.clock += 1
    assert thief.store.section.occupant().who == "an unknown process"
    assert thief.store.section.try_enter()
    assert thief.store.section.leave()


@pytest.mark.posix("links without a privilege, and FIFOs among files")
@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: os.symlink("/tmp", path), lambda path: path.touch()])
def test_something_else_in_place_of_the_lock_directory_is_an_error_and_never_entry(thief: Actor, plant: object) -> None:
    plant(Path(thief.store.directory.full("lock.d")))  # type: ignore[operator]
    for _ in range(2):
        with pytest.raises(OSError, match=r"Not a directory|symbolic"):
            thief.store.section.try_enter()


def test_what_a_claimant_left_when_it_was_killed_is_swept_and_what_a_living_one_builds_is_not(
    thief: Actor, robbed: Actor
) -> None:
    for actor, token in ((robbed, "0" * 16), (thief, "1" * 16)):
        actor.store.directory.make(f"staging/lock-{token}")
        record = describe_self(actor.world, actor.store.pool, actor.store.observer, label=None)
        actor.store.directory.write(f"staging/lock-{token}/{token}", encode_record(record))
    thief.store.sweeper.sweep()
    assert os.listdir(thief.store.directory.full("staging")) == ["lock-" + "1" * 16]
    assert not os.listdir(thief.store.directory.full("trash"))
