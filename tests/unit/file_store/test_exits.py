"""Who is covered by a handle on a process, and who isn't."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from helper_process import Helper, ended_pid, helper
from places import PLATFORM
from referee import until
from staged_world import Actor

from leasecap._decisions.places import GRANTED, LEASES
from leasecap._feedback.rules import Rules
from leasecap._file_store import wakeups
from leasecap._file_store.exits import Exits
from leasecap._file_store.feedback import Feedback
from leasecap._file_store.feedback_files import STATE
from leasecap._file_store.wakeups import Watch
from leasecap._host import exits as _exits
from leasecap._host import process as _process
from leasecap._host.directory import Directory
from leasecap._host.exits import SEES_EXITS
from leasecap._liveness.record import PENDING, Child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._file_store.own_process import OwnProcess
    from leasecap._liveness.record import Record

pytestmark = pytest.mark.skipif(not SEES_EXITS, reason="the exit of a process wakes nobody here")

SLEEPS = "input()"


class Covering:
    """The exits that one waiter watches, no predecessor among them."""

    def __init__(self, exits: Exits) -> None:
        self.watches = exits

    @property
    def came(self) -> bool:
        return self.watches.came

    def cover(self) -> bool:
        return self.watches.watch([]) and self.watches.cover()

    def close(self) -> None:
        self.watches.close()


class Waiter:
    """One that waits behind leases whose records a test makes up.

    :ivar woken: is set in the thread of its watch.
    """

    def __init__(self, root: Path) -> None:
        self.actor = Actor(root, limit=9)
        self.woken = threading.Event()
        self.watch = Watch(Directory(str(root)), "1" * 12, lambda names: None)
        assert self.watch.start()
        self.store = self.actor.store
        own = types.SimpleNamespace(effects=self.actor.world, lock=contextlib.nullcontext())
        self.own: OwnProcess = own  # type: ignore[assignment]
        self.holders: list[OwnEntry] = []
        self.own_entry: OwnEntry | None = None

    def beside(self, change: Callable[[Record], Record] = lambda record: record) -> OwnEntry:
        """A lease with that record."""
        own_entry = self.actor.stage(change=change)
        assert self.actor.place(own_entry)
        self.holders.append(own_entry)
        return own_entry

    def exits(self) -> Covering:
        self.store.policy.configured = len(self.holders)
        self.own_entry = self.actor.ask()
        return Covering(Exits(self.own, self.store, self.watch, self.woken.set))

    def handles(self) -> int:
        return sum("pidfd" in link for link in links())


def links() -> Iterator[str]:
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"/proc/self/fd/{number}")


@pytest.fixture
def waiter(root: Path) -> Iterator[Waiter]:
    made = Waiter(root)
    yield made
    made.watch.close()
    until(lambda: made.handles() == 0, "every handle is closed")


@pytest.fixture
def process() -> Iterator[Helper]:
    with helper(SLEEPS) as started:
        yield started


def held_by(process: Helper) -> Callable[[Record], Record]:
    start = _process.start_of(process.pid)
    return lambda record: record._replace(pid=process.pid, start=start)


def test_the_exit_of_a_process_that_holds_wakes(waiter: Waiter, process: Helper) -> None:
    waiter.beside(held_by(process))
    exits = waiter.exits()
    assert exits.cover() and exits.cover()
    assert waiter.handles() == 1 and not exits.came
    process.become_a_zombie()
    assert waiter.woken.wait(60)
    assert exits.came
    assert not exits.cover(), "who is no more speaks for nothing"
    assert waiter.handles() == 0
    exits.close()


def test_a_process_with_several_leases_takes_one_descriptor_and_goes_with_the_last(
    waiter: Waiter, process: Helper
) -> None:
    first, second = waiter.beside(held_by(process)), waiter.beside(held_by(process))
    waiter.beside()
    exits = waiter.exits()
    assert exits.cover() and waiter.handles() == 2
    waiter.store.entries.remove(LEASES, first.name)
    assert exits.cover() and waiter.handles() == 2
    waiter.store.entries.remove(LEASES, second.name)
    assert exits.cover() and waiter.handles() == 1
    exits.close()


def test_where_the_holder_is_gone_its_command_is_watched(waiter: Waiter, process: Helper) -> None:
    start = _process.start_of(process.pid)
    assert start is not None
    gone = ended_pid()
    waiter.beside(lambda record: record._replace(pid=gone, start=1, child=Child(process.pid, start)))
    exits = waiter.exits()
    assert exits.cover()
    process.end()
    assert waiter.woken.wait(60)
    exits.close()


@pytest.mark.parametrize(
    "change",
    [
        {"pid_ns": "pid:[1]"},
        {"pid_ns": None},
        {"time_ns": "time:[1]"},
        {"boot": "another"},
        {"start": None},
        {"start": 1},
        {"start": 1, "proof": "pid"},
        {"start": 1, "child": PENDING},
    ],
    ids=str,
)
def test_who_cannot_be_seen_is_not_covered(waiter: Waiter, change: dict[str, object]) -> None:
    waiter.beside()
    waiter.beside(lambda record: record._replace(**change))  # type: ignore[arg-type]
    exits = waiter.exits()
    assert not exits.cover()
    exits.close()


def test_a_corrupt_record_is_not_covered(waiter: Waiter) -> None:
    own_entry = waiter.beside()
    exits = waiter.exits()
    waiter.store.directory.replace(f"{LEASES}/{own_entry.name}/info.json", b"{}")
    assert not exits.cover()
    exits.close()


def test_a_grant_that_nobody_has_taken_up_is_not_covered(waiter: Waiter) -> None:
    waiter.beside()
    granted = waiter.beside()
    exits = waiter.exits()
    waiter.store.directory.rename(f"{LEASES}/{granted.name}", f"{GRANTED}/{granted.name}")
    assert not exits.cover()
    assert waiter.store.entries.acknowledge(granted)
    assert exits.cover()
    exits.close()


def test_where_nobody_holds_there_is_nothing_to_be_told_of(waiter: Waiter) -> None:
    own_entry = waiter.beside()
    exits = waiter.exits()
    waiter.store.entries.remove(LEASES, own_entry.name)
    assert not exits.cover()
    exits.close()


def test_while_slots_may_be_given_away_or_the_provider_keeps_somebody_out_nobody_is_covered(waiter: Waiter) -> None:
    waiter.beside()
    exits = waiter.exits()
    assert exits.cover()
    waiter.store.policy.force = True
    assert not exits.cover()
    waiter.store.policy.force = False
    feedback = Feedback(waiter.actor.world, contextlib.nullcontext(), waiter.store.pool, Rules(cooldown=100.0))
    waiter.store.snapshots._feedback = feedback
    assert exits.cover()
    feedback.files.cool(waiter.holders[0].entry)
    assert not exits.cover()
    waiter.store.directory.write(STATE, b"damaged")
    assert not exits.cover()
    exits.close()


@pytest.mark.parametrize("what", ["open", "register", "many"])
def test_where_no_more_descriptors_are_to_be_had_nobody_is_covered(
    waiter: Waiter, process: Helper, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    waiter.beside(held_by(process))
    waiter.beside()
    exits = waiter.exits()
    with monkeypatch.context() as patch:
        if what == "open":
            patch.setattr(_exits, "_open", fail)
        elif what == "register":
            patch.setattr("selectors.DefaultSelector.register", fail)
        else:
            patch.setattr(wakeups, "MOST_HANDLES", 1)
        assert not exits.cover()
        assert waiter.handles() == (what == "many")
    assert exits.cover()
    exits.close()


def test_a_pid_that_passes_to_another_process_before_it_is_opened_is_not_watched(
    process: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = _process.start_of(process.pid)
    assert start is not None
    before = sum("pidfd" in link for link in links())
    with helper(SLEEPS) as successor:
        opens = _exits._open
        monkeypatch.setattr(_exits, "_open", lambda pid: opens(successor.pid))
        process.end()
        assert _exits.exit_of(process.pid, start) is None
    assert sum("pidfd" in link for link in links()) == before


def test_what_exits_while_it_is_looked_for_is_not_lost(waiter: Waiter, process: Helper) -> None:
    waiter.beside(held_by(process))
    exits = waiter.exits()
    waiter.actor.world.once("list", process.become_a_zombie, name=GRANTED)
    assert not exits.cover()  # so it looks again after the usual period
    exits.close()


def test_after_the_wait_no_descriptor_is_open(waiter: Waiter) -> None:
    waiter.beside()
    exits = waiter.exits()
    assert exits.cover()
    assert waiter.handles() > 0
    exits.close()
    assert waiter.handles() == 0
    exits.close()


def test_what_was_watched_before_all_descriptors_were_closed_is_watched_anew(waiter: Waiter, process: Helper) -> None:
    waiter.beside(held_by(process))
    exits = waiter.exits()
    assert exits.cover()
    before = waiter.handles()
    waiter.watch.starts += 1  # as after `os.closerange`; here the handles are open
    assert exits.cover()
    assert waiter.handles() == 2 * before > 0
    process.become_a_zombie()
    assert waiter.woken.wait(60)
    exits.close()


def test_an_exit_is_told_once(waiter: Waiter, process: Helper) -> None:
    told = 0

    def tell() -> None:
        nonlocal told
        told += 1
        waiter.woken.set()

    handle = _exits._open(process.pid)
    assert waiter.watch.add(handle, tell)
    process.become_a_zombie()
    assert waiter.woken.wait(60)
    heard_after_all(waiter)
    assert told == 1  # the handle can be read from for ever after
    waiter.watch.drop(handle)


def heard_after_all(waiter: Waiter) -> None:
    """Return when the watch's thread has done what was to be done before this."""
    heard = threading.Event()
    waiter.watch._on_wake = lambda names: heard.set()
    Directory(os.environ["LEASECAP_HOME"]).notify("wake/" + "1" * 12 + "/.wakeup", b"name\n")
    assert heard.wait(60)


@pytest.mark.linux("a fork's child inherits no kqueue")
def test_a_copy_of_a_handle_that_a_child_still_has_tells_nothing_of_its_successor(
    waiter: Waiter, process: Helper
) -> None:
    handle = os.pidfd_open(process.pid)
    copy = os.dup(handle)
    assert waiter.watch.add(handle, lambda: None)
    waiter.watch.drop(handle)
    other = os.pidfd_open(os.getpid())
    assert other == handle, "the same number"
    assert waiter.watch.add(other, waiter.woken.set)
    process.become_a_zombie()
    heard_after_all(waiter)
    assert not waiter.woken.is_set()
    waiter.watch.drop(other)
    os.close(copy)


@pytest.mark.skipif(PLATFORM != "darwin", reason="a handle is a kqueue on macOS alone, and its object closes it")
def test_a_queue_whose_number_the_program_closed_closes_no_later_one(process: Helper) -> None:
    code = """
import gc, os, sys
from leasecap._host import exits
first = exits._open(int(sys.argv[1]))
os.close(first)
second = exits._open(int(sys.argv[1]))
assert second == first, "the same number"
gc.collect()
os.fstat(second)
print("open", flush=True)
os._exit(0)
"""
    with helper(code, process.pid) as program:
        assert program.hear() == "open"


def test_a_fork_copies_no_handle_that_is_not_known(
    waiter: Waiter, process: Helper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook that closes them in the child is kept waiting by the lock, and so is the fork."""
    waiter.beside(held_by(process))
    exits = waiter.exits()
    lock = threading.Lock()
    seen: list[str] = []

    def checked(what: str, method: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            assert lock.locked(), what
            seen.append(what)
            return method(*arguments)

        return call

    exits.watches._own.lock = lock  # type: ignore[assignment]
    monkeypatch.setattr("leasecap._host.effects.exit_of", checked("open", _exits.exit_of))
    for method in ("add", "drop"):
        monkeypatch.setattr(waiter.watch, method, checked(method, getattr(waiter.watch, method)))
    assert exits.cover()
    exits.close()
    assert seen == ["open", "add", "drop"]
