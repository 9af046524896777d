"""A pool with a part missing, as a tidy-up or `git clone` leaves it."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from commands import run, status, until
from helper_process import helper
from holders import HOLD, configure, give_back, hold, queue, ready
from staged_world import Actor, World

import leasecap
from leasecap._errors import StoreError
from leasecap._file_store import repair
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team, Worker

ALWAYS = ["queue", "parked", "staging", "trash", "stolen"]
NEVER_IN_USE = ["lock", "pool.json"]
DIRECTORIES = [*ALWAYS, "granted", "leases"]

CROWD = """
name = sys.argv[1]
log = Log()
say("READY")
hear()
lease = leasecap.acquire("p")
log.start(name)
time.sleep(0.01)
log.end(name)
lease.release()
say("RELEASED", bool(lease.lost))
"""

NEWCOMER = """
say("READY")
hear()
try:
    leasecap.acquire("p", timeout=0).release()
    say("GOT")
except leasecap.AcquireTimeout:
    say("FULL")
except leasecap.StoreError as error:
    say("REFUSED", str(error).replace("\\n", " "))
"""


def remove(pool: Path, *parts: str) -> None:
    for part in parts:
        path = pool / part
        if path.is_dir():
            path.rename(pool.parent.parent / "away")  # at once: those in it are at work
            shutil.rmtree(pool.parent.parent / "away")
        else:
            path.unlink(missing_ok=True)


@pytest.fixture
def pool(team: Team, lock: str) -> Path:
    """The directory of the pool "p" of one slot, which was used before."""
    configure(team, lock)
    user = team.start(HOLD, "user")
    ready(user)
    hold(user)
    give_back(user)
    user.tell()
    user.done()
    return Path(team.pool().path)


def newcomer(team: Team) -> str:
    worker = team.start(NEWCOMER)
    ready(worker)
    worker.tell()
    answer = worker.line()
    worker.done()
    return answer


def holder(team: Team, name: str = "holder") -> Worker:
    worker = team.start(HOLD, name)
    ready(worker)
    hold(worker)
    return worker


def end(worker: Worker) -> None:
    give_back(worker)
    worker.tell()
    worker.done()


PARTS = [["queue"], ["leases"], ["lock"], ["pool.json"], DIRECTORIES, [*DIRECTORIES, *NEVER_IN_USE]]


@pytest.mark.parametrize("part", [*DIRECTORIES, *NEVER_IN_USE, "sweep"])
def test_any_part_of_an_unused_pool_is_made_again(root: Path, kind: str, part: str) -> None:
    pool = Path(Actor(root, kind=kind).store.directory.path)
    remove(pool, part)
    newcomer = Actor(root, kind=kind)
    newcomer.store.sweeper.sweep()
    assert newcomer.ask().name in newcomer.held()
    assert (pool / part).exists() or (kind, part) == ("directory", "lock")


@pytest.mark.parametrize("part", ALWAYS)
def test_who_has_the_pool_open_makes_a_directory_again(root: Path, part: str) -> None:
    for _ in range(2):
        with leasecap.slot("p", limit=1) as lease:
            remove(Path(leasecap.status("p").pools[0].path), part)
        assert not lease.lost


@pytest.mark.parametrize("parts", PARTS, ids="+".join)
def test_many_newcomers_at_once_repair_an_unused_pool(team: Team, pool: Path, lock: str, parts: list[str]) -> None:
    remove(pool, *parts)
    crowd = [team.start(CROWD, f"w{number}") for number in range(4)]
    ready(*crowd)
    for worker in crowd:
        worker.tell()
    for worker in crowd:
        assert worker.expect("RELEASED") == "False"
        worker.done()
    assert team.referee.peak() == 1
    assert team.pool().lock == lock
    team.assert_idle()
    assert not [name for name in os.listdir(pool) if name.startswith("lock.")]


@pytest.mark.parametrize("part", ["queue", "staging", "trash"])
def test_holder_and_waiters_go_on_where_a_directory_was_removed(team: Team, pool: Path, part: str) -> None:
    first = holder(team)
    second, third = team.start(HOLD, "second"), team.start(HOLD, "third")
    ready(second, third)
    queue(team, second)
    remove(pool, part)
    assert newcomer(team) == "FULL"
    end(first)
    second.expect("HELD")  # with its ticket gone it has queued anew
    third.tell()
    team.until_waiting(1)
    end(second)
    third.expect("HELD")
    end(third)
    assert team.referee.peak() == 1
    team.assert_idle()


@pytest.mark.parametrize("part", [*NEVER_IN_USE, "granted"])
def test_what_could_break_the_cap_is_not_made_again_while_somebody_lives(
    team: Team, pool: Path, lock: str, part: str
) -> None:
    if part == "lock" and lock == "directory":
        pytest.skip("such a pool needs no file to lock")
    first = holder(team)
    remove(pool, part)
    answer = newcomer(team)
    assert answer.startswith("REFUSED") and str(pool) in answer and part in answer and f"pid {first.pid}" in answer
    assert "ends their leases" in answer
    assert not (pool / part).exists()
    end(first)
    assert newcomer(team) == "GOT"


@pytest.mark.parametrize("part", NEVER_IN_USE)
def test_who_waits_gets_its_turn_though_the_lock_was_removed(team: Team, pool: Path, part: str) -> None:
    first = holder(team)
    second = team.start(HOLD, "second")
    ready(second)
    queue(team, second)
    remove(pool, part)
    end(first)
    second.expect("HELD")
    end(second)
    assert newcomer(team) == "GOT"
    assert team.referee.peak() == 1


@pytest.mark.parametrize("parts", [["lock"], ["pool.json", "lock"], ["granted", "queue"]], ids="+".join)
def test_the_dead_keep_nobody_from_repairing(team: Team, pool: Path, parts: list[str]) -> None:
    first = holder(team)
    second = team.start(HOLD, "second")
    ready(second)
    queue(team, second)
    for worker in (second, first):
        worker.send(signal.SIGKILL)
        worker.wait()
    remove(pool, *parts)
    assert newcomer(team) == "GOT"


@pytest.mark.parametrize("part", ["staging", "trash"])
def test_a_release_finds_its_lease_where_the_place_to_move_it_to_is_missing(team: Team, pool: Path, part: str) -> None:
    first = holder(team)
    remove(pool, part)
    end(first)  # it says that the lease was not lost
    assert newcomer(team) == "GOT"
    team.assert_idle()


@pytest.mark.parametrize("text", ["", "<<<<<<< ours", "[]"])
def test_a_description_that_a_tool_has_broken_costs_no_block_its_result(root: Path, kind: str, text: str) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(f'[pools.p]\nlimit = 2\nlock = "{kind}"\n')
    first, second = leasecap.acquire("p"), leasecap.acquire("p")
    waiting = threading.Thread(target=lambda: leasecap.acquire("p", borrow=False).release(), daemon=True)
    waiting.start()
    until(lambda: bool(runtime.own.waiters))  # it has left the pool's lock, too: else it is who finds it broken
    path = Path(status().path or "") / "pool.json"
    whole, new = path.read_bytes(), root / "new"
    new.write_text(text)
    new.rename(path)
    first.release()
    with pytest.raises(leasecap.StoreError, match=r"is not a pool.s description"):
        leasecap.acquire("p", timeout=0, borrow=False)
    new.write_bytes(whole)
    new.rename(path)
    second.release()
    waiting.join(60)
    assert not waiting.is_alive()


def test_a_process_without_an_entry_notices_that_the_lock_is_another_one(team: Team, lock: str) -> None:
    if lock == "directory":
        pytest.skip("such a pool has no file to lock")
    configure(team, limit=2)
    idle = Actor(team.root, limit=2)
    pool = Path(idle.store.directory.path)
    remove(pool, "lock")
    other = Actor(team.root, limit=2)  # nobody lives in it
    assert other.store.section.try_enter()
    assert not idle.store.section.try_enter()
    other.store.section.leave()
    assert idle.store.section.try_enter()
    assert not other.store.section.try_enter()


def test_nobody_enters_by_a_removed_lock_while_it_is_being_made_again(team: Team, lock: str) -> None:
    if lock == "directory":
        pytest.skip("such a pool has no file to lock")
    idle = Actor(team.root)
    pool = Path(idle.store.directory.path)
    remove(pool, "lock")
    assert idle.store.section.try_enter()  # who has it open shares it with all who have
    idle.store.section.leave()
    world, refused = World(), []

    def enter(operation: str, *names: str) -> None:
        if (operation, *names) == ("write", "lock"):
            with pytest.raises(StoreError, match="repaired"):
                idle.store.section.try_enter()
            refused.append(names)

    world.before = enter
    assert repair.repair(world, str(team.root), idle.store.pool.name, "auto")
    assert refused
    assert idle.store.section.try_enter()


@pytest.mark.parametrize("part", ["queue", "lock", "leases"])
def test_status_and_doctor_say_what_is_missing(root: Path, part: str) -> None:
    with leasecap.slot("p", limit=1):
        pass
    remove(Path(leasecap.status("p").pools[0].path), part)
    error = leasecap.status("p").pools[0].error
    assert error is not None and part in error and "next call" in error
    checked = run("doctor")
    assert checked.returncode == 1 and f"lacks {part}" in checked.stdout


def test_doctor_opens_the_lock_as_run_does(root: Path) -> None:
    with leasecap.slot("p", limit=1):
        pass
    lock = Path(leasecap.status("p").pools[0].path) / "lock"
    lock.unlink()
    os.mkfifo(lock)
    with helper("import leasecap; leasecap.try_acquire('p', limit=1)") as other:
        other.process.wait()
    assert other.process.returncode == 1
    checked = run("doctor")
    assert checked.returncode == 1 and str(lock) in checked.stdout
