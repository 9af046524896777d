"""Real processes that a test leads by the hand, a line at a time, so that nothing waits by sleeping."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from children import await_exit
from places import IMPORTABLE


class Helper:
    """A Python process that runs ``code``; it says lines with `print` (flushed), and hears lines with `input`."""

    def __init__(self, code: str, *arguments: object, pass_fds: tuple[int, ...] = ()) -> None:
        environment = {**os.environ, "PYTHONPATH": IMPORTABLE}
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            pass_fds=pass_fds,
        )
        self.pid = self.process.pid

    def hear(self) -> str:
        """The next line it says; "" once it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Kill it, and return when it has ended and been waited for."""
        self.process.kill()
        self.process.wait()

    def become_a_zombie(self) -> None:
        """SIGKILL; returns when it has ended, unwaited for."""
        self.process.send_signal(signal.SIGKILL)
        await_exit(self.pid)


@contextmanager
def helper(code: str, *arguments: object, pass_fds: tuple[int, ...] = ()) -> Iterator[Helper]:
    """A `Helper` that doesn't outlive the block."""
    started = Helper(code, *arguments, pass_fds=pass_fds)
    with started.process:
        try:
            yield started
        finally:
            started.process.kill()


def ended_pid() -> int:
    """The pid of a process that has just ended."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        pass
    return process.pid
