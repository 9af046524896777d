"""EIO and ESTALE on any effect of a process: each call succeeds or says so, and nothing is leaked, nothing exceeded."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from fake_machines import HELD, Call, Process, World

from leasecap._errors import StoreError
from leasecap._request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def request(timeout: float | None = None) -> Request:
    return Request(timeout, None, 0, None, True, None, ("a command",))


class Disk:
    """What ``victim`` sees of it fails, from the effect of the given number on.

    :ivar effects: how many there were.
    """

    def __init__(self, first: int, last: int, error: int) -> None:
        self.effects = 0
        self._first, self._last, self._error = first, last, error

    def __call__(self, operation: str) -> None:
        self.effects += 1
        if self._first <= self.effects <= self._last:
            raise OSError(self._error, os.strerror(self._error), operation)

    def heal(self) -> None:
        self._last = 0


def life(world: World, disk: Disk) -> tuple[Process, Process]:
    """The victim meets a dead holder, hands on, gives up, is granted, and releases; another one lives a good life."""
    dead, other, victim = (Process(world, world.kernels[0]) for _ in range(3))
    world.processes += [dead, other, victim]
    dead.ask(request())
    dead.kill()
    victim.failing = disk
    first = attempt(victim)
    waits = other.ask(request())
    release(first)
    world.pass_time(0.5, 0.1)
    attempt(victim, 0.3)
    pass_time(world, victim, 1.0)
    last = attempt(victim)
    if waits.lease is not None and not waits.over:
        waits.release()
    pass_time(world, victim, 1.0)
    release(last)
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


def pass_time(world: World, victim: Process, seconds: float) -> None:
    while seconds > 0:
        try:
            world.pass_time(0.1)
        except StoreError as error:
            assert error.path and error.remedy  # a waiter is told as well
        seconds -= 0.1


@pytest.fixture(params=["os", "directory"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place() -> Iterator[Path]:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="failing-", dir=memory))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("lasting", [1, 2, 10**9])
def test_whichever_effect_fails_nothing_is_leaked_and_nothing_exceeded(
    place: Path, kind: str, lasting: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("leasecap._report.report", told.append)
    number = 0
    while True:
        number += 1
        root = place / str(number)
        root.mkdir(mode=0o700)
        world = World(root, kind=kind)
        world.set_limit(1)
        disk = Disk(number, number + lasting - 1, (errno.EIO, errno.ESTALE)[number % 2])
        try:
            other, victim = life(world, disk)
            disk.heal()
            # It lives on, and so can nobody take it for dead: what it left has to be cleared away by itself.
            end_well(world, other, victim)
        except BaseException as error:
            error.add_note(f"effect {number} of the victim failed, {lasting} in a row")
            raise
        finally:
            for process in world.processes:
                if not process.dead:
                    process.kill()
            shutil.rmtree(root)
        if disk.effects < number:
            break
    assert number > 100


def end_well(world: World, other: Process, victim: Process) -> None:
    pass_time(world, victim, 0.3)
    world.pass_time(12.0)
    for call in world.calls():
        release(call)
    world.pass_time(12.0)
    for process in (other, victim):
        call = process.ask(request())
        world.pass_time(3.0)
        assert call.lease is not None, "a slot is leaked, or the pool is locked"
        call.release()
    assert not world.listing("queue", "parked", *HELD)
