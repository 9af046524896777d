"""A terminal with an interactive bash on it: real job control, driven by typing and by reading the screen."""

from __future__ import annotations

import fcntl
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

# The shell must lead a session that owns the terminal, or it has no job control.
_BECOME_SHELL = """
import fcntl, os, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
"""
DEADLINE = 60.0


class Terminal:
    def __init__(self, env: dict[str, str]) -> None:
        if shutil.which("bash") is None:
            pytest.skip("needs bash for its job control")
        self._master, slave = os.openpty()
        # No echo: the screen shows what programs say, never what was typed.
        attributes = termios.tcgetattr(slave)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        self.shell = subprocess.Popen(
            [sys.executable, "-c", _BECOME_SHELL],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**env, "PS1": "", "PS2": "", "TERM": "dumb", "HISTFILE": "/dev/null"},
        )
        os.close(slave)
        self._unread = ""
        self.type("echo shell-$((1+1))\n")
        self.expect("shell-2")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Read on until ``pattern`` appears; what stands before its end is not looked at again."""
        end = time.monotonic() + DEADLINE
        while (match := re.search(pattern, self._unread)) is None:
            if not select.select([self._master], [], [], max(0.0, end - time.monotonic()))[0]:
                raise AssertionError(f"{pattern!r} did not appear; the screen says {self._unread!r}")
            self._unread += os.read(self._master, 65536).decode(errors="replace")
        self._unread = self._unread[match.end() :]
        return match

    def wait_for_a_job_in_the_foreground(self) -> None:
        """Before a key is typed for it: `fg` says what it does a moment before it does it."""
        while os.tcgetpgrp(self._master) == self.shell.pid:
            pass  # pytest's own time-out ends this

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = -1

    def close(self) -> None:
        if self._master >= 0:
            self.hang_up()
        try:
            os.killpg(self.shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.shell.wait()
