"""What is done to the processes: killed and stopped at random, at their work, and inside the pool's own lock."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from .plan import DIRECTORY_LOCKED
from .referee import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random

    from .crew import Crew, Process
    from .journal import Journal

AMBUSH = 0.05
"""Seconds to lie in wait for somebody to enter a pool's own lock."""


class Faults:
    """Chooses whom, and when.

    :ivar kills, inside, stops: how many were killed; killed or stopped just as they had entered a pool's own lock;
        stopped.
    """

    def __init__(self, crew: Crew, journal: Journal, journal_path: str, root: Path, random: random.Random) -> None:
        self._crew = crew
        self._journal = journal
        self._journal_path = journal_path
        self._reading = open(journal_path, encoding="ascii")  # noqa: SIM115  # for as long as there is news
        self._half_a_line = ""
        self._working: dict[str, int] = {}
        self._root = root
        self._random = random
        self._robbed: set[str] = set()
        self.kills = self.stops = self.inside = 0

    def one(self) -> None:
        """Do something to somebody."""
        self._follow()
        children = self._crew.children
        kind = self._random.random()
        if kind < 0.3:
            self._ambush()
        elif kind < 0.4:
            self._kill_a_command()
        else:
            everybody = [pid for pid, process in children.items() if process.role != "limit"]
            working = [pid for pid in self._working.values() if pid in children]
            if pids := working if kind < 0.75 else everybody:
                self._strike(children[self._random.choice(pids)])

    def _strike(self, process: Process) -> bool:
        """Kill or stop it; returns whether it was killed."""
        kill = self._random.random() < 0.65
        if kill:
            # Written before it is done: what it works in between is none that counts for it.
            self._journal.write("kill", process=process.name)
            os.kill(process.pid, signal.SIGKILL)
            self.kills += 1
        elif not process.resume_at:
            self._journal.write("stop", process=process.name)
            os.kill(process.pid, signal.SIGSTOP)
            process.resume_at = time.monotonic() + self._random.choice((0.1, 0.5, 2.6))
            self.stops += 1
        return kill

    def continue_those_before(self, now: float) -> None:
        for process in self._crew.children.values():
            if process.resume_at and process.resume_at <= now:
                process.resume_at = 0.0
                os.kill(process.pid, signal.SIGCONT)
                self._journal.write("continue", process=process.name)

    def _follow(self) -> None:
        """Who works now, by the journal."""
        *lines, self._half_a_line = (self._half_a_line + self._reading.read()).split("\n")
        for event in parse(lines):
            if event.what == "start":
                self._working[event.process] = event.pid
            elif event.what in ("end", "lend", "kill"):
                self._working.pop(event.process, None)

    def _kill_a_command(self) -> None:
        """Kill what works under a wrapper. It isn't our child: a descriptor makes sure that it is the one we mean."""
        commands = {name: pid for name, pid in self._working.items() if name.endswith("-command")}
        if not commands or not hasattr(os, "pidfd_open"):
            return
        name = self._random.choice(list(commands))
        try:
            descriptor = os.pidfd_open(commands[name])
        except ProcessLookupError:
            return
        try:
            if self._journal_path.encode() in Path(f"/proc/{commands[name]}/cmdline").read_bytes():
                self._journal.write("kill", process=name)
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                self.kills += 1
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
        finally:
            os.close(descriptor)

    # -- inside the pool's own lock ---------------------------------------------------------------------------------

    def _ambush(self) -> None:
        """Lie in wait for somebody to enter. The state directory is read to aim; nothing is judged by it."""
        pools = list(self._root.glob("pools/*-*"))
        if not pools:
            return
        pool = self._random.choice(pools)
        before = _inside(pool)
        end = time.monotonic() + AMBUSH
        while time.monotonic() < end:
            found = _inside(pool)
            if found in (None, before):
                continue
            assert found is not None
            pid, token = found
            process = self._crew.children.get(pid)
            if process is not None and process.role != "limit":
                self.inside += 1
                if self._strike(process) and token:
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
                    # Dead, and its mark is still there: whoever enters next has to steal it.
                    self._robbed |= {token} & _marks(pool)
            return

    def see_thefts(self) -> None:
        """Remember the marks of stolen lock directories, which are removed in time."""
        for mark in self._root.glob("pools/*/stolen/*"):
            self._robbed.add(mark.name.partition(".")[0])

    @property
    def thefts(self) -> int:
        """How often a lock directory was taken from one that died inside it, as far as it was seen."""
        return len(self._robbed)


def _inside(pool: Path) -> tuple[int, str] | None:
    """The pid that is inside or was the last to be, and the token of its lock directory."""
    if pool.name.rpartition("-")[0] not in DIRECTORY_LOCKED:
        return int((pool / "lock").read_bytes()), ""
    try:
        for token in os.listdir(pool / "lock.d"):
            return json.loads((pool / "lock.d" / token).read_bytes())["pid"], token
    except FileNotFoundError:
        pass  # left meanwhile
    return None


def _marks(pool: Path) -> set[str]:
    found = set()
    for place in ("lock.d", "stolen"):
        try:
            found |= {name.partition(".")[0] for name in os.listdir(pool / place)}
        except FileNotFoundError:
            pass
    return found
