"""What each kind of wake-up must do: the named pipe, and the plain file that watchdog watches."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import no_pipes
import pytest
from commands import status, until
from listening import PROCESS, Listening

import leasecap
from leasecap._file_store import watched_file
from leasecap._file_store.marks import ASKED, DEAF
from leasecap._file_store.receiver import Receiver
from leasecap._file_store.wakeups import Watch
from leasecap._host.deferred_signals import DeferredSignals
from leasecap._host.directory import Directory
from leasecap._host.file_changes import FileChanges
from leasecap._runtime import runtime
from leasecap._wait.blocking import ThreadWaiter


@pytest.fixture(params=["pipe", *no_pipes.WAYS])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "pipe":
        no_pipes.here(monkeypatch, no_pipes.WAYS[request.param])
    monkeypatch.setattr(watched_file, "_START_AFTER", 0.0)
    return str(request.param)


@pytest.fixture
def listening(tmp_path: Path, kind: str) -> Iterator[Listening]:
    found = Listening(tmp_path)
    yield found
    found.watch.close()
    until(lambda: not observers())
    found.root.close()


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listening]:
    """One that has a plain file."""
    no_pipes.here(monkeypatch, no_pipes.WAYS["refused"])
    monkeypatch.setattr(watched_file, "_START_AFTER", 0.0)
    found = Listening(tmp_path)
    yield found
    found.watch.close()
    until(lambda: not observers())
    found.root.close()


def observers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "leasecap-observer" or _is_watchdogs(thread)]


def _is_watchdogs(thread: threading.Thread) -> bool:
    # The inotify instance stays for whoever in the process wants to watch next.
    return type(thread).__module__.startswith("watchdog") and "InotifyFD" not in type(thread).__name__


def place(listening: Listening) -> Path:
    return Path(listening.root.full(f"wake/{PROCESS}"))


def test_wakeup_ends_a_wait(listening: Listening) -> None:
    waiter = ThreadWaiter()
    listening.on_wake = waiter.wake
    assert waiter.listen(listening.watch)
    until(listening.watch.reaches)
    before = len(listening.said)
    listening.ring()
    while len(listening.said) == before:
        waiter.wait(600.0, DeferredSignals())
    listening.watch.stop()


def test_wakeup_reaches_all_who_wait(listening: Listening) -> None:
    waiters = [ThreadWaiter() for _ in range(3)]
    for waiter in waiters:
        assert waiter.listen(listening.watch)
    until(listening.watch.reaches)
    said = len(listening.said)

    def wake_all() -> None:
        for waiter in waiters:
            waiter.wake()

    listening.on_wake = wake_all
    listening.ring()
    for waiter in waiters:
        waiter.wait(600.0, DeferredSignals())
    until(lambda: len(listening.said) > said)
    for _ in waiters:
        listening.watch.stop()


def test_wakeup_is_gone_when_nobody_waits(listening: Listening) -> None:
    assert listening.watch.start(alone=True)
    until(listening.watch.reaches)
    assert os.listdir(place(listening)) == [".wakeup"]
    listening.watch.stop()
    assert os.listdir(listening.root.full("wake")) == []
    until(lambda: not observers())


@pytest.mark.posix("OS locks")
def test_wakeup_shows_that_its_process_lives(listening: Listening) -> None:
    assert listening.watch.start(alone=True)
    until(listening.watch.reaches)
    assert (
        listening.root.has_receiver(f"wake/{PROCESS}/.wakeup") is True
    )  # a killed one's not: `processes/test_wakeups.py`


def test_wakeup_tidied_away_is_made_anew(listening: Listening) -> None:
    assert listening.watch.start(alone=True)
    until(listening.watch.reaches)
    shutil.rmtree(listening.root.full("wake"))
    until(lambda: listening.watch.is_there() and listening.watch.reaches())
    assert os.listdir(place(listening)) == [".wakeup"]
    listening.watch.stop()


@pytest.mark.posix("named pipes")
def test_pipe_that_is_removed_alone_is_made_anew(listening: Listening) -> None:
    assert listening.watch.start(alone=True)
    if not listening.watch.runs_lookouts:
        pytest.skip("it is a plain file here")
    os.unlink(place(listening) / ".wakeup")
    assert listening.watch.is_there()
    assert os.listdir(place(listening)) == [".wakeup"]
    before = os.stat(place(listening)).st_ino
    assert listening.watch.is_there()
    assert os.stat(place(listening)).st_ino == before
    listening.watch.stop()


@pytest.mark.posix("named pipes")
def test_pipe_is_its_own_while_it_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a thread that receives meanwhile would take it for closed by the program, and end."""
    pipes = []
    for name in "ab":
        os.mkfifo(tmp_path / name)
        pipes.append(os.open(tmp_path / name, os.O_RDWR | os.O_NONBLOCK))
    receiver = Receiver(pipes[0])
    replace, own = os.dup2, []

    def seen(*about: Any, **more: Any) -> int:
        own.append(receiver.is_own())
        found = replace(*about, **more)
        own.append(receiver.is_own())
        return found

    monkeypatch.setattr(os, "dup2", seen)
    receiver.renew(pipes[1])
    assert own == [True, True] and receiver.is_own()
    receiver.close()


def test_wakeup_starts_again_for_the_next_wait(listening: Listening) -> None:
    for _ in range(3):
        assert listening.watch.start(alone=True)
        until(listening.watch.reaches)
        listening.watch.stop()


# -- a plain file -----------------------------------------------------------------------------------------------------


def test_watched_file_is_not_there_before_it_pays(file: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_file, "_START_AFTER", 600.0)
    assert file.watch.start(alone=True)
    assert not file.watch.reaches()
    assert not file.watch.is_there()
    assert not observers()
    assert os.listdir(file.root.full("wake")) == []
    file.watch.stop()


def test_watched_file_says_that_all_are_to_look(file: Listening) -> None:
    assert file.watch.start(alone=True)
    until(file.watch.reaches)
    said = len(file.said)
    file.ring()
    until(lambda: len(file.said) > said)
    assert set(file.said) == {b"*\n"}
    file.watch.stop()


def test_watched_file_says_that_its_process_is_asked(file: Listening) -> None:
    assert file.watch.start(alone=True)
    until(file.watch.reaches)
    file.root.write(f"wake/{PROCESS}/{ASKED}", b"")
    file.ring()
    until(lambda: b"*\n?\n" in file.said)
    file.watch.stop()


def test_watched_file_takes_no_mark_for_a_change(file: Listening) -> None:
    assert file.watch.start(alone=True)
    until(file.watch.reaches)
    said = len(file.said)
    for mark in ("one", "two"):
        file.root.write(f"wake/{PROCESS}/{mark}", b"")
    file.ring()
    until(lambda: len(file.said) > said)
    assert len(file.said) - said <= 2  # made, or written to: of the file alone
    file.watch.stop()


@pytest.mark.parametrize("error", [OSError(24, "inotify instance limit reached"), RuntimeError, ImportError])
def test_watched_file_without_an_observer_is_none(
    file: Listening, monkeypatch: pytest.MonkeyPatch, error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    tried = threading.Event()

    def refuse(*about: object) -> None:
        tried.set()
        raise error

    monkeypatch.setattr(watched_file, "FileChanges", refuse)
    assert file.watch.start(alone=True)
    assert not file.watch.reaches()
    assert tried.wait(60)
    until(lambda: not observers())
    assert not file.watch.reaches()
    assert not file.watch.is_there()
    file.watch.stop()
    assert os.listdir(file.root.full("wake")) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.posix("named pipes")
@pytest.mark.parametrize(("error", "passes"), [(errno.EMFILE, True), (errno.ENFILE, True), (errno.EPERM, False)])
def test_a_process_that_was_out_of_descriptors_has_a_pipe_at_its_next_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, passes: bool
) -> None:
    listening = Listening(tmp_path)
    for _ in range(2):  # after the second wait the wake-up stays
        assert listening.watch.start(alone=True)
        listening.watch.stop()
    listening.watch.rest()

    def refuse(directory: Directory, name: str) -> int:
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "listen", refuse)
        assert listening.watch.start(alone=True)
        assert not listening.watch.runs_lookouts
        listening.watch.stop()
    assert listening.watch.start(alone=True)
    assert listening.watch.runs_lookouts == passes
    listening.watch.stop()
    listening.watch.close()
    listening.root.close()


def test_watched_file_is_tried_again(file: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[str] = []

    def first_refused(path: str, on_change: Callable[[str], None]) -> FileChanges:
        attempts.append(path)
        if len(attempts) == 1:
            raise OSError(24, "inotify instance limit reached")
        return FileChanges(path, on_change)

    monkeypatch.setattr(watched_file, "FileChanges", first_refused)
    monkeypatch.setattr(watched_file, "_RETRY_AFTER", 0.0)
    assert file.watch.start(alone=True)
    until(file.watch.reaches)
    file.watch.stop()


def test_watched_file_of_which_nothing_is_seen_is_not_relied_on(
    file: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = threading.Event()

    class Blind:
        def __init__(self, *about: object) -> None:
            made.set()

        def is_alive(self) -> bool:
            return True

        def stop(self) -> None: ...

    monkeypatch.setattr(watched_file, "FileChanges", Blind)
    assert file.watch.start(alone=True)
    assert not file.watch.reaches()
    assert made.wait(60)
    until(file.watch.is_there)
    assert not file.watch.reaches()
    file.watch.stop()


def test_watched_file_whose_wait_is_over_while_it_begins_leaves_nothing(
    file: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins, goes_on, ended = threading.Event(), threading.Event(), threading.Event()

    class Slow(FileChanges):
        def __init__(self, path: str, on_change: Callable[[str], None]) -> None:
            begins.set()
            assert goes_on.wait(60)
            super().__init__(path, on_change)

    monkeypatch.setattr(watched_file, "FileChanges", Slow)
    assert file.watch.start(alone=True)
    file.watch.reaches()
    assert begins.wait(60)

    def end() -> None:
        file.watch.stop()
        ended.set()

    threading.Thread(target=end, daemon=True).start()
    goes_on.set()
    assert ended.wait(60)
    until(lambda: not observers())
    assert os.listdir(file.root.full("wake")) == []


def test_watched_file_whose_wait_is_over_before_it_is_made_is_not_made(file: Listening) -> None:
    fork_lock = threading.Lock()
    watch = Watch(file.root, PROCESS, file.receive, fork_lock)
    assert watch.start(alone=True)
    with fork_lock:
        watch.reaches()  # has a thread begin, which comes no further
        watch.stop()
    until(lambda: not observers())
    assert os.listdir(file.root.full("wake")) == []


def test_who_polls_answers_a_mark_that_was_left_in_a_place_made_for_it(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_pipes.here(monkeypatch, no_pipes.WAYS["refused"])  # and no plain file is watched so soon
    monkeypatch.setattr(watched_file, "_START_AFTER", 600.0)
    notifier = runtime.root(str(root)).notifier
    with leasecap.acquire("p", limit=1):
        waits = threading.Thread(target=lambda: leasecap.acquire("p", borrow=False).release(), daemon=True)
        waits.start()
        until(lambda: status().waiting == 1 and bool(runtime.own.lookouts))
        (root / "wake").mkdir(exist_ok=True)
        assert notifier.marks.leave(DEAF, runtime.own.id)
        until(lambda: not notifier.marks.is_deaf(runtime.own.id))
    until(lambda: not waits.is_alive())


def test_watched_file_leaves_the_lookout_to_polls(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_pipes.here(monkeypatch, no_pipes.WAYS["refused"])
    monkeypatch.setattr(watched_file, "_START_AFTER", 0.0)
    notifier = runtime.root(str(root)).notifier

    def wait() -> None:
        leasecap.acquire("p", limit=1, borrow=False).release()

    threads = [threading.Thread(target=wait) for _ in range(2)]
    with leasecap.acquire("p", limit=1):
        threads[0].start()
        until(lambda: status().waiting == 1 and notifier.watch().reaches())
        threads[1].start()
        until(lambda: status().waiting == 2)
        until(lambda: len(runtime.own.lookouts) == 2)
        lookouts: set[Any] = set(runtime.own.lookouts.values())
        assert [lookout._watched for lookout in lookouts] == [False], "nobody else would run it"
    for thread in threads:
        thread.join()


@pytest.mark.linux("inotify")
def test_watched_files_descriptors_close_on_exec(file: Listening) -> None:
    assert file.watch.start(alone=True)
    until(file.watch.reaches)
    inherited = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if "inotify" in os.readlink(f"/proc/self/fd/{name}"):
                inherited.append(os.get_inheritable(int(name)))
        except OSError:
            pass
    assert inherited
    assert not any(inherited)
    file.watch.stop()
