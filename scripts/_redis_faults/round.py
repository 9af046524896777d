"""One round: processes that share two caps in a scene, what is done to them and to the servers, and a referee."""

from __future__ import annotations

import os
import random
import shutil
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import leasecap
from _soak.crew import Crew
from _soak.faults import Faults
from _soak.journal import Journal
from _soak.referee import Referee, Verdict, parse

from .scenes import STOPS, TTL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from _soak.crew import Process

    from .scenes import Scene

POOLS = {"pair": 2, "quartet": 4}
FAULTS_FOR, CALM_FOR = 8.0, 12.0
"""Seconds in which faults are made, and then none, by turns: only a calm shows a slot that stays empty."""

REFILL_WITHIN = 10.0
"""Seconds for which a slot may stand empty after the last fault while somebody waits: the time of a dead holder that
nobody sees, the wait for holders after a server forgot, and some for a machine that has too few processors."""

WARM_UP = 5.0  # seconds until faults are made: all processes start at once, and a new server waits for holders
PATIENCE = 60.0  # seconds for everybody to come to an end after the last fault


class Plan(NamedTuple):
    """How large a round is.

    :ivar seconds: how long faults are made.
    :ivar sync, tasks, crowds, teams, commands: how many processes there are at a time: see `_soak.plan.Plan`.
    """

    seconds: float
    seed: int
    sync: int = 5
    tasks: int = 2
    crowds: int = 2
    teams: int = 1
    commands: int = 2


class Round:
    """One round in ``directory``.

    :ivar complaints: what must not happen and did, but for what the referee finds.
    :ivar done: what was done to the servers, and how often.
    """

    def __init__(self, directory: Path, scene: Scene, plan: Plan) -> None:
        self._scene, self._plan = scene, plan
        self._random = random.Random(plan.seed)
        self._root = directory / "root"
        self._journal_path = str(directory / "journal")
        self._errors = directory / "errors"
        self._errors.touch()
        self._until = time.monotonic() + WARM_UP + plan.seconds
        self._starts: list[tuple[float, str]] = []
        self._troubling: threading.Thread | None = None
        self.complaints: list[str] = []
        self.done: dict[str, int] = dict.fromkeys(scene.faults, 0)
        self._configure(scene.url)
        os.environ["LEASECAP_HOME"] = str(self._root)
        self._journal = Journal(self._journal_path, "conductor")
        for pool, limit in POOLS.items():
            self._journal.write("limit", pool, str(limit))
        self.crew = Crew(self._journal_path, self._errors, scene.pids)
        self.faults = Faults(self.crew, self._journal, self._journal_path, self._root, self._random, STOPS)

    def _configure(self, url: str) -> None:
        self._root.mkdir(mode=0o700, exist_ok=True)
        text = "".join(f'[pools.{pool}]\nstore = "{url}"\nlimit = {limit}\n' for pool, limit in POOLS.items())
        (self._root / "config.toml").write_text(text)

    def run(self) -> Verdict:
        """Until the time is over and everybody has ended."""
        plan = self._plan
        roles = ("sync", "async", "crowd", "team", "run")
        for role, number in zip(roles, (plan.sync, plan.tasks, plan.crowds, plan.teams, plan.commands), strict=True):
            self._starts += [(time.monotonic() + self._random.uniform(0, 1), role) for _ in range(number)]
        begin = fault_at = trouble_at = time.monotonic() + WARM_UP
        while (now := time.monotonic()) < self._until:
            for _, role in [start for start in self._starts if start[0] <= now]:
                self._start(role)
            self._starts = [start for start in self._starts if start[0] > now]
            calm = now < begin or (now - begin) % (FAULTS_FOR + CALM_FOR) >= FAULTS_FOR
            if now >= fault_at and not calm:
                fault_at = now + self._random.expovariate(1 / 0.2)
                self.faults.one()
            if now >= trouble_at and not calm and not self._is_troubled():
                trouble_at = now + self._random.expovariate(1 / 1.5)
                others = list(self._scene.faults)  # also a short round has the first one, which the scene is about
                self._trouble(self._random.choice(others if any(self.done.values()) else others[:1]))
            self.faults.continue_those_before(now)
            self._reap(again=True)
            time.sleep(0.02)
        self._finish()
        return Referee(round(REFILL_WITHIN * 1e9)).judge(parse(Path(self._journal_path).read_text().splitlines()))

    # -- processes --------------------------------------------------------------------------------------------------

    def _start(self, role: str) -> None:
        name = self.crew.name(role)
        under = self._random.choice(self._scene.machines)
        if role == "run":
            self._start_command(name, under)
            return
        machine = f"machine-{self._scene.machines.index(under)}" if under else "-"
        worker = [sys.executable, "-m", "_redis_faults.worker", role, name, self._journal_path]
        worker += [str(self._random.getrandbits(32)), str(self._until), machine]
        self.crew.spawn(name, "", found([*under, *worker, *(f"{pool}={limit}" for pool, limit in POOLS.items())]))

    def _start_command(self, name: str, under: list[str]) -> None:
        pool = self._random.choice(list(POOLS))
        self._journal.write("ask", pool, name, process=name)
        work = [sys.executable, "-S", "-E", "-c", "from _soak.command import work; work()", self._journal_path]
        seconds = f"{self._random.uniform(0.05, 0.8):.3f}"
        leased = [sys.executable, "-m", "leasecap", "run", "-q", "-p", pool, "-w", "30s", "--", *work]
        self.crew.spawn(name, pool, found([*under, *leased, pool, name, "-", seconds]))

    def _reap(self, *, again: bool = False) -> None:
        try:
            for process, code in self.crew.ended():
                self._bury(process, code)
                if again:
                    pause = self._random.uniform(1, 4) if process.role == "run" else 0.2
                    self._starts.append((time.monotonic() + pause, process.role))
        except ChildProcessError:
            pass  # none is left

    def _bury(self, process: Process, code: int) -> None:
        if process.role == "run":
            self._journal.write("quit", process.pool, process.name, process=process.name)
        # -9: by our hand, or as its command did. 75: no slot in time.
        if code not in ((0, -9, 75) if process.role == "run" else (0, -9)):
            self.complaints.append(f"{process.name} exited with {code}")

    # -- servers ----------------------------------------------------------------------------------------------------

    def _is_troubled(self) -> bool:
        return self._troubling is not None and self._troubling.is_alive()

    def _trouble(self, name: str) -> None:
        """Do it, in a thread: some processes are to be continued meanwhile."""
        chance = random.Random(self._random.getrandbits(32))

        def make() -> None:
            try:
                self._scene.faults[name](chance, self._outage)
            except BaseException:
                self.complaints.append(f"{name} can't be done:\n{traceback.format_exc()}")

        self.done[name] += 1
        self._troubling = threading.Thread(target=make)
        self._troubling.start()

    @contextmanager
    def _outage(self) -> Iterator[None]:
        """For the referee: a slot may stand empty while the servers can't be used, and its time begins anew then."""
        for pool in POOLS:
            self._journal.write("inside", pool, process="server")
        try:
            yield
        finally:
            self._journal.write("continue", process="server")

    # -- the end ----------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """No more faults: everybody gets what it waits for, and ends."""
        if self._troubling is not None:
            self._troubling.join()
        self.faults.continue_those_before(float("inf"))
        end = time.monotonic() + PATIENCE
        while self.crew.children and time.monotonic() < end:
            self._reap()
            time.sleep(0.02)
        self.complaints += [f"{process.name} never came to its end" for process in self.crew.children.values()]
        self._journal.write("over")
        self.crew.end_all()
        text = self._errors.read_text()
        if "Traceback" in text or "was lost" in text:
            self.complaints.append(text)

    def losses(self) -> list[str]:
        """Why leases were lost, as their processes have said."""
        return [line for line in self._errors.read_text().splitlines() if " is lost: " in line]

    def slots_lost(self) -> dict[str, int]:
        """For each pool, how many of its slots newcomers do not get, now that nobody is left but in the store."""
        # A root of its own: from here the server has another address, and can't be reached by that of the others.
        self._root = self._root.with_name("newcomers")
        os.environ["LEASECAP_HOME"] = str(self._root)
        self._configure(self._scene.own_url)
        lost = {}
        for pool, limit in POOLS.items():
            leases: list[leasecap.Lease] = []
            try:
                leases.extend(leasecap.acquire(pool, timeout=2 * TTL + 5) for _ in range(limit))
                leases.append(leasecap.acquire(pool, timeout=0.1))  # one too many
            except leasecap.AcquireTimeout:
                pass  # it is counted
            lost[pool] = limit - len(leases)
            for lease in leases:
                lease.release()
        return lost


def found(argv: list[str]) -> list[str]:
    """With the whole path of the program, which whoever starts it without a shell needs."""
    return [shutil.which(argv[0]) or argv[0], *argv[1:]]
