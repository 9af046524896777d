"""What is done to the processes: kills, stops and blocks, at random, at their work, and inside the pool's own lock."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

from .plan import DIRECTORY_LOCKED, POOLS
from .referee import parse
from .workers import BLOCK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from .crew import Crew, Process
    from .journal import Journal
    from .referee import Event

AMBUSH = 0.1
"""Seconds to lie in wait for somebody to enter a pool's own lock."""

KILLS = 0.65
"""The share of kills among the kills and stops."""

STOPS = 0.1, 0.5, 2.6, 9.0
"""Seconds for which a process is stopped."""


class Faults:
    """Chooses whom, and when.

    :ivar kills, inside, stops, blocks: how many were killed; killed or stopped just as they had entered a pool's own
        lock; stopped; had their event loop blocked.
    """

    def __init__(
        self,
        crew: Crew,
        journal: Journal,
        journal_path: str,
        root: Path,
        random: random.Random,
        stops: Sequence[float] = STOPS,
    ) -> None:
        """:param stops: seconds for which a process may be stopped, in rising order."""
        self._stops = stops
        self._crew = crew
        self._journal = journal
        self._journal_path = journal_path
        self._reading = open(journal_path, encoding="ascii")  # noqa: SIM115  # for as long as there is news
        self._half_a_line = ""
        self._tasks: dict[str, Event] = {}  # those that wait or have a slot, by who, with the line that said so
        self._root = root
        self._random = random
        self._robbed: set[str] = set()
        self.kills = self.stops = self.inside = self.blocks = 0

    def one(self) -> None:
        """Do something to somebody."""
        self._follow()
        children = self._crew.children
        kind = self._random.random()
        everybody = [process for process in children.values() if process.role != "limit"]
        holding = {task.process for task in self._tasks.values() if task.what == "start"}
        working = [process for process in everybody if process.name in holding]
        if kind < 0.25:
            self._ambush()
        elif kind < 0.32:
            self._kill_a_command()
        elif kind < 0.45:
            if crowds := [process for process in working if process.role == "crowd"]:
                self._block(self._random.choice(crowds))
        elif processes := working if kind < 0.8 else everybody:
            self._strike(self._random.choice(processes))

    def strike_the_largest(self) -> None:
        """In each pool, do something to the process that has most tasks there."""
        self._follow()
        children = {process.name: process for process in self._crew.children.values()}
        for pool in POOLS:
            tasks = Counter(task.process for task in self._tasks.values() if task.pool == pool)
            process = next((children[name] for name, _ in tasks.most_common() if name in children), None)
            if process is None or process.resume_at:
                continue
            if process.role == "crowd" and self._random.random() < 0.25:
                self._block(process)
            else:
                self._strike(process, longest=True)

    def _block(self, process: Process) -> None:
        os.kill(process.pid, BLOCK)
        self.blocks += 1

    def _strike(self, process: Process, *, longest: bool = False) -> bool:
        """Kill or stop it; returns whether it was killed."""
        kill = self._random.random() < KILLS
        if kill:
            # Written before it is done: what it works in between is none that counts for it.
            self._journal.write("kill", process=process.name)
            os.kill(process.pid, signal.SIGKILL)
            self.kills += 1
        elif not process.resume_at:
            self._journal.write("stop", process=process.name)
            os.kill(process.pid, signal.SIGSTOP)
            seconds = self._stops[-1] if longest else self._random.choice(self._stops)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            inside = [pool for pool in self._pools() if _is_inside(pool, process.pid)]
            for pool in inside:
                self._journal.write("inside", _name(pool), process=process.name)
            if inside or not self._tells_what_it_holds(process):
                seconds = min(seconds, 2.6)  # not for longer than the referee lets a slot stand empty
            process.resume_at = time.monotonic() + seconds
            self.stops += 1
        return kill

    def _tells_what_it_holds(self, process: Process) -> bool:
        """Whether a stopped process has as many leases as the journal says: else it was stopped between the two.

        The state directory is read to aim; nothing is judged by it.
        """
        if process.role == "run":
            return False  # its command says it, and that one runs on
        self._follow()
        leases = 0
        for record in self._root.glob("pools/*/leases/*/info.json"):
            try:
                leases += json.loads(record.read_bytes())["pid"] == process.pid
            except FileNotFoundError:
                pass  # released meanwhile: none of the stopped one's
        return leases == sum(task.process == process.name and task.what == "start" for task in self._tasks.values())

    def continue_those_before(self, now: float) -> None:
        for process in self._crew.children.values():
            if process.resume_at and process.resume_at <= now:
                process.resume_at = 0.0
                os.kill(process.pid, signal.SIGCONT)
                self._journal.write("continue", process=process.name)

    def _follow(self) -> None:
        """Who waits or has a slot now, by the journal."""
        *lines, self._half_a_line = (self._half_a_line + self._reading.read()).split("\n")
        for event in parse(lines):
            if event.what in ("ask", "start"):
                self._tasks[event.who] = event
            elif event.what in ("quit", "end"):
                self._tasks.pop(event.who, None)
            elif event.what == "kill":
                self._tasks = {who: task for who, task in self._tasks.items() if task.process != event.process}

    def _kill_a_command(self) -> None:
        """Kill what works under a wrapper. It isn't our child: a descriptor makes sure that it is the one we mean."""
        commands = {task.process: task.pid for task in self._tasks.values() if task.process.endswith("-command")}
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
        pools = self._pools()
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

    def _pools(self) -> list[Path]:
        """Those that are there, but for what is only being made."""
        return list(self._root.glob("pools/[!.]*-*"))

    def see_thefts(self) -> None:
        """Remember the marks of stolen lock directories, which are removed in time."""
        for mark in self._root.glob("pools/*/stolen/*"):
            self._robbed.add(mark.name.partition(".")[0])

    @property
    def thefts(self) -> int:
        """How often a lock directory was taken from one that died inside it, as far as it was seen."""
        return len(self._robbed)


def _name(pool: Path) -> str:
    return pool.name.rpartition("-")[0]


def _is_inside(pool: Path, pid: int) -> bool:
    """Whether that process, which is stopped, has the pool's own lock."""
    if _name(pool) in DIRECTORY_LOCKED:
        found = _inside(pool)
        return found is not None and found[0] == pid
    try:
        # A line: number, kind, mode, access, pid, device and inode, range.
        locks = map(str.split, Path("/proc/locks").read_text().splitlines())
        inode = os.stat(pool / "lock").st_ino
    except FileNotFoundError:
        return False  # nobody has entered yet, or the system doesn't tell
    return any(lock[4] == str(pid) and lock[5].endswith(f":{inode}") for lock in locks)


def _inside(pool: Path) -> tuple[int, str] | None:
    """The pid that is inside or was the last to be, and the token of its lock directory."""
    try:
        if _name(pool) not in DIRECTORY_LOCKED:
            pid = (pool / "lock").read_bytes()
            return (int(pid.split()[0]), "") if pid else None
        for token in os.listdir(pool / "lock.d"):
            return json.loads((pool / "lock.d" / token).read_bytes())["pid"], token
    except FileNotFoundError:
        pass  # left meanwhile, or nobody has entered yet
    return None


def _marks(pool: Path) -> set[str]:
    found = set()
    for place in ("lock.d", "stolen"):
        try:
            found |= {name.partition(".")[0] for name in os.listdir(pool / place)}
        except FileNotFoundError:
            pass
    return found
