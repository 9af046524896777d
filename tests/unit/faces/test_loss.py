"""Why a lease was lost is told when it is noticed."""

from __future__ import annotations

import logging
import os
import pickle
import shutil
import threading
from pathlib import Path

import pytest
from commands import remove_tree, start, status, until
from insides import own_entry_of, store_of

import leasecap
from leasecap._api import pool_store
from leasecap._file_store.held_lease import HeldLease
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("pool")


def remove(path: Path, aside: Path) -> None:
    """In one step: `rmtree` goes from the inside out, and a heartbeat tells of what it finds gone by then."""
    path.rename(aside)
    remove_tree(aside)


REMOVED: dict[str, Callable[[Path], Path]] = {
    "the root": lambda pool: pool.parent.parent,
    "the pool's directory": lambda pool: pool,
    "the directory": lambda pool: pool / "leases",
}


@pytest.mark.parametrize("what", REMOVED)
def test_what_was_removed_is_told_while_the_lease_is_held(
    what: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    told: list[str] = []
    lease = leasecap.acquire("p", on_lost=lambda lost: told.append(lost.loss))
    path = REMOVED[what](Path(status().path))
    with caplog.at_level(logging.WARNING, "leasecap"):
        remove(path, tmp_path / "aside")
        assert lease.lost.wait(60)  # by a heartbeat, and not by a release
        until(lambda: told and caplog.messages)
    assert told == [f"{what} {path} was removed"]
    assert any(told[0] in message for message in caplog.messages)
    with pytest.raises(leasecap.LeaseLost, match="was removed") as caught:
        lease.check()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    lease.release()
    assert len(told) == 1


def test_a_loss_that_is_found_before_the_lease_is_whole_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process was stopped between the grant and the first line that keeps it."""
    keep = HeldLease.keep

    def too_late(held: HeldLease, lease: object, on_gone: Callable[[], None], on_dropped: Callable[[], None]) -> None:
        keep(held, lease, on_gone, on_dropped)
        on_gone()

    monkeypatch.setattr(HeldLease, "keep", too_late)
    told = threading.Event()
    lease = leasecap.acquire("p", on_lost=lambda lost: told.set())
    assert told.wait(60)
    assert lease.lost and not lease.held


@pytest.mark.posix("`leasecap run`")
@pytest.mark.parametrize("what", REMOVED)
def test_run_says_what_was_removed(what: str, tmp_path: Path) -> None:
    held = start("run", "-p", "p", "--", "sh", "-c", "echo runs; cat", stdin=-1)
    assert held.stdout is not None and held.stdout.readline() == "runs\n"
    path = REMOVED[what](Path(status().path))
    remove(path, tmp_path / "aside")
    assert held.stderr is not None
    lines = [held.stderr.readline()]
    while "was lost" not in lines[-1]:
        lines.append(held.stderr.readline())
        assert lines[-1]
    assert f"{what} {path} was removed" in "".join(lines) and "by a person" not in "".join(lines)
    held.communicate("", timeout=60)
    assert held.returncode == 0


def test_the_blocks_own_exception_survives_a_release_that_fails() -> None:
    with pytest.raises(ZeroDivisionError), leasecap.slot("p") as lease:
        shutil.rmtree(store_of(lease).directory.path)
        raise ZeroDivisionError


def test_a_release_waits_for_on_lost_whoever_has_found_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leasecap._on_lost.HEAR_OUT", 60.0)
    begun, goes_on, told = threading.Event(), threading.Event(), list[str]()

    def tell(lost: leasecap.Lease) -> None:
        begun.set()
        assert goes_on.wait(60)
        lost.release()  # which doesn't wait for itself
        told.append(lost.id)

    lease = leasecap.acquire("p", on_lost=tell)
    lease._gone()  # as the heartbeat's thread does
    assert begun.wait(60)
    threading.Timer(0.2, goes_on.set).start()
    lease.release()  # after which a process may end
    assert told == [lease.id]


def test_a_loss_that_the_release_finds_out_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leasecap._on_lost.HEAR_OUT", 60.0)
    calls: list[leasecap.Lease] = []
    lease = leasecap.acquire("p", on_lost=calls.append)
    runtime.own.heartbeats.remove(own_entry_of(lease))  # it would find out first
    assert store_of(lease).end(own_entry_of(lease).name)  # as a person does
    lease.release()
    lease.release()
    assert calls == [lease]
    assert lease.lost


def test_lease_that_was_lost_is_handed_to_nobody(root: Path) -> None:
    lease = leasecap.acquire("p", limit=1)
    assert pool_store("p").end(own_entry_of(lease).name)
    with pytest.raises(leasecap.LeaseLost):
        lease.hand_to(os.getpid(), 1)
