"""Who hears what is said to a process: the one thread that waits, or a thread for all of them."""

from __future__ import annotations

import gc
import math
import os
import selectors
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from listening import Listening

from leasecap._host.deferred_signals import DeferredSignals
from leasecap._wait.blocking import ThreadWaiter


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    found = Listening(tmp_path)
    yield found
    found.watch.close()
    found.root.close()


def waiting(waiter: ThreadWaiter, over: threading.Event) -> threading.Thread:
    """A thread that waits, and says when that is over."""

    def wait() -> None:
        waiter.wait(600.0, DeferredSignals())
        over.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


@pytest.mark.posix("named pipes")
def test_who_waits_alone_hears_by_itself_and_needs_no_thread(listening: Listening) -> None:
    waiter = ThreadWaiter()
    listening.on_wake = waiter.wake
    before = set(threading.enumerate())
    assert waiter.listen(listening.watch)
    listening.ring()
    waiter.wait(60.0, DeferredSignals())
    assert listening.said == [b"a ticket\n"]
    assert set(threading.enumerate()) <= before  # those of earlier tests may end meanwhile
    waiter.wait(0.0, DeferredSignals())  # and is not woken by it once more
    assert not waiter._asleep.acquire(blocking=False)
    listening.watch.stop()
    assert os.listdir(listening.root.full("wake")) == []


def test_who_waits_alone_is_woken_by_another_thread_of_its_process(listening: Listening) -> None:
    waiter, waits, over = ThreadWaiter(), threading.Event(), threading.Event()
    assert waiter.listen(listening.watch)
    receive = listening.watch.receive

    def telling(timeout: float, interrupts: DeferredSignals) -> object:
        waits.set()  # from here on a wake-up has to end the poll, or keep it from beginning
        return receive(timeout, interrupts)

    listening.watch.receive = telling  # type: ignore[assignment, method-assign]
    thread = waiting(waiter, over)
    assert waits.wait(60)
    waiter.wake()
    assert over.wait(60)
    thread.join()
    listening.watch.stop()


def test_a_wake_up_before_the_wait_is_not_lost(listening: Listening) -> None:
    waiter = ThreadWaiter()
    assert waiter.listen(listening.watch)
    waiter.wake()
    waiter.wait(600.0, DeferredSignals())
    listening.watch.stop()


@pytest.mark.posix("named pipes")
def test_who_hears_alone_waits_on_when_what_comes_is_for_its_process(listening: Listening) -> None:
    waiter = ThreadWaiter()
    listening.on_wake = lambda: waiter.wake() if len(listening.said) > 1 else listening.ring()
    assert waiter.listen(listening.watch)
    listening.ring()
    waiter.wait(600.0, DeferredSignals())
    assert listening.said == 2 * [b"a ticket\n"]
    listening.watch.stop()


@pytest.mark.posix("named pipes")
def test_who_hears_alone_leaves_it_to_a_thread_when_a_second_one_waits(listening: Listening) -> None:
    waiter, second, waits, woken = ThreadWaiter(), ThreadWaiter(), threading.Event(), threading.Event()
    assert waiter.listen(listening.watch)
    receive = listening.watch.receive

    def telling(timeout: float, interrupts: DeferredSignals) -> object:
        waits.set()
        return receive(timeout, interrupts)

    listening.watch.receive = telling  # type: ignore[assignment, method-assign]

    def wait() -> None:
        while not listening.said:
            waiter.wait(600.0, DeferredSignals())
        woken.set()

    def wake() -> None:
        waiter.wake()
        second.wake()

    listening.on_wake = wake
    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    assert waits.wait(60)
    assert second.listen(listening.watch)
    assert "leasecap-wake" in threads()
    listening.ring()
    second.wait(600.0, DeferredSignals())
    assert woken.wait(60)
    thread.join()
    assert listening.said == [b"a ticket\n"]
    listening.watch.stop()
    listening.watch.stop()


class LookOut:
    """Is due at once, ``most`` times, and calls ``then`` when it runs for the last time."""

    def __init__(self, most: int, then: Callable[[], None]) -> None:
        self.due = -math.inf
        self._left = most
        self._then = then

    def run(self, now: float) -> None:
        self._left -= 1
        if not self._left:
            self.due = math.inf
            self._then()


@pytest.mark.posix("named pipes")
def test_who_hears_alone_runs_the_look_outs_that_are_due_and_waits_on(listening: Listening) -> None:
    waiter = ThreadWaiter()
    listening.on_wake = waiter.wake
    assert waiter.listen(listening.watch)
    listening.watch.attend(LookOut(3, listening.ring))
    waiter.wait(600.0, DeferredSignals())
    assert listening.said == [b"a ticket\n"]
    listening.watch.stop()


@pytest.mark.posix("named pipes")
def test_a_look_out_that_wakes_the_one_who_runs_it_ends_its_wait(listening: Listening) -> None:
    waiter = ThreadWaiter()
    assert waiter.listen(listening.watch)
    listening.watch.attend(LookOut(1, waiter.wake))  # it has granted that one's ticket a slot
    waiter.wait(600.0, DeferredSignals())
    listening.watch.stop()


@pytest.mark.posix("named pipes")
def test_who_hears_alone_looks_at_once_when_its_descriptors_were_closed(listening: Listening) -> None:
    waiter = ThreadWaiter()
    listening.on_wake = waiter.wake
    assert waiter.listen(listening.watch)
    assert listening.watch._receiver is not None
    os.close(listening.watch._receiver.pipe)
    waiter.wait(600.0, DeferredSignals())
    listening.ring()  # there is a pipe again
    waiter.wait(600.0, DeferredSignals())
    assert listening.said == [b"a ticket\n"]
    listening.watch.stop()


@pytest.mark.posix("named pipes")
def test_where_no_thread_is_to_be_had_the_second_one_looks_by_itself(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoThread(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    alone = ThreadWaiter()
    assert alone.listen(listening.watch)
    monkeypatch.setattr(threading, "Thread", NoThread)
    assert not ThreadWaiter().listen(listening.watch)
    listening.on_wake = alone.wake
    listening.ring()
    alone.wait(600.0, DeferredSignals())
    assert listening.said == [b"a ticket\n"]
    listening.watch.stop()
    assert not listening.watch.start(), "nor one that needs the thread"
    assert os.listdir(listening.root.full("wake")) == []


@pytest.mark.posix("named pipes")
def test_a_watch_that_is_closed_ends_the_wait_of_who_hears_alone(listening: Listening) -> None:
    waiter, waits, over = ThreadWaiter(), threading.Event(), threading.Event()
    assert waiter.listen(listening.watch)
    receiver = listening.watch._receiver
    assert receiver is not None
    receive = receiver.receive

    def telling(timeout: float | None = None) -> object:
        waits.set()
        return receive(timeout)

    receiver.receive = telling  # type: ignore[assignment, method-assign]
    thread = waiting(waiter, over)
    assert waits.wait(60)
    listening.watch.close()
    assert over.wait(60)
    thread.join()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(receiver.pipe)


@pytest.mark.linux("epoll and poll")
@pytest.mark.parametrize("lacking", ["epoll", "poll"])
def test_an_ear_hears_with_whatever_selector_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    # Neither is there after gevent's monkey.patch_all(), nor epoll on macOS.
    others = {"epoll": selectors.PollSelector, "poll": selectors.SelectSelector}
    monkeypatch.setattr(selectors, "DefaultSelector", others[lacking])
    listening, woken = Listening(tmp_path), threading.Event()
    listening.on_wake = woken.set
    assert listening.watch.start()
    read, write = os.pipe()
    ended = threading.Event()
    assert listening.watch.add(read, ended.set)
    os.close(write)  # now it can be read from, as a handle on a process that has exited
    assert ended.wait(60)
    listening.ring()
    assert woken.wait(60)
    listening.watch.drop(read)
    listening.watch.stop()
    listening.root.close()


def test_an_ear_without_a_descriptor_left_leaves_its_waiter_polling(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(24, "too many open files")

    monkeypatch.setattr(selectors, "DefaultSelector", refuse)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    assert listening.watch.start(alone=True)
    assert not listening.watch.reaches()
    assert len(os.listdir("/proc/self/fd")) <= before
    listening.watch.stop()
    assert os.listdir(listening.root.full("wake")) == []
