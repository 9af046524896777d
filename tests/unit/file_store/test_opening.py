from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from helper_process import Helper
from planted import PLANTED
from staged_world import Actor, World

from leasecap._config.pool_name import pool_name
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING, STOLEN, TRASH
from leasecap._errors import StoreError
from leasecap._file_store.layout import FORMAT, pool_path
from leasecap._file_store.opening import open_existing, open_pool
from leasecap._host.directory import Directory
from leasecap._host.file_lock import NO_OS_LOCKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NAME = pool_name("p")


@pytest.fixture
def pool(root: Path) -> Path:
    """The directory of a pool that was made before."""
    return Path(Actor(root).store.directory.path)


def refused(root: Path, path: Path) -> StoreError:
    with pytest.raises(StoreError) as caught:
        Actor(root)
    assert caught.value.path == str(path)
    assert caught.value.remedy
    return caught.value


# -- made whole or not at all ----------------------------------------------------------------------------------------


def test_many_creators_at_once_make_one_pool(root: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from staged_world import Actor
input()
actor = Actor(Path(sys.argv[1]), kind="auto", limit=1000)
own_entry = actor.ask()
print(os.stat(actor.store.directory.path).st_ino, own_entry.name, actor.where(own_entry))
input()
"""
    creators = [Helper(code, root) for _ in range(8)]
    try:
        for creator in creators:
            creator.say()
        said = [creator.hear().split() for creator in creators]
    finally:
        for creator in creators:
            creator.end()
            creator.process.communicate()
    assert {where for _, _, where in said} == {LEASES}
    assert len({inode for inode, _, _ in said}) == 1
    assert Actor(root).held() == {name for _, name, _ in said}
    assert len(os.listdir(root / "pools")) == 1


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_pool_is_its_owners_alone_whatever_the_umask(root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Actor(root).ask()
    finally:
        os.umask(before)
    for path in [root, *root.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_whichever_step_fails_no_half_made_pool_is_left(root: Path, fault: int) -> None:
    steps = 0
    for step in range(1, 30):
        world, steps = World(), 0

        def fail_at(operation: str, *names: str, step: int = step) -> None:
            nonlocal steps
            if operation in {"make", "write", "open", "lock"}:
                steps += 1
                if steps == step:
                    raise OSError(fault, os.strerror(fault))

        world.before = fail_at
        try:
            open_pool(world, str(root), NAME, "auto").directory.close()
        except StoreError as error:
            assert error.path == pool_path(str(root), NAME), step
            assert error.remedy
            assert os.listdir(root / "pools") == [], step
        if steps < step:
            break
    assert steps >= 9
    assert os.listdir(root / "pools") == [NAME.directory]


def test_opening_an_existing_pool_makes_nothing(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_existing(World(), str(root), NAME)
    assert not root.exists()


def test_pools_with_other_names_are_other_pools_and_no_name_leaves_the_root(root: Path) -> None:
    names = ["p", "q", "../../p", "/etc", "a/b", "A" * 200, "\N{SNOWMAN}", "...", "-p", "p\\q"]
    for name in names:
        open_pool(World(), str(root), pool_name(name), "auto").directory.close()
    assert len(os.listdir(root / "pools")) == len(names)
    assert os.listdir(root) == ["pools"]


# -- the kind of lock ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", sorted(NO_OS_LOCKS))
def test_a_file_system_without_locks_gets_a_lock_directory(root: Path, error: int) -> None:
    world = World()
    world.failing("lock", error)
    actor = Actor(root, kind="auto", world=world)
    assert actor.store.pool.kind == "directory"
    own_entry = actor.ask()
    assert actor.where(own_entry) == LEASES
    assert Actor(root, kind="auto").store.pool.kind == "directory"  # whatever others can: one kind for all


@pytest.mark.parametrize("error", sorted(NO_OS_LOCKS))
def test_a_file_system_without_locks_is_refused_where_a_person_wants_them(root: Path, error: int) -> None:
    world = World()
    world.failing("lock", error)
    with pytest.raises(StoreError, match=r'no OS locks .*lock = "os"') as caught:
        Actor(root, kind="os", world=world)
    assert 'lock = "directory"' in caught.value.remedy
    assert os.listdir(root / "pools") == []


def test_another_error_is_not_taken_for_a_file_system_without_locks(root: Path) -> None:
    world = World()
    world.failing("lock", errno.EIO)
    with pytest.raises(StoreError, match="input/output error"):
        Actor(root, kind="auto", world=world)


@pytest.mark.posix("OS locks")
def test_who_can_not_use_the_pools_kind_of_lock_is_refused_and_never_let_in(root: Path) -> None:
    Actor(root, kind="os")
    world = World()
    world.failing("lock", errno.ENOLCK)
    actor = Actor(root, kind="directory", world=world)  # what it would choose by itself
    assert actor.store.pool.kind == "os"
    with pytest.raises(OSError, match="locks"):
        actor.store.section.try_enter()
    with pytest.raises(OSError, match="locks"):
        actor.stage()
    assert os.listdir(actor.store.directory.full(STAGING)) == []


@pytest.mark.posix("OS locks")
def test_a_person_can_have_a_lock_directory_anywhere(root: Path) -> None:
    assert Actor(root, kind="directory").store.pool.kind == "directory"
    assert Actor(root, kind="auto").store.pool.kind == "directory"
    assert Actor(root, kind="auto", name="another").store.pool.kind == "os"


# -- what stands in the way ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", [name for name in PLANTED if name != "a dangling symlink"])
def test_what_is_planted_in_place_of_the_description_is_refused(root: Path, pool: Path, plant: str) -> None:
    (pool / "pool.json").unlink()
    PLANTED[plant](pool / "pool.json")
    refused(root, pool / "pool.json")


@pytest.mark.posix("links without a privilege, and FIFOs among files")
@pytest.mark.parametrize("part", [QUEUE, PARKED, GRANTED, LEASES, STAGING, TRASH, STOLEN])
@pytest.mark.parametrize("plant", ["a symlink", "a FIFO", "a symlink to a directory"])
def test_what_is_planted_in_place_of_a_directory_of_the_pool_is_refused(
    root: Path, pool: Path, part: str, plant: str
) -> None:
    (pool / part).rmdir()
    if plant == "a symlink to a directory":
        (pool / part).symlink_to("/tmp")
    else:
        PLANTED[plant](pool / part)
    refused(root, pool / part)


@pytest.mark.parametrize("plant", [name for name in PLANTED if name != "a directory"])
def test_what_is_planted_in_place_of_the_pool_is_refused(root: Path, pool: Path, plant: str) -> None:
    pool.rename(root / "moved")
    PLANTED[plant](pool)
    refused(root, pool)
    assert not list(root.glob("pools/.new-*"))


@pytest.mark.parametrize("what", ["the pool", "the directory of all pools"])
def test_a_symlink_to_another_pool_is_refused(root: Path, pool: Path, what: str) -> None:
    path = pool if what == "the pool" else pool.parent
    path.rename(root / "moved")
    path.symlink_to(root / "moved")
    refused(root, path)


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
@pytest.mark.parametrize("file", ["alive", "info.json", "by"])
def test_what_is_planted_in_an_entry_counts_as_held_and_fails_nobody(
    root: Path, pool: Path, plant: Callable[[Path], object], file: str
) -> None:
    holder, other = Actor(root), Actor(root)
    own_entry = holder.ask()
    path, aside = pool / LEASES / own_entry.name / file, root.parent / "aside"
    path.unlink(missing_ok=True)
    aside.mkdir()
    plant(aside / "it")
    (aside / "it").rename(path)
    waiting = other.ask()
    other.store.sweeper.sweep()
    assert other.held() == {own_entry.name}
    target = root.parent / "target"
    assert not target.exists() or target.read_bytes() == b"precious"
    assert holder.store.release(own_entry)
    assert other.held() == {waiting.name}


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_what_is_planted_in_place_of_the_stamp_fails_nobody(
    root: Path, pool: Path, plant: Callable[[Path], object]
) -> None:
    (pool / "sweep").unlink()
    plant(pool / "sweep")
    one = Actor(root)
    one.store.sweeper.sweep()
    assert one.store.sweeper.stamp() == b""
    target = root / "pools" / "target"
    assert not target.exists() or target.read_bytes() == b"precious"


DESCRIPTION = {"format": FORMAT, "name": "p", "identity": "p", "lock": "os"}
WRONG: dict[str, bytes] = {
    "empty": b"",
    "truncated": b'{"format": 1, "na',
    "no text": b"\xff\xfe",
    "a list": b"[]",
    "without a lock": json.dumps({"format": FORMAT, "identity": "p"}).encode(),
    "nested without end": b"[" * 4000,
    "from a newer version": json.dumps({**DESCRIPTION, "format": FORMAT + 1}).encode(),
    "almost of this version": json.dumps({**DESCRIPTION, "format": True}).encode(),
    "of another pool": json.dumps({**DESCRIPTION, "identity": "q"}).encode(),
    "with another lock": json.dumps({**DESCRIPTION, "lock": "none"}).encode(),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_a_description_that_is_not_this_pools_is_refused(root: Path, pool: Path, data: bytes) -> None:
    (pool / "pool.json").write_bytes(data)
    error = refused(root, pool / "pool.json")
    assert str(pool) in error.remedy
    assert (pool / "pool.json").read_bytes() == data


def test_a_newer_format_is_refused_with_what_to_do(root: Path, pool: Path) -> None:
    (pool / "pool.json").write_text(json.dumps({**DESCRIPTION, "format": FORMAT + 1}))
    error = refused(root, pool / "pool.json")
    assert f"format {FORMAT + 1}" in error.message
    assert "another version" in error.remedy


# -- why leases don't carry their state in their names ---------------------------------------------------------------

RENAMER = """
import os, sys
os.chdir(sys.argv[1])
victim, number, old = sys.argv[2], 0, sys.argv[2]
print("renaming")
while True:
    number += 1
    new = f"{victim}-{number:x}"  # a new one each time: where it stands in a listing changes
    os.rename(old, new)
    old = new
"""
TRIES = 400


def test_a_listing_can_miss_an_entry_that_is_renamed_within_its_directory(tmp_path: Path) -> None:
    # The fact that the layout stands on. A file system that lists all at once doesn't show it.
    for one in range(1000):
        (tmp_path / f"500-{one:016x}-{one * 7919:016x}-0123456789ab-0").mkdir()
    victim = sorted(os.listdir(tmp_path))[500]
    renamer = Helper(RENAMER, tmp_path, victim)
    try:
        renamer.hear()
        if all(any(name.startswith(victim) for name in os.listdir(tmp_path)) for _ in range(TRIES)):
            pytest.skip(f"{TRIES} listings of 1000 entries all showed an entry that was being renamed")
    finally:
        renamer.end()
        renamer.process.communicate()


def test_listings_in_the_order_in_which_entries_move_on_miss_none(root: Path) -> None:
    # From granted/ to leases/ and away, and never back: each mover does it once, while the pool is looked at.
    actor = Actor(root, limit=1000)
    directory = Directory(actor.store.directory.path)
    for one in range(400):
        directory.make(f"{LEASES}/500-{one:016x}-{one:016x}-0123456789ab-0")
    own_entries = [f"500-{one:016x}-{one:016x}-0123456789ab-0" for one in range(1000, 1100)]
    for name in own_entries:
        directory.make(f"{GRANTED}/{name}")
    code = """
import os, sys
os.chdir(sys.argv[1])
print("moving")
for name in sorted(os.listdir("granted")):
    os.rename(f"granted/{name}", f"leases/{name}")
"""
    mover = Helper(code, directory.path)
    try:
        mover.hear()
        while mover.process.poll() is None:
            snapshot = actor.store.snapshots.take()
            seen = {entry.name for entry in (*snapshot.granted, *snapshot.leases)}
            assert seen.issuperset(own_entries)
    finally:
        mover.end()
        mover.process.communicate()
    assert len(directory.list(LEASES)) == 500
