"""Asking the provider for its count: an answer counts from when it comes, and what never comes costs nothing twice."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from children import has_ended
from commands import environment, until
from insides import file_store

import leasecap
from leasecap._feedback.adaptive import FRESH_ANSWER
from leasecap._feedback.state import Usage
from leasecap._file_store.file_store import FileStore
from leasecap._usage import command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from leasecap._feedback.state import State
    from leasecap._file_store.store import Store

INTERVAL = "usage_interval = 0.1\n"


def configure(root: Path, *command: str, more: str = "", limit: int = 1) -> Store:
    root.mkdir(mode=0o700, exist_ok=True)
    usage = f"usage_command = {list(command)!r}\n" if command else ""
    (root / "config.toml").write_text(f"[pools.p]\nlimit = {limit}\n{usage}{more}")
    return file_store("p")


def error_of(pool: str = "p") -> str | None:
    feedback = leasecap.status(pool).pools[0].feedback
    return None if feedback is None else feedback.usage_error


def questions() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "leasecap-usage"]


def answered(store: Store) -> bool:
    """Ask until a question is over that was asked after this was called."""
    assert store.feedback is not None
    files = store.feedback.files
    before = files.read(files.clock()).usage

    def over() -> bool:
        usage = files.read(files.clock()).usage
        if usage is not None and usage.answered is not None and (before is None or usage.asked > before.asked):
            return True
        store.ask()  # only now: it takes the place of the answer to the last one
        return False

    until(over)
    return True


@pytest.fixture
def door() -> Iterator[threading.Event]:
    """What a callable waits for; opened in the end."""
    event = threading.Event()
    yield event
    event.set()
    until(lambda: not questions())


def test_answer_slower_than_the_interval_lets_who_waits_in(root: Path) -> None:
    configure(root, more=INTERVAL)

    def slow() -> int:
        time.sleep(0.4)
        return 0

    leasecap.set_usage("p", slow)
    with leasecap.acquire("p", timeout=20):
        pass


def test_answer_that_is_noted_late_counts_from_when_it_came(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(root, more=INTERVAL)
    counts = [0]
    update = FileStore.update_feedback

    def stopped(store: FileStore, change: Callable[[State, float], State], *, anew: bool = False) -> bool:
        if change.__name__ == "note":
            monkeypatch.setattr(FileStore, "update_feedback", update)
            counts.append(1)  # the requests of another machine begin
            time.sleep(FRESH_ANSWER + 0.2)
        return update(store, change, anew=anew)

    monkeypatch.setattr(FileStore, "update_feedback", stopped)
    leasecap.set_usage("p", lambda: counts[-1])
    with pytest.raises(leasecap.AcquireTimeout):
        leasecap.acquire("p", timeout=3)
    assert len(counts) == 2


def test_blocked_callable_costs_one_thread_and_lets_all_in(root: Path, door: threading.Event) -> None:
    store = configure(root, more=INTERVAL + "usage_timeout = 0.3\n")
    calls: list[int] = []

    def block() -> int:
        calls.append(1)
        door.wait()
        return 0

    leasecap.set_usage("p", block)
    for _ in range(5):
        leasecap.acquire("p", timeout=20).release()
        assert answered(store)
    assert len(calls) == len(questions()) == 1
    assert "still out" in str(error_of())
    door.set()
    until(lambda: not questions())
    assert answered(store) and error_of() is None and len(calls) == 2


def test_blocked_callable_beside_one_that_was_answered_lets_all_in(root: Path, door: threading.Event) -> None:
    store = configure(root, more=INTERVAL + "usage_timeout = 0.3\n")
    leasecap.set_usage("p", lambda: int(door.wait()))
    store.ask()
    until(questions)
    assert store.feedback is not None
    files = store.feedback.files
    clock = files.clock()
    old = Usage(asked=clock.boot - 9, answered=clock.boot - 8, in_flight=0, error=None, spent=True)
    files.write(files.read(clock)._replace(usage=old), clock)  # another process asked, and has ended
    with leasecap.acquire("p", timeout=20):
        pass


def test_try_acquire_waits_once_for_a_provider_that_never_answers(root: Path, door: threading.Event) -> None:
    configure(root, more=INTERVAL + "usage_timeout = 0.3\n")
    leasecap.set_usage("p", lambda: int(door.wait()))
    for _ in range(3):
        lease = leasecap.try_acquire("p")
        assert lease is not None
        lease.release()


def test_fork_of_a_process_whose_callable_blocks_asks_itself(root: Path, door: threading.Event) -> None:
    store = configure(root, more=INTERVAL + "usage_timeout = 0.3\n")
    leasecap.set_usage("p", lambda: int(door.wait()))
    store.ask()
    until(questions)
    pid = os.fork()
    if not pid:
        try:
            leasecap.set_usage("p", lambda: 0)
            leasecap.acquire("p", timeout=20).release()
            os._exit(0 if answered(file_store("p")) and error_of() is None else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def leave() -> int:
    sys.exit("enough")


def odd() -> int:
    raise Odd


@pytest.mark.parametrize(
    "count",
    [lambda: -1, lambda: True, lambda: 10**5000, lambda: 10**300, lambda: "3", lambda: None, lambda: 0.5, leave, odd],
    ids=["negative", "bool", "huge", "large", "text", "None", "float", "exit", "odd"],
)
def test_callable_that_gives_no_count_is_no_information_and_told_once(
    root: Path, count: object, caplog: pytest.LogCaptureFixture
) -> None:
    store = configure(root, more=INTERVAL)
    leasecap.set_usage("p", count)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "leasecap"):
        for _ in range(3):
            assert answered(store)
        leasecap.acquire("p", timeout=20).release()
        until(lambda: not questions())
    assert error_of()
    assert len(caplog.messages) == 1 and "no usage information for pool 'p'" in caplog.messages[0]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("sh", "-c", "exit 3"), "ended with status 3"),
        (("sh", "-c", "kill -9 $$"), "ended with status -9"),
        (("echo", "-1"), "which is no count"),
        (("echo", "three"), "which is no count"),
        (("true",), "which is no count"),
        (("/nowhere/to/be/found",), "No such file"),
        (("yes", "1"), "more than 4096 bytes"),
        (("head", "-c", "1000000000", "/dev/zero"), "more than 4096 bytes"),
        (("sh", "-c", "exec >&-; sleep 600"), "no answer within"),
    ],
)
def test_command_that_gives_no_count_is_no_information_and_told_once(
    root: Path,
    command: tuple[str, ...],
    why: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    class Popen(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            asked.append(self.pid)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    store = configure(root, *command, more=f"{INTERVAL}usage_timeout = {1 if why == 'no answer within' else 30}\n")
    with caplog.at_level(logging.WARNING, "leasecap"):
        for _ in range(2):
            assert answered(store)
            assert why in str(error_of())
        leasecap.acquire("p", timeout=20).release()
        until(lambda: not questions())
    assert len(caplog.messages) == 1 and why in caplog.messages[0]
    assert asked or why == "No such file"
    for pid in asked:
        with pytest.raises(ChildProcessError):  # it was waited for; another test's children don't matter
            os.waitpid(pid, os.WNOHANG)


def test_command_is_ended_with_the_process_that_asked(root: Path, tmp_path: Path) -> None:
    started = tmp_path / "started"
    configure(root, "sh", "-c", f"echo $$ > {started}; exec sleep 600", more="usage_timeout = 600\n")
    code = "import leasecap, sys; leasecap.acquire('p', timeout=3)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert "AcquireTimeout" in done.stderr
    until(lambda: has_ended(int(started.read_text())))


def test_command_that_leaves_a_child_behind_is_heard_and_ended_with_it(root: Path, tmp_path: Path) -> None:
    left = tmp_path / "left"
    store = configure(root, "sh", "-c", f"sleep 600 & echo $! > {left}; echo 3", more="usage_timeout = 60\n")
    assert answered(store)
    assert error_of() is None
    feedback = leasecap.status("p").pools[0].feedback
    assert feedback is not None and feedback.usage == 3
    until(lambda: has_ended(int(left.read_text())))


def test_command_that_cannot_be_ended_is_started_once(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(group: int, number: int) -> None:
        raise PermissionError

    real, started = os.killpg, tmp_path / "started"
    monkeypatch.setattr(os, "killpg", refuse)
    monkeypatch.setattr(command, "_ENDS_WITHIN", 0.05)
    script = f"echo $$ >> {started}; exec sleep 600"
    store = configure(root, "sh", "-c", script, more=INTERVAL + "usage_timeout = 0.2\n")
    for _ in range(4):
        assert answered(store)
        leasecap.acquire("p", timeout=20).release()
    until(lambda: not questions())
    until(lambda: started.exists() and started.read_text())
    pids = [int(pid) for pid in started.read_text().split()]
    assert len(pids) == 1
    assert f"pid {pids[0]}) can't be ended" in str(error_of())
    monkeypatch.setattr(os, "killpg", real)
    until(lambda: answered(store) and has_ended(pids[0]))
    until(lambda: answered(store) and len(started.read_text().split()) > 1)
    until(lambda: not questions())
    for pid in map(int, started.read_text().split()):
        with pytest.raises(ChildProcessError):  # it was waited for; another test's children don't matter
            os.waitpid(pid, os.WNOHANG)
