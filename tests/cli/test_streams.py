"""The command line with standard streams that are closed, full, or pipes that nobody reads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import DEADLINE, PROGRAM, environment, run, start, status, until

import leasecap

HOLD = ("run", "-v", "-p", "p", "--limit", "1", "--")
PRINTING = [
    ["-h"],
    ["--version"],
    ["status"],
    ["status", "--json"],
    ["status", "-h"],
    ["limit"],
    ["limit", "anthropic"],
    ["limit", "anthropic", "4"],
    ["pause", "anthropic", "1s"],
    ["resume", "anthropic"],
]


def redirected(redirections: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``leasecap ARGUMENTS`` with a shell's redirections."""
    script = f'exec "$@" {redirections}'
    return subprocess.run(
        ["sh", "-c", script, "sh", *PROGRAM, *arguments],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def unread() -> int:
    """The end for writing of a pipe that is full, and whose other end is open: this process may not close it."""
    _kept, write = os.pipe()
    os.set_blocking(write, False)
    for size in (4096, 1):
        try:
            while True:
                os.write(write, b"." * size)
        except BlockingIOError:
            pass
    os.set_blocking(write, True)
    return write


def closed() -> int:
    """The end for writing of a pipe that nobody reads any more."""
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize(
    "redirections",
    ["2>&-", ">&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full", ">&- 2>/dev/full"],
)
@pytest.mark.parametrize(("end", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", -signal.SIGTERM)])
def test_run_ends_as_its_command_whatever_its_streams_are(redirections: str, end: str, code: int) -> None:
    done = redirected(redirections, *HOLD, "sh", "-c", end)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert status().in_flight == 0


@pytest.mark.parametrize("pipe", [closed, unread])
@pytest.mark.parametrize(("end", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", -signal.SIGTERM)])
def test_run_ends_as_its_command_though_nobody_reads_what_it_says(pipe: object, end: str, code: int) -> None:
    assert callable(pipe)
    stderr = pipe()
    done = subprocess.run(
        [*PROGRAM, *HOLD, "sh", "-c", end],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        timeout=DEADLINE,
    )
    assert done.returncode == code


def test_run_fails_with_its_own_status_though_it_cannot_say_why() -> None:
    assert redirected("2>/dev/full", "run", "-p", "p", "--limit", "0", "true").returncode == 125
    assert redirected("2>&-", "run", "-p", "p", "true").returncode == 125
    assert redirected("2>&-", *HOLD, "no-such-command-here").returncode == 127


def test_a_stream_that_is_closed_is_closed_for_the_command() -> None:
    script = "for fd in 0 1 2; do test ! -e /proc/$$/fd/$fd || exit 9; done"
    assert redirected("<&- >&- 2>&-", *HOLD, "sh", "-c", script).returncode == 0


def test_what_is_said_on_a_closed_stream_goes_into_no_file(root: Path) -> None:
    assert redirected(">&- 2>&-", *HOLD, "true").returncode == 0
    files = [path for path in root.rglob("*") if path.is_file()]
    assert files and not [path for path in files if b"leasecap:" in path.read_bytes()]


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
@pytest.mark.parametrize(("redirection", "why"), [(">/dev/full", "disk is full"), (">&-", "closed")])
def test_output_that_cannot_be_written_is_one_line_and_1(arguments: list[str], redirection: str, why: str) -> None:
    done = redirected(redirection, *arguments)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("leasecap: ") and why in line


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_closed_pipe_is_a_quiet_death_of_sigpipe(arguments: list[str]) -> None:
    stdout = closed()
    done = subprocess.run(
        [*PROGRAM, *arguments],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_release_without_stdin_asks_nobody() -> None:
    holder = start("run", "-p", "p", "--limit", "1", "--", "cat", stdin=subprocess.PIPE)
    until(lambda: status().in_flight == 1)
    done = redirected("<&-", "release", status().holders[0].id)
    assert done.returncode == 1
    assert "--yes" in done.stderr
    holder.communicate(timeout=DEADLINE)
    assert run("status").returncode == 0


ENDS_WHILE_A_THREAD_SAYS_SOMETHING = """
import os, sys, threading
from leasecap.cli import _streams
_streams.prepare()
_streams._Stderr._patience = 60  # longer than the end of the process
inside = threading.Event()
is_read = _streams._Stderr._is_read
def say_so(stream):
    inside.set()
    return is_read(stream)
_streams._Stderr._is_read = say_so
threading.Thread(target=print, args=("said",), kwargs={"file": sys.stderr}, daemon=True).start()
inside.wait()
"""


def test_a_process_ends_well_though_a_thread_is_saying_something() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(writer, b"-" * 4096)  # nobody reads it
    os.set_blocking(writer, True)
    ended = subprocess.run(
        [sys.executable, "-c", ENDS_WHILE_A_THREAD_SAYS_SOMETHING], stderr=writer, env=environment(), timeout=DEADLINE
    )
    os.close(writer)
    os.close(reader)
    assert ended.returncode == 0


@pytest.mark.linux("/dev/full")
def test_an_acquire_whose_answer_cannot_be_written_says_why_and_gives_the_slot_back() -> None:
    agent = str(os.getpid())
    ran = redirected(">/dev/full", "acquire", "-p", "p", "--limit", "1", "--for-pid", agent)
    assert ran.returncode == 1
    assert "the disk is full" in ran.stderr and "(None)" not in ran.stderr
    assert status().in_flight == 0


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8:strict"])
def test_letters_that_the_output_has_not_are_escaped(encoding: str) -> None:
    with leasecap.acquire("p", limit=1, label="caf\xe9 \u30e9"):
        done = run("status", env=environment(PYTHONIOENCODING=encoding), encoding=encoding.partition(":")[0])
    assert (done.returncode, done.stderr) == (0, "")
    assert ("caf\xe9 \u30e9" if encoding.startswith("utf") else "caf\xe9 \\u30e9") in done.stdout
