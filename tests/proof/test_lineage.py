"""Mistakes that lock files and limiters have shipped, replayed step by step; docs/proof.md has the whole list."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from helper_process import ended_pid
from staged_world import Actor, World, as_a_dead_process

from leasecap._decisions.places import LEASES, STAGING
from leasecap._errors import StoreError
from leasecap._file_store.heartbeats import Heartbeats

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.own_entry import OwnEntry


@pytest.mark.parametrize("file", ["lock", "sweep", "pool.json"])
def test_a_symlink_planted_after_the_look_and_before_the_open_is_not_followed(
    root: Path, tmp_path: Path, file: str
) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    pool = Path(Actor(root).store.directory.path)

    def plant() -> None:
        (pool / file).unlink()
        (pool / file).symlink_to(target)

    world = World()
    world.once("read" if file == "pool.json" else "open" if file == "lock" else "overwrite", plant, name=file)
    if file == "sweep":
        Actor(root, world=world).store.sweeper.sweep()  # it only tells others not to
    else:
        with pytest.raises(StoreError, match="symbolic link"):
            Actor(root, world=world)
    assert target.read_text() == "precious"
    assert (pool / file).is_symlink()


def test_a_directory_swapped_for_a_symlink_after_the_look_gets_nothing(root: Path, tmp_path: Path) -> None:
    actor = Actor(root)
    pool, moved, elsewhere = Path(actor.store.directory.path), tmp_path / "moved", tmp_path / "elsewhere"
    elsewhere.mkdir()

    def swap() -> None:
        pool.rename(moved)
        pool.symlink_to(elsewhere)

    actor.world.once("make", swap, name=STAGING)
    own_entry = actor.ask()
    assert list(elsewhere.iterdir()) == []
    assert (moved / LEASES / own_entry.name / "info.json").exists()
    with pytest.raises(StoreError):
        Actor(root)


def test_who_comes_too_late_for_the_lock_leaves_its_file_as_it_is(root: Path) -> None:
    holder, loser = Actor(root), Actor(root)
    assert holder.store.section.try_enter()
    lock = Path(holder.store.directory.full("lock"))
    before = (lock.read_bytes(), lock.stat().st_mtime_ns, lock.stat().st_size)
    assert not loser.store.section.try_enter()
    Actor(root)
    assert (lock.read_bytes(), lock.stat().st_mtime_ns, lock.stat().st_size) == before
    assert loser.store.section.occupant().who == f"pid {os.getpid()}"


def of_another_kernel(actor: Actor) -> OwnEntry:
    """A lease for which nothing speaks but its heartbeat."""
    return actor.ask(change=lambda record: record._replace(boot="another", machine="another"))


def looked_at(observer: Actor, own_entry: OwnEntry, seconds: int) -> bool:
    """Whether it is alive, seen once a second."""
    alive = True
    for _ in range(seconds):
        observer.world.clock += 1
        alive = observer.store.observer.judge(LEASES, own_entry.name).alive
    return alive


def test_heartbeats_with_equal_times_are_heartbeats_and_a_new_time_alone_is_none(root: Path) -> None:
    observer, holder = Actor(root, kind="directory", limit=2), Actor(root, kind="directory", limit=2)
    beats, silent = of_another_kernel(holder), of_another_kernel(holder)
    for moment in range(6):
        assert holder.store.beat(beats)
        os.utime(holder.store.directory.full(f"{LEASES}/{beats.name}/alive"), (1, 1))
        os.utime(holder.store.directory.full(f"{LEASES}/{silent.name}/alive"), (moment, moment))
        for _ in range(9):
            assert looked_at(observer, beats, 1)
            observer.world.clock -= 1
            looked_at(observer, silent, 1)
    assert not looked_at(observer, silent, 1)
    assert looked_at(observer, beats, 1)


def test_a_thief_that_is_slow_neither_hits_the_successor_nor_stumbles_over_what_was_moved_aside(
    root: Path, kind: str
) -> None:
    dead, quick, slow = (Actor(root, kind=kind) for _ in range(3))
    as_a_dead_process(dead, ended_pid())
    left = dead.ask()
    dead.store.entries.close(left)
    successors: list[OwnEntry] = []

    def be_quick() -> None:
        quick.store.sweeper.sweep()
        successors.append(quick.ask())

    slow.world.once("rename", be_quick, name=f"trash/{left.name}")
    slow.store.sweeper.sweep()
    assert slow.held() == {successors[0].name}
    assert slow.where(left) is None


def test_all_who_ever_opened_the_lock_contend_for_one_file(root: Path) -> None:
    early = Actor(root)
    lock = Path(early.store.directory.full("lock"))
    inode = lock.stat().st_ino
    for _ in range(3):
        between = Actor(root)
        assert between.store.section.try_enter()
        assert not early.store.section.try_enter()
        assert between.store.section.leave()
        late = Actor(root)
        assert early.store.section.try_enter()
        assert not late.store.section.try_enter()
        assert early.store.section.leave()
    assert lock.stat().st_ino == inode


def test_a_heartbeat_that_comes_after_the_release_makes_nothing_anew(root: Path) -> None:
    one = Actor(root, kind="directory")
    own_entry = one.ask()
    one.world.once(
        "overwrite", lambda: one.store.release(own_entry), name=own_entry.name
    )  # it has seen the entry stand there
    assert not one.store.beat(own_entry)
    assert (one.where(own_entry), one.held()) == (None, set())


def test_a_release_waits_for_the_heartbeat_that_is_under_way(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It writes through a descriptor, whose number is another file's once it is closed.
    one = Actor(root, heartbeat=0.01)
    own_entry = one.ask()
    under_way, go_on = threading.Event(), threading.Event()

    def slow_beat(own_entry: OwnEntry) -> bool:
        under_way.set()
        assert go_on.wait(60)
        assert own_entry.fd is not None
        return True

    monkeypatch.setattr(one.store, "beat", slow_beat)
    heartbeats = Heartbeats()
    heartbeats.add(one.store, own_entry)
    assert under_way.wait(60)

    def release() -> None:
        heartbeats.remove(own_entry)
        one.store.release(own_entry)

    releasing = threading.Thread(target=release)
    releasing.start()
    releasing.join(0.05)
    assert one.where(own_entry) == LEASES
    go_on.set()
    releasing.join(60)
    assert one.where(own_entry) is None
