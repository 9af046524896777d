"""Real worker processes, and a referee outside the code under test who judges by their hold intervals."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from children import await_exit, await_stop
from no_pipes import WAYS, in_workers
from places import REPOSITORY, WORKERS
from stores import MEMORY, Store

import leasecap
from leasecap._config.seal import seal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

    from leasecap._status.read import PoolStatus

DEADLINE = 60.0
"""Seconds after which something that must happen counts as not happening; hardly any of it takes one."""


@dataclass(frozen=True)
class Interval:
    """One hold, in nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share."""

    holder: str
    start: int
    end: int


class Referee:
    """Reads hold intervals from the log that the workers append to."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def intervals(self, killed: Mapping[str, int] | None = None) -> list[Interval]:
        """All holds, in the order in which they began.

        :param killed: for holders that were killed and so wrote no end, when that was.
        """
        found: list[Interval] = []
        running: dict[str, int] = {}
        for line in self.log.read_text().splitlines():
            event, moment, holder = line.split(" ", 2)
            if event == "start":
                assert holder not in running, f"{holder} began twice"
                running[holder] = int(moment)
            else:
                found.append(Interval(holder, running.pop(holder), int(moment)))
        for holder, end in (killed or {}).items():
            found.append(Interval(holder, running.pop(holder), end))
        assert not running, f"never ended: {sorted(running)}"
        return sorted(found, key=lambda interval: interval.start)

    def order(self) -> list[str]:
        """The holders, in the order in which they began."""
        return [interval.holder for interval in self.intervals()]

    def peak(self, killed: Mapping[str, int] | None = None) -> int:
        """The most holds at one moment."""
        return peak(self.intervals(killed))


def peak(intervals: list[Interval]) -> int:
    """The most of ``intervals`` at one moment; one that ends when another begins is over by then."""
    events = [(interval.start, 1) for interval in intervals] + [(interval.end, -1) for interval in intervals]
    running = most = 0
    for _, change in sorted(events):
        running += change
        most = max(most, running)
    return most


class Worker:
    """A process of its own that runs some Python, takes orders by lines and answers by lines."""

    def __init__(self, argv: list[str], env: Mapping[str, str], errors: Path) -> None:
        self._errors = errors
        with errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                argv, env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, bufsize=0
            )
        self.pid = self._process.pid
        self._unread = b""

    def tell(self, order: str = "go") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(order.encode() + b"\n")

    def line(self) -> str:
        """The next line that it says."""
        assert self._process.stdout is not None
        end = time.monotonic() + DEADLINE
        while b"\n" not in self._unread:
            if not select.select([self._process.stdout], [], [], max(0.0, end - time.monotonic()))[0]:
                raise AssertionError(f"worker {self.pid} said nothing for {DEADLINE:.0f} s; {self.errors()}")
            data = os.read(self._process.stdout.fileno(), 65536)
            assert data, f"worker {self.pid} ended; {self.errors()}"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def expect(self, word: str) -> str:
        """Its next line must be ``word`` and perhaps more, which is returned."""
        line = self.line()
        found, _, rest = line.partition(" ")
        assert found == word, f"worker {self.pid} said {line!r} and not {word!r}; {self.errors()}"
        return rest

    def errors(self) -> str:
        """What it wrote to stderr."""
        return self._errors.read_text(errors="replace")

    def send(self, signum: int) -> None:
        assert self._process.returncode is None, "its pid may be somebody else's by now"
        os.kill(self.pid, signum)

    def kill(self) -> int:
        """SIGKILL, and wait until it has ended; it stays a zombie until `wait`.

        Returns when it was killed, in nanoseconds of CLOCK_MONOTONIC.
        """
        moment = time.monotonic_ns()
        self.send(signal.SIGKILL)
        await_exit(self.pid)
        return moment

    def stop(self) -> None:
        """SIGSTOP, and wait until it is stopped."""
        self.send(signal.SIGSTOP)
        await_stop(self.pid)

    def go_on(self) -> None:
        self.send(signal.SIGCONT)

    def wait(self) -> int:
        """Wait for its end; returns its exit status, or minus the signal."""
        return self._process.wait(DEADLINE)

    def done(self) -> None:
        """Wait for its end, which must be a good one."""
        assert self.wait() == 0, self.errors()

    def end(self) -> None:
        if self._process.poll() is None:
            self.send(signal.SIGKILL)
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Team:
    """The workers of one test, under one root; whoever is left at the end of the test is killed."""

    def __init__(self, directory: Path, store: Store | None = None) -> None:
        """:param store: where their pools are kept; unset: in files."""
        self.store = store or Store()
        self.root = directory / "root"
        self.root.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self.referee = Referee(directory / "holds.log")
        self.referee.log.touch()
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("LEASECAP_")}
        self.env |= {"LEASECAP_HOME": str(self.root), **self.store.environment}
        self.env["REFEREE_LOG"] = str(self.referee.log)
        self.env["PYTHONPATH"] = os.pathsep.join((str(REPOSITORY), str(WORKERS)))
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.end()

    def configure(self, text: str) -> None:
        """Put ``config.toml`` in place, whole; a server is told what it says of its pools."""
        aside = self.root / "config.toml.new"
        aside.write_text(text)
        seal(str(self.root), text)  # as by `leasecap limit`: no test waits for it to stand still that isn't about that
        aside.rename(self.root / "config.toml")
        self.store.publish(self.root)

    def without_pipes(self, way: str = WAYS["refused"]) -> None:
        """Whoever starts from now on can make no named pipe."""
        places = (in_workers(self._directory / "no pipes", way), self.env["PYTHONPATH"])
        self.env["PYTHONPATH"] = os.pathsep.join(places)

    def run(self, argv: list[str], env: Mapping[str, str] | None = None) -> Worker:
        """Start any command."""
        errors = self._directory / f"stderr-{len(self._workers)}"
        worker = Worker(argv, {**self.env, **(env or {})}, errors)
        self._workers.append(worker)
        return worker

    def start(
        self, code: str, *arguments: object, under: tuple[str, ...] = (), env: Mapping[str, str] | None = None
    ) -> Worker:
        """Start a Python process that runs ``code``, with the names of `worker` and leasecap at hand.

        :param under: a command in front, such as ``unshare``.
        """
        prelude = "import os, sys, time, leasecap\nfrom worker import Log, hear, say\n"
        return self.run([*under, sys.executable, "-c", prelude + code, *map(str, arguments)], env)

    def leasecap(self, *arguments: str) -> Worker:
        """Start the command line."""
        return self.run([sys.executable, "-m", "leasecap", *arguments])

    def pool(self, name: str = "p") -> PoolStatus:
        return leasecap.status(name).pools[0]

    def until_waiting(self, number: int, pool: str = "p") -> None:
        until(lambda: self.pool(pool).waiting == number, f"{number} waiting")

    def stop_outside(self, worker: Worker, pool: str = "p") -> None:
        """SIGSTOP while it isn't in the pool's critical section, where it would keep everybody out.

        A ticket is seen in the queue before its process has left the section, and the first two go there to sweep.
        """
        if self.store.is_server:
            worker.stop()
        else:
            stop_outside(self.pool(pool).path, worker.stop, worker.go_on)

    def assert_idle(self, pool: str = "p") -> None:
        """Nothing that counts is left of anybody."""
        if self.store.is_server or self.store.kind == MEMORY:  # a server hears later what an event loop gives back
            until(lambda: not self.pool(pool).holders and not self.pool(pool).waiters, "nobody holds or waits")
            return
        found = self.pool(pool)
        places = ("leases", "granted", "parked", "queue")
        left = {place: os.listdir(os.path.join(found.path, place)) for place in places}
        assert not any(left.values()) and found.error is None, f"not idle: {left}, {found}"


def stop_outside(pool: str, stop: Callable[[], object], go_on: Callable[[], object]) -> None:
    """Stop a process while it isn't in the critical section of the pool at this path.

    :param stop: returns once the process is stopped.
    """
    stop()
    while is_taken(pool):
        go_on()
        time.sleep(0.01)
        stop()


def is_taken(pool: str) -> bool:
    """Whether anybody is inside the critical section of the pool at this path."""
    claimed = os.path.join(pool, "lock.d")
    if os.path.isdir(claimed) and os.listdir(claimed):
        return True
    import fcntl  # not on Windows

    with open(os.path.join(pool, "lock")) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll until ``condition`` holds."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"did not come about in {DEADLINE:.0f} s: {what}"
        time.sleep(0.005)
