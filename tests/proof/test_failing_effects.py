"""EIO and ESTALE on any effect of a process: each call succeeds or says so, and nothing is leaked, nothing exceeded."""

from __future__ import annotations

import errno
import itertools
import math
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_machines import Call, Process, request
from fake_world import HELD, World
from staged_world import Actor
from staged_world import World as Staged

from leasecap._errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Disk:
    """Fails from the first to the last of these effects, as counted by one process.

    :param only: the operation that counts and fails, or "" for all of them.
    """

    def __init__(self, first: int, last: float, error: int, only: str = "") -> None:
        self.effects = 0
        self._first, self._last, self._error, self._only = first, last, error, only
        self._thread = threading.get_ident()

    def __call__(self, operation: str) -> None:
        if self._only not in ("", operation):
            return
        # What a background thread tries again comes at any time, and must not move the numbers of the others.
        self.effects += threading.get_ident() == self._thread
        if self._first <= self.effects <= self._last:
            raise OSError(self._error, os.strerror(self._error), operation)

    def heal(self) -> int:
        """Returns how many effects there were until now."""
        self._last = 0
        return self.effects


def life(world: World, disk: Disk, late: bool) -> tuple[Process, Process]:
    """The victim meets a dead holder, hands on, gives up, is granted, releases, and uses what it kept of that.

    Another one lives a good life beside it.
    """
    world.certain = False  # what an acquire that failed could not remove may be granted
    dead, other, victim = (Process(world, world.kernels[0]) for _ in range(3))
    world.processes += [dead, other, victim]
    dead.ask(request())
    dead.kill()
    if late:
        victim.late = disk
    else:
        victim.failing = disk
    first = attempt(victim)
    pass_time(world, 2, 0.1)
    waits = other.ask(request())
    release(first)
    pass_time(world, 2, 0.1)
    attempt(victim, 0.15)
    pass_time(world, 2, 0.1)
    last = attempt(victim)
    release(waits)
    pass_time(world, 2, 0.1)
    release(last)
    release(attempt(victim))
    return other, victim


def attempt(process: Process, timeout: float | None = None) -> Call | None:
    try:
        return process.ask(request(timeout))
    except StoreError as error:
        assert error.path and error.remedy
        return None


def release(call: Call | None) -> None:
    """Never raises, whatever the disk says."""
    if call is not None and call.lease is not None and not call.over:
        call.release()


def pass_time(world: World, steps: int, seconds: float) -> None:
    for _ in range(steps):
        try:
            world.pass_time(seconds)
        except StoreError as error:
            assert error.path and error.remedy  # a waiter is told as well


@pytest.fixture
def place() -> Iterator[Path]:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="failing-", dir=memory))
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = time.sleep
    monkeypatch.setattr("leasecap._log.sink", lambda message: None)
    monkeypatch.setattr(
        "leasecap._file_store.lock_directory.time", SimpleNamespace(sleep=lambda seconds: sleep(seconds / 100))
    )


def fail_each_in_turn(place: Path, kind: str, how: str, errors: tuple[int, ...], only: str = "") -> int:
    """Play the life once for each of the victim's effects; returns how many that are."""
    for number in itertools.count(1):
        root = place / str(number)
        root.mkdir(mode=0o700)
        world = World(root, kind=kind)
        world.set_limit(1)
        last = math.inf if how == "from then on" else number
        disk = Disk(number, last, errors[number % len(errors)], only)
        try:
            other, victim = life(world, disk, how == "though it was done")
            effects = disk.heal()
            # It lives on, and so can nobody take it for dead: what it left has to be cleared away by itself.
            end_well(world, other, victim)
        except BaseException as error:
            error.add_note(f"effect {number} of the victim failed, {how}")
            raise
        finally:
            for process in world.processes:
                if not process.dead:
                    process.kill()
            shutil.rmtree(root)
        if effects < number:
            return effects
    raise AssertionError


@pytest.mark.timeout(300)  # 5 s of processor time, of which a busy machine may give it little
@pytest.mark.parametrize("how", ["once", "from then on", "though it was done"])
def test_whichever_effect_fails_nothing_is_leaked_and_nothing_exceeded(place: Path, kind: str, how: str) -> None:
    # In turns: nothing in leasecap tells the two apart.
    effects = fail_each_in_turn(place, kind, how, (errno.EIO, errno.ESTALE))
    assert effects >= (16 if how == "though it was done" else 180)


@pytest.mark.parametrize("how", ["once", "from then on"])
def test_whichever_lock_is_not_to_be_had_nothing_is_leaked_and_nothing_exceeded(place: Path, how: str) -> None:
    for error in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
        assert fail_each_in_turn(place, "os", how, (error,), "lock") >= 5


def test_a_pool_whose_locks_are_gone_says_so_and_what_to_do(place: Path) -> None:
    Actor(place, kind="os")
    world = World(place, kind="os")
    world.set_limit(1)
    process = Process(world, world.kernels[0])
    process.failing = Disk(1, math.inf, errno.ENOLCK, "lock")
    with pytest.raises(StoreError, match="no locks available") as caught:
        process.ask(request())
    assert "OS locks" in caught.value.remedy and 'lock = "directory"' in caught.value.remedy
    process.kill()


def end_well(world: World, other: Process, victim: Process) -> None:
    for thread in threading.enumerate():
        if thread.name == "leasecap-give-back":
            thread.join(20)
    pass_time(world, 2, 6.0)  # a heartbeat: what could not be removed is tried again
    for _ in range(8):  # each call of the two may still wait, one behind the other
        for call in (*other.calls, *victim.calls):
            release(call)
        pass_time(world, 3, 1.0)
        if all(call.over for call in (*other.calls, *victim.calls)):
            break
    for process in (other, victim):
        call = process.ask(request())
        world.pass_time(3.0)
        waiting = [call.name for call in world.calls() if call.waits and not call.process.dead]
        assert not waiting and call.lease is not None, "a slot is leaked, or the pool is locked"
        call.release()
    assert not world.listing("queue", "parked", *HELD)


def test_a_pools_lock_that_can_not_be_unlocked_is_given_back_all_the_same(place: Path) -> None:
    class Stale(Staged):
        def unlock(self, fd: int) -> None:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    one, other = Actor(place, world=Stale()), Actor(place)
    one.ask()
    assert other.store.section.try_enter()
    other.store.section.leave()
    assert one.store.section.try_enter()  # and it can be entered again
