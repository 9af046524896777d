"""What a worker process needs to work with its test: words on stdout, orders on stdin, and the referee's log."""

from __future__ import annotations

import os
import sys
import time


def say(*words: object) -> None:
    """Tell the test something: one line, in one write."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def hear() -> str:
    """Wait for the test's next order; the test being gone ends the worker."""
    line = sys.stdin.readline()
    if not line:
        os._exit(3)
    return line.strip()


class Log:
    """An append-only log of hold intervals.

    A start is written after the slot was got and an end before it is given back, so what the log shows is never more
    than what was held, and any overlap in it was real.
    """

    def __init__(self, path: str | None = None) -> None:
        self._path = path or os.environ["REFEREE_LOG"]
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)

    def start(self, holder: object) -> None:
        os.write(self._fd, f"start {time.monotonic_ns()} {holder}\n".encode())

    def end(self, holder: object) -> None:
        os.write(self._fd, f"end {time.monotonic_ns()} {holder}\n".encode())

    def until_began(self, number: int) -> None:
        """Wait until as many holds have begun; if nobody ends before, they were all held at once."""
        while self._began() < number:
            time.sleep(0.002)

    def _began(self) -> int:
        with open(self._path, encoding="utf-8") as log:
            return sum(line.startswith("start") for line in log)
