"""Plays the soak: starts the processes, has faults made, changes limits, and sees all come to an end.

It is the parent of every process that it signals, so no pid means anybody else. It never acquires anything before all
others have ended.
"""

from __future__ import annotations

import random
import sys
import time
import traceback
from pathlib import Path

import leasecap

from .crew import Crew, Process
from .faults import Faults
from .journal import Journal
from .plan import CALM_FOR, DIRECTORY_LOCKED, FAULTS_FOR, POOLS, Plan
from .workers import BARRED

FAULT_EVERY = 0.1
LIMIT_EVERY = 6.0
LOOK_EVERY = 1.0


class Conductor:
    """One soak in ``directory``, which LEASECAP_HOME names the ``root`` of.

    :ivar complaints: what must not happen and did, but for what the referee finds.
    """

    def __init__(self, directory: Path, plan: Plan) -> None:
        self._plan = plan
        self.journal_path = str(directory / "journal")
        self._errors = directory / "errors"
        self._errors.touch()
        self._random = random.Random(plan.seed)
        self._until = time.monotonic() + plan.seconds
        self._starts: list[tuple[float, str]] = []
        self._barred = 0
        self.complaints: list[str] = []
        self.limit_changes = self.looks = 0
        root = directory / "root"
        root.mkdir(mode=0o700)
        (root / "config.toml").write_text(
            "\n".join(
                f'[pools.{pool}]\nlimit = {limit}\nlock = "{"directory" if pool in DIRECTORY_LOCKED else "os"}"\n'
                for pool, limit in POOLS.items()
            )
        )
        self._journal = Journal(self.journal_path, "conductor")
        for pool, limit in POOLS.items():
            self._journal.write("limit", pool, str(limit))
        self._limits = dict(POOLS)
        self.crew = Crew(self.journal_path, self._errors)
        self.faults = Faults(self.crew, self._journal, self.journal_path, root, self._random)

    def run(self) -> None:
        """Until the time is over and everybody has ended."""
        plan = self._plan
        roles = ("sync", "async", "run", "crowd", "team")
        for role, number in zip(roles, (plan.sync, plan.tasks, plan.commands, plan.crowds, plan.teams), strict=True):
            for _ in range(number):
                self._start_later(role, self._random.uniform(0, min(5.0, plan.seconds / 4)))
        was_calm = False
        begin = fault_at = limit_at = look_at = time.monotonic() + min(5.0, plan.seconds / 4)
        while (now := time.monotonic()) < self._until:
            self._start_due(now)
            calm = (now - begin) % (FAULTS_FOR + CALM_FOR) >= FAULTS_FOR
            if calm and not was_calm:
                self.faults.strike_the_largest()
            was_calm = calm
            if now >= fault_at and not calm:
                fault_at = now + self._random.expovariate(1 / FAULT_EVERY)
                self.faults.one()
            if now >= limit_at and not calm and not self._is_limit_changing():
                limit_at = now + LIMIT_EVERY
                self._change_limit(self._random.choice(list(POOLS)))
            if now >= look_at:
                look_at = now + LOOK_EVERY
                self._look()
            self.faults.continue_those_before(now)
            self.faults.see_thefts()
            self._reap()
            time.sleep(0.02)
        self._finish()

    def _start_later(self, role: str, seconds: float) -> None:
        self._starts.append((time.monotonic() + seconds, role))

    def _start_due(self, now: float) -> None:
        due = [role for when, role in self._starts if when <= now]
        self._starts = [start for start in self._starts if start[0] > now]
        for role in due:
            if role == "run":
                self._start_command()
            else:
                self.crew.fork(role, POOLS, self._random.getrandbits(32), self._until)

    def _start_command(self) -> None:
        pool = self._random.choices(list(POOLS), list(POOLS.values()))[0]
        name = self.crew.name("run")
        leased = [sys.executable, "-m", "leasecap", "run", "-q", "-p", pool]
        patience = self._random.choice((["-w", "2s"], ["-n"], [], ["--priority", "3"], ["-w", "30s"]))
        seconds = f"{self._random.uniform(0.05, 0.8):.3f}"
        self._journal.write("ask", pool, name, process=name)
        if self._random.random() < 0.8:
            command = self._python("work", pool, name, "-", seconds)
        else:
            command = self._python("lend", pool, name, *leased, "--")
            command += self._python("work", pool, f"{name}.0", name, seconds)
        self.crew.spawn(name, pool, [*leased, *patience, "--", *command])

    def _python(self, what: str, *arguments: str) -> list[str]:
        code = f"from _soak.command import {what}; {what}()"
        return [sys.executable, "-S", "-E", "-c", code, self.journal_path, *arguments]

    def _change_limit(self, pool: str) -> None:
        limit = self._random.randint((POOLS[pool] + 1) // 2, POOLS[pool] + 1)
        # From the first word on either may hold; from the second on it is the new one.
        self._journal.write("limiting", pool, str(limit))
        argv = [sys.executable, "-m", "leasecap", "limit", pool, str(limit)]
        self.crew.spawn(self.crew.name("limit"), pool, argv)
        self._limits[pool] = limit
        self.limit_changes += 1

    def _is_limit_changing(self) -> bool:
        return any(process.role == "limit" for process in self.crew.children.values())

    def _look(self) -> None:
        self.looks += 1
        try:
            status = leasecap.status()
        except Exception:
            self.complaints.append(f"status failed:\n{traceback.format_exc()}")
            return
        told = (status.config_error, *(pool.error for pool in status.pools))
        self.complaints += [f"status says: {error}" for error in told if error]

    def _reap(self) -> None:
        try:
            for process, code in self.crew.ended():
                self._bury(process, code)
        except ChildProcessError:
            pass  # none is left

    def _bury(self, process: Process, code: int) -> None:
        if process.role == "limit":
            self._journal.write("limit", process.pool, str(self._limits[process.pool]))
        elif process.role == "run":
            self._journal.write("quit", process.pool, process.name, process=process.name)
            self._barred += code == 125
        # -9: by our hand, or as its command did. 75: no slot in time. 125: `_read_errors` says whether that may be.
        if code not in {"run": (0, -9, 75, 125), "limit": (0,)}.get(process.role, (0, -9)):
            self.complaints.append(f"{process.name} exited with {code}")
        if process.role != "limit" and time.monotonic() < self._until:
            # A worker that was killed is restarted at once, or a moment later.
            pause = self._random.uniform(2, 8) if process.role == "run" else self._random.choice((0, 0.2))
            self._start_later(process.role, pause)

    # -- the end ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """No more faults: everybody gets what it waits for, and ends."""
        self.faults.continue_those_before(float("inf"))
        end = time.monotonic() + self._plan.patience
        while self.crew.children and time.monotonic() < end:
            self._reap()
            time.sleep(0.02)
        for process in self.crew.children.values():
            self.complaints.append(f"{process.name} never came to its end")
        self._journal.write("over")
        self.crew.end_all()
        text = self._errors.read_text()
        barred = text.count(BARRED)
        if self._barred > barred or "Traceback" in text or "was lost" in text:
            self.complaints.append(f"{self._barred} commands failed, {barred} of them for one stopped inside:\n{text}")

    def slots_lost(self) -> dict[str, int]:
        """For each pool, how many of its slots a newcomer does not get at once, now that nobody is left."""
        lost = {}
        for pool, limit in self._limits.items():
            leases = [lease for _ in range(limit + 1) if (lease := leasecap.try_acquire(pool)) is not None]
            lost[pool] = limit - len(leases)
            for lease in leases:
                lease.release()
        return lost
