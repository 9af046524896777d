"""Processes under measurement: started, led through pipes, and gone when the block is left, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from .limiters import load

SCRIPTS = Path(__file__).resolve().parent.parent


class Worker:
    """One Python process that runs a module of this package."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"_bench.{module}", *map(str, arguments)],
            cwd=SCRIPTS,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def hear(self) -> Any:
        """The next thing it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended with {self._process.wait()}")
        return json.loads(line)

    def says_within(self, seconds: float) -> bool:
        """Whether it says something in time."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def say(self, line: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hang_up(self) -> None:
        """End its input."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def await_stop(self) -> None:
        """Wait until it has stopped itself."""
        found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if found is None or found.si_code != os.CLD_STOPPED:
            raise RuntimeError(f"{self._process.args!r} ended")

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class Fleet:
    """Workers that share one limiter in a directory of its own."""

    def __init__(self, base: str, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.directory = tempfile.mkdtemp(prefix=f"{name}-", dir=base)
        self._limiter = load(name)
        self._limiter.prepare(self.directory, limit)
        self._workers: list[Worker] = []

    def start(self, number: int, *mode: object) -> list[Worker]:
        """Start workers in that mode, all of them ready."""
        started = [Worker("worker", self.name, self.directory, self.limit, *mode) for _ in range(number)]
        self._workers += started
        for worker in started:
            assert worker.hear() == "ready"
        return started

    def begin(self, workers: list[Worker], apart: float) -> None:
        """Let them begin, ``apart`` seconds one after another."""
        first = time.monotonic() + 0.1
        for number, worker in enumerate(workers):
            worker.say(first + number * apart)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            with worker:
                pass
        self._limiter.clear(self.directory)
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def scratch(base: str) -> Iterator[str]:
    """A directory for one run."""
    directory = tempfile.mkdtemp(dir=base)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """One on loopback that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def clean_environment(**more: str) -> dict[str, str]:
    """The caller's environment without what it says to leasecap; and bytecode is kept, as an installation has it."""
    unwanted = ("LEASECAP_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)} | more
