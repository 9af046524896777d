"""What somebody may plant in ``feedback/``: what hides the state is an error that names it, the rest fails nobody."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from pathlib import Path

import pytest
from commands import run, until
from insides import file_store
from planted import PLANTED

import leasecap
from leasecap._errors import StoreError
from leasecap._feedback.adaptive import Report
from leasecap._feedback.state import Clock
from leasecap._host.directory import Directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DEEP = b"[" * 100_000

THINGS: dict[str, Callable[[Path], object]] = {
    **PLANTED,
    "deeply nested JSON": lambda path: path.write_bytes(DEEP),
    "a deep value": lambda path: path.write_bytes(b'{"version": 1, "pause": ' + b"[" * 900 + b"]" * 900 + b"}"),
    "another shape": lambda path: path.write_bytes(b"[1]"),
    "nothing": lambda path: path.write_bytes(b""),
    "a full directory": lambda path: (path / "more").mkdir(parents=True),
}


@pytest.fixture
def feedback(root: Path) -> Path:
    """The directory, of a pool "p" of eight slots."""
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.p]\nlimit = 8\n")
    path = Path(file_store("p").directory.full("feedback"))
    path.mkdir()
    return path


def assert_all_say_what_is_wrong(path: Path) -> None:
    with pytest.raises(StoreError, match="leasecap resume p") as caught:
        leasecap.try_acquire("p")
    assert caught.value.path == str(path)
    assert "pool 'p'" in str(caught.value)
    for arguments in (("report", "p", "--status", "429"), ("pause", "p", "1h"), ("run", "-p", "p", "--", "true")):
        done = run(*arguments)
        assert done.returncode in (1, 125), arguments
        assert str(path) in done.stderr and "leasecap resume p" in done.stderr
        assert "Traceback" not in done.stderr
    shown = run("status")
    assert shown.returncode == 1 and shown.stderr == ""
    assert "leasecap resume p" in shown.stdout
    assert str(path) in str(leasecap.status("p").pools[0].error)


def assert_resume_mends(name: str) -> None:
    done = run("resume", "p")
    assert (done.returncode, done.stderr) == (0, ""), name
    assert "begins anew" in done.stdout
    assert run("run", "-p", "p", "--", "true").returncode == 0
    leasecap.report("p", 429)
    assert leasecap.status("p").pools[0].limit == 6


@pytest.mark.posix("OS locks")
@pytest.mark.parametrize("name", THINGS)
def test_planted_state_is_an_error_that_names_it_until_resume(feedback: Path, name: str) -> None:
    THINGS[name](feedback / "state.json")
    assert_all_say_what_is_wrong(feedback / "state.json")
    assert_resume_mends(name)


@pytest.mark.posix("OS locks")
@pytest.mark.parametrize("name", ["a file", *(name for name in PLANTED if name != "a directory")])
def test_planted_feedback_is_an_error_that_names_it_until_resume(feedback: Path, name: str) -> None:
    feedback.rmdir()
    if name == "a file":
        feedback.write_bytes(b"precious")
    else:
        PLANTED[name](feedback)
    assert_all_say_what_is_wrong(feedback)
    assert_resume_mends(name)


@pytest.mark.posix("OS locks")
def test_link_to_a_directory_in_place_of_feedback_is_not_written_to(feedback: Path, tmp_path: Path) -> None:
    feedback.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    feedback.symlink_to(elsewhere)
    assert_all_say_what_is_wrong(feedback)
    assert not list(elsewhere.iterdir())
    assert_resume_mends("a link")


def test_unreadable_state_is_an_error_that_names_it(feedback: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Directory, name: str, limit: int) -> bytes:
        if name == "feedback/state.json":  # root may read anything
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(self, name, limit)

    real = Directory.read
    monkeypatch.setattr(Directory, "read", refuse)
    with pytest.raises(StoreError, match="leasecap resume p") as caught:
        leasecap.try_acquire("p")
    assert caught.value.path == str(feedback / "state.json")
    with pytest.raises(StoreError, match="leasecap resume p"):
        leasecap.report("p", 429)
    assert "leasecap resume p" in str(leasecap.status("p").pools[0].error)


def a_report(**changes: object) -> bytes:
    report = {**Report("quota", "a used-up quota")._asdict(), **changes}
    return json.dumps({"report": report, "made": Clock(None, 0.0, 0.0)._asdict()}).encode()


REPORTS: dict[str, Callable[[Path], object]] = {
    **THINGS,
    "a time beyond numbers": lambda path: path.write_bytes(a_report(retry_after=1e308)),
    "a huge number": lambda path: path.write_bytes(a_report(granted=10**400)),
    "a long reason": lambda path: path.write_bytes(a_report(why="x" * 10_000)),
    "a pause into the past": lambda path: path.write_bytes(a_report(retry_after=-5.0)),
    "more jitter than there is": lambda path: path.write_bytes(a_report(jitter=1e9)),
}


@pytest.mark.posix("OS locks")
@pytest.mark.parametrize("name", REPORTS)
def test_planted_report_fails_nobody_and_is_told_once(
    feedback: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    planted = feedback / f"{1:016x}-{'0' * 16}"
    REPORTS[name](planted)
    assert leasecap.status("p").pools[0].error is None
    assert os.path.lexists(planted), "status writes nothing"
    with caplog.at_level(logging.WARNING, "leasecap"):
        for _ in range(3):
            leasecap.acquire("p", timeout=0).release()
        until(lambda: caplog.messages)
    assert [message for message in caplog.messages if str(planted) in message] == caplog.messages
    assert len(caplog.messages) == 1
    assert not os.path.lexists(planted)
    done = run("report", "p", "--status", "429")
    assert (done.returncode, done.stderr) == (0, "")


def test_only_what_was_planted_is_told(feedback: Path, caplog: pytest.LogCaptureFixture) -> None:
    (feedback / "0").mkdir()
    for number in range(3):
        (feedback / f"1-{number}").write_bytes(a_report(kind="neutral"))
    with caplog.at_level(logging.WARNING, "leasecap"):
        leasecap.acquire("p", timeout=0).release()
        until(lambda: not [thread for thread in threading.enumerate() if thread.name == "leasecap-warn"])
    assert len(caplog.messages) == 1 and "/0 is nothing" in caplog.messages[0]


def test_report_of_a_kind_from_the_future_is_neutral(feedback: Path) -> None:
    (feedback / "report").write_bytes(a_report(kind="weather", more=1))
    leasecap.acquire("p", timeout=0).release()
    assert os.listdir(feedback) == []


@pytest.mark.parametrize(
    "name", ["a full directory", *(name for name in PLANTED if name not in ("a symlink", "a socket"))]
)
def test_planted_mark_fails_nobody(feedback: Path, root: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    (root / "config.toml").write_text("[pools.p]\nlimit = 1\ncooldown = 0.01\n")
    marks = [feedback / f"cooling-{end}-{'0' * 40}" for end in (f"{1:016x}", f"{2**62:016x}", "x" * 16)]
    for mark in marks:
        THINGS[name](mark)
    with caplog.at_level(logging.WARNING, "leasecap"):
        for _ in range(3):
            leasecap.acquire("p", timeout=5).release()
    assert not [mark for mark in marks if os.path.lexists(mark)]
    aside = [name for name in os.listdir(feedback) if "." in name]
    assert len(aside) == (3 if "directory" in name else 0), "moved out of the way once"


def test_what_cannot_be_cleared_away_is_passed_over(
    feedback: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Directory, *names: str) -> None:
        if "planted" in names[0]:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        real(self, *names)

    (feedback / "planted").mkdir()
    real = Directory.rename
    monkeypatch.setattr(Directory, "rename", refuse)
    store = file_store("p")
    with caplog.at_level(logging.WARNING, "leasecap"):
        for _ in range(3):
            leasecap.acquire("p", timeout=0).release()
        until(lambda: caplog.messages)
    assert len(caplog.messages) == 1 and "passed over" in caplog.messages[0]
    lessons = store.snapshots.feedback()
    assert lessons is not None and lessons.silent
    assert (feedback / "planted").is_dir()


def test_report_that_cannot_be_opened_now_is_kept(feedback: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Directory, name: str, limit: int) -> bytes:
        if "report" in name:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(self, name, limit)

    (feedback / "report").write_bytes(a_report())
    real = Directory.read
    monkeypatch.setattr(Directory, "read", fail)
    leasecap.acquire("p", timeout=0).release()
    assert (feedback / "report").exists()
    monkeypatch.undo()
    monkeypatch.setenv("LEASECAP_HOME", str(feedback.parents[2]))
    assert leasecap.try_acquire("p") is None, "a used-up quota"
