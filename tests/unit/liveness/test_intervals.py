"""When a heartbeat that stands still means dead: by its owner's own interval, and by time in which it could beat."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from staged_world import Actor

from leasecap._decisions.places import LEASES
from leasecap._file_store.self_record import describe_self
from leasecap._liveness.record import Record, encode_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._file_store.own_entry import OwnEntry


def elsewhere(record: Record) -> Record:
    """Of a holder on another kernel: its heartbeat alone speaks for it."""
    return record._replace(boot="another", machine="another")


def lease(root: Path, *, heartbeat: float, stale_after: float) -> tuple[Actor, OwnEntry]:
    """A lease of a holder that was told these intervals, and its process."""
    holder = Actor(root, kind="directory", limit=9999, heartbeat=heartbeat, stale_after=stale_after)
    return holder, holder.ask(change=elsewhere)


def observe(root: Path, *, heartbeat: float = 10.0, stale_after: float = 30.0) -> Actor:
    return Actor(root, kind="directory", limit=9999, heartbeat=heartbeat, stale_after=stale_after)


def dies_after(
    observer: Actor, lives: Callable[[], bool], *, every: float, most: float = 500.0, pause: float = 0.0
) -> float | None:
    """Seconds of looks until it is dead; None if it is alive all the time."""
    began = observer.world.clock
    while observer.world.clock < began + most:
        if not lives():
            return observer.world.clock - began
        observer.world.clock += every + pause
    return None


def verdict(observer: Actor, own_entry: OwnEntry) -> Callable[[], bool]:
    return lambda: observer.store.observer.judge(LEASES, own_entry.name).alive


@pytest.mark.parametrize("of_observer", [(1.0, 3.0), (0.05, 0.15), (10.0, 30.0), (100.0, 300.0)])
def test_an_observer_told_otherwise_judges_by_the_holders_intervals(
    root: Path, of_observer: tuple[float, float]
) -> None:
    _, own_entry = lease(root, heartbeat=10.0, stale_after=30.0)
    observer = observe(root, heartbeat=of_observer[0], stale_after=of_observer[1])
    assert dies_after(observer, verdict(observer, own_entry), every=1.0) == 30.0


def test_a_holder_is_not_dead_before_three_of_its_heartbeats(root: Path) -> None:
    # No configuration allows that, but a record may come from any version.
    _, own_entry = lease(root, heartbeat=10.0, stale_after=5.0)
    observer = observe(root)
    assert dies_after(observer, verdict(observer, own_entry), every=1.0) == 30.0


def test_an_unreadable_record_is_given_the_longer_intervals(root: Path) -> None:
    # An observer with short ones must not judge a holder by them whose own are not to be known.
    holder, own_entry = lease(root, heartbeat=10.0, stale_after=30.0)
    holder.store.directory.replace(f"{LEASES}/{own_entry.name}/info.json", b"{")
    observer = observe(root, heartbeat=1.0, stale_after=3.0)
    assert dies_after(observer, verdict(observer, own_entry), every=1.0) == 30.0


@pytest.mark.parametrize("every", [0.1, 1.0, 2.0])
@pytest.mark.parametrize("heartbeat", [0.01, 0.05, 0.1, 1.0])
def test_a_dead_holder_with_frequent_heartbeats_is_found_out(root: Path, heartbeat: float, every: float) -> None:
    _, own_entry = lease(root, heartbeat=heartbeat, stale_after=3 * heartbeat)
    observer = observe(root)
    found = dies_after(observer, verdict(observer, own_entry), every=every)
    assert found is not None
    assert 3 * heartbeat <= found <= max(3 * heartbeat, 3 * every) + every


def test_a_lock_directorys_dead_holder_with_frequent_heartbeats_is_found_out(root: Path) -> None:
    holder = Actor(root, kind="directory", heartbeat=0.05, stale_after=0.15)
    assert holder.store.section.try_enter()
    [token] = holder.store.directory.list("lock.d")
    path = f"lock.d/{token}"
    record = describe_self(holder.world, holder.store.pool, holder.store.observer, label=None)
    holder.store.directory.replace(path, encode_record(elsewhere(record)))
    observer = observe(root, heartbeat=1.0, stale_after=3.0)
    found = dies_after(observer, lambda: observer.store.observer.judge_record(path).alive, every=2.0)
    assert found == 6.0


def test_one_of_many_holders_is_found_out_though_each_is_looked_at_seldom(root: Path) -> None:
    # A sweep looks at 200 of them, in turns.
    _, own_entry = lease(root, heartbeat=0.05, stale_after=0.15)
    observer = observe(root)
    other = observer.ask(change=elsewhere)
    for _ in range(4):
        alive = verdict(observer, own_entry)()
        for _ in range(5):
            observer.world.clock += 1.0
            verdict(observer, other)()
    assert not alive


@pytest.mark.parametrize("pause", [2.6, 9.0, 1000.0])
def test_an_observer_that_was_stopped_starts_the_count_again(root: Path, pause: float) -> None:
    # The machine may have been asleep, or the container frozen: then its holder had no chance to beat either.
    _, own_entry = lease(root, heartbeat=0.1, stale_after=3.0)
    observer = observe(root)
    assert dies_after(observer, verdict(observer, own_entry), every=0.1, most=2.9) is None
    observer.world.clock += pause
    assert dies_after(observer, verdict(observer, own_entry), every=0.1, most=2.9) is None
    assert dies_after(observer, verdict(observer, own_entry), every=0.1) is not None


def test_a_short_stop_of_both_never_counts_for_three_heartbeats(root: Path) -> None:
    _, own_entry = lease(root, heartbeat=0.05, stale_after=0.15)
    observer = observe(root)
    lives = verdict(observer, own_entry)
    assert lives()
    for _ in range(2):
        observer.world.clock += 2.4
        assert lives()


# -- what can't be read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENOMEM])
@pytest.mark.parametrize("file", ["info.json", "alive"])
def test_what_can_not_be_read_is_no_heartbeat_that_stands_still(root: Path, file: str, error: int) -> None:
    _, own_entry = lease(root, heartbeat=1.0, stale_after=3.0)
    observer = observe(root, heartbeat=1.0, stale_after=3.0)
    observer.world.failing("read", error, name=file)
    assert dies_after(observer, verdict(observer, own_entry), every=1.0) is None
    assert observer.store.observer.judge(LEASES, own_entry.name).evidence == "unreadable from here"
    observer.world.before = lambda *_: None
    assert dies_after(observer, verdict(observer, own_entry), every=1.0, most=2.9) is None  # counted from now on


def test_a_lock_directorys_holder_that_can_not_be_read_is_not_robbed(root: Path) -> None:
    holder = Actor(root, kind="directory")
    assert holder.store.section.try_enter()
    [token] = holder.store.directory.list("lock.d")
    observer = observe(root)
    observer.world.failing("read", errno.EACCES, name=token)
    found = dies_after(observer, lambda: observer.store.observer.judge_record(f"lock.d/{token}").alive, every=1.0)
    assert found is None


def test_a_probe_tells_a_missing_file_from_one_that_can_not_be_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer = observe(root)
    assert observer.store.directory.probe("no such file", 9) == (None, b"")
    assert observer.store.directory.probe(LEASES, 9) == (None, b"")

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    assert observer.store.directory.probe("lock", 9) == (None, None)
