"""What killed processes leave half-made, and the spares of those that end without a word, are cleared away."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest
from crowds import many
from helper_process import helper
from holders import HOLD, configure, hold, ready
from referee import until
from staged_world import Actor, as_a_dead_process, where

from leasecap._config.pool_name import pool_name
from leasecap._decisions.places import GRANTED, LEASES, QUEUE, STAGING, TRASH
from leasecap._file_store.layout import NEW, OLDER, pool_path
from leasecap._file_store.open_root import OpenRoot
from leasecap._file_store.opening import open_pool
from leasecap._file_store.own_process import OwnProcess
from leasecap._host.directory import Directory
from leasecap._host.effects import Effects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from referee import Team, Worker

DUE = 90.0 * 50  # a second in which leftovers are looked for (`open_pools`)
HEX = "0123456789ab"

WORKERS = """
import os, sys
import leasecap
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        for _ in range(3):
            leasecap.acquire("p", limit=4).release()
        os._exit(0)
    os.waitpid(child, 0)
print("done", flush=True)
input()
"""


# Deletes no more than a few entries until it has its slot.
NEWCOMER = """
import threading
from leasecap._file_store.entries import Entries
delete, deleted, held = Entries.delete, [], threading.Event()
def delete_later(entries, name):
    deleted.append(name)
    if len(deleted) > 90:
        held.wait()
    delete(entries, name)
Entries.delete = delete_later
say("READY")
hear()
lease = leasecap.acquire("p")
say("HELD")
hear()
held.set()
hear()
"""


def tickets(team: Team) -> Worker:
    return many(team, 200, "holds")


def leases(team: Team) -> Worker:
    configure(team, limit=200)
    holder = team.start('held = [leasecap.acquire("p") for _ in range(200)]\nsay("READY")\nhear()')
    ready(holder)
    return holder


def leftovers(team: Team) -> Worker:
    """Somebody was killed while it deleted what another had left."""
    holder = team.start(HOLD, "holder")  # it doesn't wait, so it deletes nothing
    ready(holder)
    hold(holder)
    for number in range(200):
        Path(team.pool().path, TRASH, f"left.{number}").mkdir()
    return holder


@pytest.mark.parametrize("has", [tickets, leases, leftovers])
def test_no_grant_waits_until_what_the_dead_have_left_is_deleted(team: Team, has: Callable[[Team], Worker]) -> None:
    configure(team)
    killed = has(team)
    newcomer = team.start(NEWCOMER)
    ready(newcomer)
    killed.kill()
    hold(newcomer)
    trash = Path(team.pool().path, TRASH)
    assert len(os.listdir(trash)) > 100
    newcomer.tell()
    until(lambda: not os.listdir(trash), "it is deleted in the background, by a process that only holds")
    assert not team.pool().waiters


def test_forked_workers_that_end_without_a_word_leave_few_entries(root: Path) -> None:
    with helper(WORKERS, 300) as parent:
        assert parent.hear() == "done"
        left = os.listdir(Path(pool_path(str(root), pool_name("p")), STAGING))
    assert 0 < len(left) < 100


def dead_spares(actor: Actor, number: int) -> list[str]:
    with helper("") as other:
        other.process.wait()
        as_a_dead_process(actor, other.pid)
        own_entries = [actor.stage() for _ in range(number)]
    actor.world.identity = None
    for own_entry in own_entries:
        actor.store.entries.close(own_entry)
    return [own_entry.name for own_entry in own_entries]


def test_who_needs_a_new_entry_clears_a_few_where_there_are_many(root: Path) -> None:
    one = Actor(root)
    dead = dead_spares(one, 100)
    live = Actor(root)
    spares = [live.stage() for _ in range(20)]
    comer = Actor(root)
    own = [comer.stage() for _ in range(40)]
    left = set(os.listdir(comer.store.directory.full(STAGING)))
    assert len(left & set(dead)) < 60
    assert left >= {own_entry.name for own_entry in (*spares, *own)}


def test_where_all_live_nobody_goes_on_to_look(root: Path) -> None:
    live, comer = Actor(root), Actor(root)
    for _ in range(70):
        live.stage()
    probed: list[str] = []
    comer.world.before = lambda operation, *names: probed.append(operation) if operation == "presence" else None
    comer.stage()
    assert len(probed) == 8
    for _ in range(30):
        comer.stage()
    assert len(probed) == 8


def test_an_entry_that_is_just_being_made_is_left_alone(root: Path) -> None:
    one, comer = Actor(root), Actor(root)
    dead_spares(one, 100)
    making = comer.stage()
    os.unlink(one.store.directory.full(f"{STAGING}/{making.name}/info.json"))  # not written yet
    bare = f"{STAGING}/{making.name[:-1]}1"
    one.store.directory.make(bare)
    for _ in range(60):
        one.stage()
    assert where(one.store, making.name) == STAGING
    one.store.directory.rmdir(bare)


# -- in some seconds ---------------------------------------------------------------------------------------------------


@pytest.fixture
def sweeper(root: Path) -> Iterator[Actor]:
    actor = Actor(root, limit=2)
    actor.world.clock = DUE
    opened = OpenRoot(OwnProcess(actor.world), str(root), None)
    actor.store.sweeper._clear_up = partial(opened._clear_up, actor.store)
    yield actor


def old(path: Path, seconds: float = 300) -> Path:
    moment = time.time() - seconds
    os.utime(path, (moment, moment))
    return path


def aside(path: Path, seconds: float = 300) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("half made")
    return old(path, seconds)


def test_asides_of_those_that_were_killed_are_swept_and_young_ones_are_not(sweeper: Actor) -> None:
    pool = Path(sweeper.store.directory.path)
    held, queued, waits = sweeper.ask(), sweeper.ask(), sweeper.ask()
    entries = [pool / LEASES / held.name, pool / LEASES / queued.name, pool / QUEUE / waits.name]
    names = [*(entry / f"info.json.{HEX}" for entry in entries), entries[0] / f"by.{HEX}", pool / f"pool.json.{HEX}"]
    names += [pool / "feedback" / f"state.json.{HEX}", pool / "feedback" / f"00-00.{HEX}"]
    names.append(pool / "latency" / f"498803.json.{HEX}")
    gone = [aside(path) for path in names]
    kept = [aside(path.with_name(f"{path.name[:-1]}c"), 10) for path in names]
    kept += [aside(pool / "feedback" / "0000000000000001-0000000000000001"), aside(pool / "feedback" / "state.json")]
    kept += [old(entry / name) for entry in entries for name in ("info.json", "alive")]
    (pool / "feedback" / "state.json").unlink()  # no state that could be read
    kept.remove(pool / "feedback" / "state.json")
    for path in gone:
        assert path.exists()
    sweeper.store.sweeper.sweep()
    kept = [path for path in kept if path.name != "0000000000000001-0000000000000001" or path.exists()]
    assert [path for path in gone if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


def test_pools_half_made_are_swept_and_young_ones_are_not(sweeper: Actor) -> None:
    pools = Path(sweeper.store.directory.path).parent
    (pools / f"{NEW}old" / "queue").mkdir(parents=True)
    (pools / f"{NEW}young").mkdir()
    old(pools / f"{NEW}old")
    sweeper.store.sweeper.sweep()
    assert sorted(os.listdir(pools)) == [f"{NEW}young", Path(sweeper.store.directory.path).name]


@pytest.mark.parametrize("replaced", [True, False])
def test_an_earlier_pool_that_was_moved_aside_is_swept_once_it_is_replaced(sweeper: Actor, replaced: bool) -> None:
    pool = Path(sweeper.store.directory.path)
    name = pool.name if replaced else pool_name("another").directory
    aside_ = pool.parent / f"{OLDER}{name}-{'0' * 16}"
    (aside_ / "feedback").mkdir(parents=True)
    old(aside_)
    sweeper.store.sweeper.sweep()
    assert aside_.exists() != replaced
    assert len(os.listdir(pool.parent)) == 2 - replaced


def test_hidden_names_in_wake_are_swept_but_for_those_that_are_heard(root: Path, sweeper: Actor) -> None:
    wake = root / "wake"
    wake.mkdir()
    for name in (".dead", ".young", ".heard", "aaaaaaaaaaaa"):
        os.mkfifo(wake / name)
    for name in (".dead-place", ".heard-place"):
        (wake / name).mkdir()
        os.mkfifo(wake / name / ".wakeup")
    open_ends = [os.open(wake / path, os.O_RDWR) for path in (".heard", ".heard-place/.wakeup")]
    for name in os.listdir(wake):
        if name != ".young":
            old(wake / name)
    sweeper.store.sweeper.sweep()
    assert sorted(os.listdir(wake)) == [".heard", ".heard-place", ".young", "aaaaaaaaaaaa"]
    for fd in open_ends:
        os.close(fd)


def test_wakeups_of_which_nobody_can_tell_who_listens_are_swept_when_very_old(root: Path, sweeper: Actor) -> None:
    wake = root / "wake"
    for name in ("old", "very-old"):
        (wake / name).mkdir(parents=True)  # a plain file where there are no locks; here without it, which can't be told
        old(wake / name)
    os.utime(wake / "very-old", times=(1.0, 1.0))
    sweeper.store.sweeper.sweep()
    assert os.listdir(wake) == ["old"]


def test_in_most_seconds_nothing_is_looked_for(sweeper: Actor) -> None:
    left = aside(Path(sweeper.store.directory.path) / f"pool.json.{HEX}")
    sweeper.world.clock = DUE + 1
    sweeper.store.sweeper.sweep()
    assert left.exists()
    sweeper.world.clock = DUE + 90
    sweeper.store.sweeper.sweep()
    assert not left.exists()


def test_a_file_is_put_in_place_though_its_aside_was_swept_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its maker was stopped for longer than anybody takes to make one."""
    directory = Directory(str(tmp_path))
    real = Directory.write
    swept: list[str] = []

    def write(self: Directory, name: str, data: bytes) -> None:
        real(self, name, data)
        if len(swept) < 2:
            swept.append(name)
            self.unlink(name)

    monkeypatch.setattr(Directory, "write", write)
    directory.replace("file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert (len(swept), os.listdir(tmp_path)) == (2, ["file"])
    with pytest.raises(FileNotFoundError):
        directory.replace("nowhere/file", b"whole")
    directory.close()


@pytest.mark.parametrize("step", range(1, 12))
def test_a_pool_is_made_though_its_aside_was_swept_away(root: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    steps = 0
    real_make, real_write = Directory.make, Directory.write

    def sweep() -> None:
        nonlocal steps
        steps += 1
        if steps == step:
            for name in os.listdir(root / "pools"):
                (root / "pools" / name).rename(root / "swept")

    def make(self: Directory, name: str) -> None:
        sweep()
        real_make(self, name)

    def write(self: Directory, name: str, data: bytes) -> None:
        sweep()
        real_write(self, name, data)

    monkeypatch.setattr(Directory, "make", make)
    monkeypatch.setattr(Directory, "write", write)
    open_pool(Effects(), str(root), pool_name("p"), "auto").directory.close()
    assert (root / "swept").exists() == (steps >= step)
    opened = open_pool(Effects(), str(root), pool_name("p"), "auto")
    assert opened.directory.list(GRANTED) == []
    opened.directory.close()
