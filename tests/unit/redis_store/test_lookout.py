"""Dead holders of this machine: who is waited for, who is looked at, and what is ended."""

from __future__ import annotations

import itertools
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from helper_process import helper
from records import RECORD

from leasecap._errors import StoreError
from leasecap._host.effects import Effects
from leasecap._host.process import start_of
from leasecap._liveness.record import PENDING, Child, encode_record
from leasecap._redis_store import exits as exits_module
from leasecap._redis_store import lookout as lookout_module
from leasecap._redis_store.exits import Exits
from leasecap._redis_store.lookout import Lookout

PATIENCE = 20.0
NEVER = 1000.0  # seconds


class Kernel(Effects):
    """A process table. A handle on a process is the end of a pipe, and it exits as the other end is closed."""

    __slots__ = ("changing", "handles", "has_handles", "looks", "running")

    def __init__(self) -> None:
        self.running: dict[int, int] = {}  # the other end, by pid
        self.handles: set[int] = set()
        self.has_handles = True
        self.looks = 0
        self.changing = threading.Lock()

    def start(self, pid: int) -> None:
        self.running[pid] = -1

    def exit(self, pid: int) -> None:
        with self.changing:
            end = self.running.pop(pid)
        if end >= 0:
            os.close(end)

    def me(self) -> Any:
        return SimpleNamespace(
            sees_processes=True, boot=RECORD.boot, time_ns=RECORD.time_ns, pid_ns=RECORD.pid_ns, machine=RECORD.machine
        )

    def presence(self, pid: int, start: int) -> Any:
        self.looks += 1
        return "runs" if pid in self.running else "gone"

    def exit_of(self, pid: int, start: int) -> Any:
        with self.changing:
            if not self.has_handles or pid not in self.running:
                return None
            handle, self.running[pid] = os.pipe()
        self.handles.add(handle)
        return handle, "runs"

    def close_exit(self, handle: int) -> None:
        self.handles.remove(handle)
        os.close(handle)


class FakePool:
    """Says who holds and who waits first. What is ended does neither any longer.

    :ivar asked: who was known at each question who holds.
    """

    name = SimpleNamespace(text="p")

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.queue: list[str] = []
        self.asked: queue.Queue[set[str]] = queue.Queue()
        self.ended: queue.Queue[str] = queue.Queue()
        self.fails = 0
        self.error: Exception = StoreError("away", path="", remedy="")

    def holds(self, token: str, pid: int, child: Child | None = None, **others: Any) -> None:
        self.records[token] = encode_record(RECORD._replace(pid=pid, child=child, **others))

    def waits(self, token: str, pid: int) -> None:
        self.holds(token, pid)
        self.queue.append(token)

    def to_watch(self, known: dict[str, object], *, holders: bool, waiting: int) -> tuple[set[str], dict[str, bytes]]:
        found = {token for token in self.records if holders and token not in self.queue} | {*self.queue[:waiting]}
        self.asked.put(set(known))
        return found, {token: self.records[token] for token in found if token not in known}

    def end(self, token: str, *, by_holder: bool) -> bool:
        assert not by_holder
        if self.fails:
            self.fails -= 1
            raise self.error
        self.records.pop(token)
        if token in self.queue:
            self.queue.remove(token)
        self.ended.put(token)
        return True


class World:
    def __init__(self) -> None:
        self.kernel, self.pool = Kernel(), FakePool()
        self.lookout = Lookout(self.kernel, cast("Any", self.pool))

    def covered(self, pid: int) -> None:
        """Returns once there is a handle on the process."""
        until(lambda: self.kernel.running[pid] >= 0)

    def ended(self) -> str:
        return self.pool.ended.get(timeout=PATIENCE)

    def look_again(self) -> None:
        """Returns once it has looked at all again, and has asked."""
        while not self.pool.asked.empty():
            self.pool.asked.get()
        exits = self.lookout._exits
        assert exits is not None
        for _ in range(2):  # the second question comes after the first look is over
            self.lookout._ask_at = 0
            exits.rouse()
            self.pool.asked.get(timeout=PATIENCE)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """By itself it asks just once, and never looks."""
    monkeypatch.setattr(lookout_module, "_BEGIN_AFTER", 0.0)
    monkeypatch.setattr(lookout_module, "_ASK_EVERY", NEVER)
    monkeypatch.setattr(lookout_module, "_LOOK_EVERY", NEVER)
    world = World()
    yield world
    world.lookout._on_duty.clear()
    world.lookout.rest()
    assert world.kernel.handles == set()
    for pid in list(world.kernel.running):
        world.kernel.exit(pid)


pipes = pytest.mark.posix("what waits for a process here is a pipe")


@pipes
def test_exit_of_a_holder_is_noticed_without_a_look(world: World) -> None:
    world.kernel.start(7)
    world.pool.holds("a", 7)
    world.lookout.note("ticket", on_duty=True)
    world.covered(7)
    assert world.kernel.looks == 0
    world.kernel.exit(7)
    assert world.ended() == "a"


def test_holder_without_a_handle_is_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout_module, "_LOOK_EVERY", 0.01)
    world.kernel.has_handles = False
    world.kernel.start(7)
    world.pool.holds("a", 7)
    world.lookout.note("ticket", on_duty=True)
    until(lambda: world.kernel.looks > 3)
    assert world.pool.ended.empty()
    world.kernel.exit(7)
    assert world.ended() == "a"


@pipes
def test_more_holders_than_handles_are_looked_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout_module, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(exits_module, "_MOST", 2)
    for pid in (6, 7, 8, 9):
        world.kernel.start(pid)
        world.pool.holds(f"of {pid}", pid)
    world.lookout.note("ticket", on_duty=True)
    until(lambda: len(world.kernel.handles) == 2 and world.kernel.looks)
    for pid in (6, 7, 8, 9):
        world.kernel.exit(pid)
    assert {world.ended() for _ in range(4)} == {f"of {pid}" for pid in (6, 7, 8, 9)}


@pipes
def test_command_keeps_the_slot_of_its_dead_wrapper(world: World) -> None:
    world.kernel.start(7)
    world.kernel.start(8)
    world.pool.holds("a", 7, Child(8, 1))
    world.lookout.note("ticket", on_duty=True)
    world.covered(7)
    world.covered(8)
    world.kernel.exit(7)
    until(lambda: len(world.kernel.handles) == 1)
    world.look_again()
    assert world.pool.ended.empty()
    world.kernel.exit(8)
    assert world.ended() == "a"


@pipes
def test_command_that_was_named_later_keeps_the_slot(world: World) -> None:
    world.kernel.start(7)
    world.pool.holds("a", 7)
    world.lookout.note("ticket", on_duty=True)
    world.covered(7)
    world.kernel.start(8)
    world.pool.holds("a", 7, Child(8, 1))
    world.kernel.exit(7)
    world.covered(8)
    assert world.pool.ended.empty()
    world.kernel.exit(8)
    assert world.ended() == "a"


@pipes
def test_command_that_was_named_later_and_is_hidden_keeps_the_slot(world: World) -> None:
    world.kernel.start(7)
    world.pool.holds("a", 7)
    world.lookout.note("ticket", on_duty=True)
    world.covered(7)
    world.pool.holds("a", 7, PENDING)
    world.kernel.exit(7)
    until(lambda: world.lookout._seen == {"a": ()})
    world.look_again()
    assert world.pool.ended.empty()


@pytest.mark.parametrize(
    "others",
    [{"boot": "another"}, {"pid_ns": "pid:[2]"}, {"start": None}, {"child": PENDING}],
    ids=["boot", "namespace", "unknown start", "hidden command"],
)
def test_holder_that_cannot_be_seen_is_left_alone(world: World, others: dict[str, Any]) -> None:
    world.pool.holds("a", 7, **others)
    world.lookout.note("ticket", on_duty=True)
    world.pool.asked.get(timeout=PATIENCE)
    world.look_again()
    assert world.pool.ended.empty()
    assert world.pool.asked.empty()
    assert world.kernel.looks == 0


@pipes
def test_a_waiter_that_exits_leaves_the_queue(world: World) -> None:
    world.kernel.start(7)
    world.pool.waits("a", 7)
    world.lookout.note("ticket", on_duty=True)
    world.covered(7)
    world.kernel.exit(7)
    assert world.ended() == "a"


def test_dead_on_duty_are_relieved_until_a_live_one_is(world: World) -> None:
    world.kernel.start(9)
    world.pool.holds("held", 6)  # dead as well: that is for those on duty to see
    for token, pid in (("a", 7), ("b", 7), ("c", 8), ("d", 9), ("e", 9), ("f", 7)):
        world.pool.waits(token, pid)
    world.lookout.relieve(everybody=False)
    assert {world.pool.ended.get() for _ in range(world.pool.ended.qsize())} == {"a", "b", "c"}
    assert world.pool.queue == ["d", "e", "f"]


def test_all_who_wait_are_looked_at_where_no_other_look_is_for_the_one_asked_for(world: World) -> None:
    world.kernel.start(6)
    for number in range(40):
        world.pool.waits(f"live {number}", 6 if number < 1 else 100 + number)
        world.kernel.start(100 + number)
    world.pool.waits("dead", 9)
    world.lookout.relieve(everybody=True)
    assert world.pool.ended.get_nowait() == "dead"


@pipes
def test_who_holds_next_is_asked_for_at_once(world: World) -> None:
    for pid in (7, 8):
        world.kernel.start(pid)
    world.pool.holds("a", 7)
    world.lookout.note("ticket", on_duty=True)
    world.covered(7)
    world.pool.holds("b", 8)
    world.kernel.exit(7)
    assert world.ended() == "a"
    world.covered(8)


@pipes
def test_handles_of_those_who_hold_no_longer_are_closed(world: World) -> None:
    world.kernel.start(7)
    world.pool.holds("a", 7)
    world.lookout.note("ticket", on_duty=True)
    world.covered(7)
    world.pool.records.clear()
    world.look_again()
    assert world.kernel.handles == set()


@pytest.mark.parametrize("error", [StoreError("away", path="", remedy=""), RuntimeError("bug")], ids=["store", "other"])
def test_end_that_fails_is_tried_again(world: World, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(lookout_module, "log_warning_apart", said.append)
    monkeypatch.setattr(lookout_module, "_ASK_EVERY", 0.01)
    world.pool.fails, world.pool.error = 2, error
    world.pool.holds("a", 7)
    world.lookout.note("ticket", on_duty=True)
    assert world.ended() == "a"
    assert bool(said) == isinstance(error, RuntimeError)


def test_thread_ends_when_nobody_is_on_duty_and_begins_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.lookout.note("ticket", on_duty=True)
    thread = world.lookout._thread
    world.lookout.rest()
    assert world.lookout._thread is thread  # somebody relies on it
    assert world.lookout.leaves("ticket")
    assert not world.lookout.leaves("ticket")
    world.lookout.rest()
    assert isinstance(thread, threading.Thread)
    assert not thread.is_alive()
    assert world.lookout._thread is None
    monkeypatch.setattr(lookout_module, "_ASK_EVERY", 0.01)
    world.lookout.note("ticket", on_duty=True)
    world.lookout.note("ticket", on_duty=False)
    until(lambda: world.lookout._thread is None)  # by itself


def test_rest_waits_for_a_thread_that_is_ending_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    closing, go_on = threading.Event(), threading.Event()
    close = Exits.close

    def close_late(exits: Exits) -> None:
        closing.set()
        assert go_on.wait(PATIENCE)
        close(exits)

    awaited: list[threading.Thread] = []

    def await_end(thread: threading.Thread) -> None:
        awaited.append(thread)
        go_on.set()
        thread.join(PATIENCE)

    monkeypatch.setattr(Exits, "close", close_late)
    monkeypatch.setattr(lookout_module, "await_end", await_end)
    world.lookout.note("ticket", on_duty=True)
    thread = world.lookout._thread
    world.lookout.leaves("ticket")
    assert closing.wait(PATIENCE)
    world.lookout.rest()
    assert awaited == [thread]


def test_who_is_on_duty_for_a_moment_asks_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout_module, "_BEGIN_AFTER", NEVER)
    world.lookout.note("ticket", on_duty=True)
    world.lookout.note("ticket", on_duty=False)
    world.lookout.rest()
    assert world.lookout._thread is None
    assert world.pool.asked.empty()


def test_where_no_thread_can_be_had_nothing_is_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(lookout_module, "start_thread", refuse)
    world.lookout.note("ticket", on_duty=True)
    assert world.lookout._thread is None
    assert world.lookout._exits is None
    world.lookout.rest()


@pytest.mark.posix("fork, and handles on processes")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # that there is a thread is the point
def test_forks_child_closes_its_copies_and_its_parent_goes_on(world: World) -> None:
    world.kernel.start(7)
    world.pool.holds("a", 7)
    world.lookout.note("ticket", on_duty=True)
    world.covered(7)
    handles = world.kernel.handles.copy()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            world.lookout.forget()
            for handle in handles:
                try:
                    os.fstat(handle)
                    status = 2
                except OSError:
                    status = 0
            os.close(world.kernel.running[7])  # the pipe's, which isn't the look-out's
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    world.kernel.exit(7)
    assert world.ended() == "a"


@pytest.mark.skipif(not Effects().sees_exits, reason="no handles on processes here")
def test_handle_on_a_real_process_ends_the_wait_when_it_exits() -> None:
    effects = Effects()
    exits = Exits(effects)
    try:
        with helper("input()") as process:
            start = start_of(process.pid)
            assert start is not None
            one = process.pid, start
            assert exits.cover({one}) == set()
            process.become_a_zombie()
            began = time.monotonic()
            exits.wait(NEVER)
            assert time.monotonic() - began < PATIENCE
            assert exits.cover({one}) == {one}
            assert effects.presence(*one) == "gone"
    finally:
        exits.close()


def test_rouse_ends_a_wait_and_is_harmless_before_and_after(world: World) -> None:
    exits = Exits(world.kernel)
    for _ in itertools.repeat(None, 3000):  # more than a socket holds
        exits.rouse()
    until(lambda: not _waits(exits))
    exits.close()
    exits.rouse()


def _waits(exits: Exits) -> bool:
    began = time.monotonic()
    exits.wait(0.05)
    return time.monotonic() - began < 0.05
