"""The processes of the soak: started, waited for, and all of them ended however it ends."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from .journal import Journal
from .workers import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


class Process:
    """A child of ours, so its pid is its own until it was waited for.

    :ivar name: never used again; begins with the role: "sync", "async", "crowd", "team", "run", or "limit".
    :ivar pool: which one a command of leasecap's is for.
    :ivar resume_at: when it is to be continued (`time.monotonic`); 0 if it isn't stopped.
    """

    def __init__(self, pid: int, name: str, pool: str = "") -> None:
        self.pid = pid
        self.name = name
        self.pool = pool
        self.resume_at = 0.0

    @property
    def role(self) -> str:
        return self.name.rstrip("0123456789")


class Crew:
    """All processes of one soak.

    :ivar children: by pid.
    :ivar started: how many there were.
    """

    def __init__(self, journal_path: str, errors: Path, spared: Callable[[], set[int]] = set) -> None:
        """:param spared: the pids of our children that are none of the crew."""
        self._spared = spared
        self._journal_path = journal_path
        self._errors = errors
        self.children: dict[int, Process] = {}
        self.started = 0
        # What a killed child leaves behind becomes ours, so that it can be ended and waited for.
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)

    def name(self, role: str) -> str:
        self.started += 1
        return f"{role}{self.started}"

    def fork(self, role: str, pools: Mapping[str, int], seed: int, until: float) -> None:
        """Start a worker with the library."""
        name = self.name(role)
        # A Ctrl-C in the child would else be taken for one here, and end its brothers and sisters.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # whoever kills us leaves no stopped worker behind
                for number in _ENDING:
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
                worker = Worker(Journal(self._journal_path, name), pools, seed, until)
                if role == "sync":
                    worker.run()
                elif role == "team":
                    worker.run_team()
                elif role == "crowd":
                    asyncio.run(worker.run_crowd())
                else:
                    asyncio.run(worker.run_async())
                status = 0
            except BaseException:
                with self._errors.open("a") as file:
                    file.write(f"{name} failed:\n{traceback.format_exc()}\n")
            finally:
                os._exit(status)
        self.children[pid] = Process(pid, name)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)

    def spawn(self, name: str, pool: str, argv: list[str]) -> None:
        """Start a command; what it prints is kept with the errors."""
        with self._errors.open("a") as errors:
            actions = [(os.POSIX_SPAWN_DUP2, errors.fileno(), number) for number in (1, 2)]
            pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
        self.children[pid] = Process(pid, name, pool)

    def ended(self) -> Iterator[tuple[Process, int]]:
        """Those who have ended since, with their exit codes; minus a signal's number if that ended one."""
        while found := _wait(os.WNOHANG):
            pid, code = found
            process = self.children.pop(pid, None)
            if process is not None:
                yield process, code  # else an orphan: a fork's child or a command

    def end_all(self) -> None:
        """End every process that is left. Not to be interrupted: a second Ctrl-C would leave some behind."""
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            # Again and again: those that a killed one leaves behind become ours only then.
            for pid in (self.children.keys() | _children()) - self._spared():
                os.kill(pid, signal.SIGKILL)
            try:
                while found := _wait(os.WNOHANG):
                    self.children.pop(found[0], None)
            except ChildProcessError:
                return
            if not self.children and not _children() - self._spared():
                return
            time.sleep(0.01)


def _wait(options: int) -> tuple[int, int] | None:
    """One child that has ended, and its exit code; None while all run.

    :raises ChildProcessError: there is no child.
    """
    pid, status = os.waitpid(-1, options)
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def _children() -> set[int]:
    """The pids of our children, also of adopted ones; none of either where the system doesn't tell."""
    try:
        return {
            int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()
        }
    except OSError:
        return set()


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
