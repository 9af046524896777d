"""Histories of processes, clocks, machines and records, written by hypothesis."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from fake_machines import Call, Process, request
from fake_world import HELD, World, idle_aside
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeVar

    T = TypeVar("T")

ANY = st.integers(0, 99)
DAY = 86_400

LONG = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    # To make a failing history shorter takes minutes, and it is some thirty steps long as it is.
    phases=[Phase.generate],
)


class Machines(RuleBasedStateMachine):
    """Up to six processes in three pid namespaces on two machines, one pool."""

    kind = "os"
    kernels: tuple[int, ...] = (0, 1)

    def __init__(self) -> None:
        super().__init__()
        # In memory where that is to be had: ten times as fast.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = Path(tempfile.mkdtemp(prefix="stateful-", dir=memory))
        self.world = World(self.root, kind=self.kind)

    @initialize(limit=st.integers(1, 3), waiters=st.integers(0, 3))
    def begin(self, limit: int, waiters: int) -> None:
        self.world.set_limit(limit)
        for which in range(limit + waiters):
            self._start(pick(self.kernels, which)).ask(request())

    def _start(self, kernel: int) -> Process:
        process = Process(self.world, self.world.kernels[kernel])
        self.world.processes.append(process)
        return process

    def _live(self) -> list[Process]:
        return [process for process in self.world.processes if not process.dead]

    def _running(self) -> list[Process]:
        return [process for process in self._live() if not process.stopped]

    def _held(self) -> list[Call]:
        """Those that their process can do something with."""
        return [
            call
            for process in self._running()
            for call in process.calls
            if call.lease is not None and not call.over and not call.lease.lost
        ]

    # -- what processes do ------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self._live()) < 7)
    @rule(which=ANY, number=st.integers(1, 3), priority=st.sampled_from([0, 0, 1, -1]))
    def newcomers(self, which: int, number: int, priority: int) -> None:
        for _ in range(number):
            self._start(pick(self.kernels, which)).ask(request(priority=priority))

    @precondition(lambda self: self._running())
    @rule(which=ANY, timeout=st.sampled_from([None, 0.0, 0.7]), limit=st.sampled_from([None, None, 1, 2]))
    def ask(self, which: int, timeout: float | None, limit: int | None) -> None:
        pick(self._running(), which).ask(request(timeout, limit))

    @precondition(lambda self: self._held())
    @rule(which=ANY, asker=ANY)
    def ask_under_a_lease(self, which: int, asker: int) -> None:
        """In the process that holds it, or in another one that it started."""
        parent = pick(self._held(), which)
        siblings = [process for process in self._running() if process.kernel is parent.process.kernel]
        pick(siblings, asker).ask(request(), parent)

    @precondition(lambda self: self._held())
    @rule(which=ANY)
    def release(self, which: int) -> None:
        call = pick(self._held(), which)
        call.end_command()
        call.release()

    def _without_command(self) -> list[Call]:
        return [call for call in self._held() if call.child is None and call.name not in self.world.foreign]

    @precondition(lambda self: self._without_command())
    @rule(which=ANY)
    def run_a_command(self, which: int) -> None:
        pick(self._without_command(), which).run_command()

    @precondition(lambda self: any(call.child for call in self.world.calls()))
    @rule(which=ANY)
    def the_command_ends(self, which: int) -> None:
        pick([call for call in self.world.calls() if call.child], which).end_command()

    # -- what is done to them ---------------------------------------------------------------------------------------

    @precondition(lambda self: self._live())
    @rule(which=ANY)
    def kill(self, which: int) -> None:
        pick(self._live(), which).kill()

    @precondition(lambda self: self._running())
    @rule(which=ANY, number=st.integers(1, 3))
    def stop(self, which: int, number: int) -> None:
        for _ in range(min(number, len(self._running()))):
            pick(self._running(), which).stopped = True

    @precondition(lambda self: len(self._running()) < len(self._live()))
    @rule(which=ANY)
    def go_on(self, which: int) -> None:
        pick([process for process in self._live() if process.stopped], which).stopped = False

    @rule(seconds=st.sampled_from([0.06, 0.25, 1.1, 2.5, 12.0, 35.0, 35.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @precondition(lambda self: self.world.certain)
    @rule()
    def nobody_waits_beside_a_free_slot(self) -> None:
        """Whoever died is reaped, and grants to those who are stopped are taken back, by any one that runs."""
        world = self.world
        stopped = [call for process in self._live() if process.stopped for call in process.calls if call.waits]
        given_up = [name for name in world.once_foreign if world.owner(name) is None]
        world.pass_time(3.0 + 3.0 * len(stopped + given_up))
        waits = [call for process in self._running() for call in process.calls if call.waits]
        if any(call.name not in world.foreign for call in waits):
            assert world.taken() >= world.least_in_force()
            kept = [name for name in world.listing("granted") if name not in world.foreign]
            assert not [call.name for call in stopped if call.name in kept]

    @rule(which=ANY, seconds=st.sampled_from([5.0, 60.0]))
    def suspend(self, which: int, seconds: float) -> None:
        self.world.suspend(self.world.kernels[pick(self.kernels, which)].host, seconds)

    @rule(days=st.sampled_from([-1, 1]))
    def the_wall_clock_jumps(self, days: int) -> None:
        """All that a wall clock leaves behind is in the times of files."""
        for path in self.root.rglob("*"):
            found = path.lstat()
            os.utime(path, (found.st_atime + days * DAY, found.st_mtime + days * DAY))

    @rule(which=ANY)
    def reboot(self, which: int) -> None:
        kernel = pick(self.kernels, which)
        self.world.reboot(self.world.kernels[kernel].host)
        self._start(kernel).ask(request())

    @rule(limit=st.integers(1, 3))
    def set_limit(self, limit: int) -> None:
        self.world.set_limit(limit)

    def _entries(self) -> list[Path]:
        if not (self.root / "pools").exists():
            return []
        places = ("queue", "parked", *HELD)
        return sorted(self.world.pool / place / name for place in places for name in self.world.listing(place))

    @precondition(lambda self: self._entries())
    @rule(
        which=ANY,
        file=st.sampled_from(["info.json"] * 3 + ["alive"]),
        at=st.integers(0, 2000),
        bits=st.integers(0, 255),
    )
    def corrupt_a_record(self, which: int, file: str, at: int, bits: int) -> None:
        """Change one byte, or cut it off there."""
        path = pick(self._entries(), which) / file
        data = bytearray(path.read_bytes())
        at %= max(len(data), 1)
        if bits:
            data[at : at + 1] = bytes(byte ^ bits for byte in data[at : at + 1])
        else:
            del data[at:]
        path.write_bytes(data)
        self.world.certain = False

    @precondition(lambda self: self._entries())
    @rule(which=ANY)
    def change_the_owner(self, which: int) -> None:
        self.world.give_away(pick(self._entries(), which).name)

    @precondition(lambda self: self.world.foreign)
    @rule(which=ANY)
    def change_it_back(self, which: int) -> None:
        self.world.give_back(pick(sorted(self.world.foreign), which))

    # -- in the end -------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.world.processes and sys.exc_info()[0] is None:
                self._everything_ends()
        finally:
            for process in self._live():
                process.kill()
            self.world.reboot(self.world.hosts[0])
            self.world.reboot(self.world.hosts[1])
            shutil.rmtree(self.root)

    def _everything_ends(self) -> None:
        world = self.world
        self._running_ones_release()
        for process in self._live():
            process.stopped = False
        self._running_ones_release()
        for name in sorted(world.foreign):
            world.give_back(name)
        world.pass_time(35.0)
        for _ in range(40):
            if not any(call.waits for process in self._live() for call in process.calls):
                break
            # Innermost first: a lender waits for its borrowers.
            for call in [call for call in self._held() if call.child is None or call.process.dead][::-1]:
                call.release()
            for call in world.calls():
                call.end_command()
            world.pass_time(3.0)
        waiting = [call.name for process in self._live() for call in process.calls if call.waits]
        assert not waiting, f"never granted: {waiting}"
        untold = [call.name for call in self._held() if call.name in world.robbed]
        assert not untold, f"lost, and not told: {untold}"
        for call in world.calls():
            call.end_command()
        for call in self._held():
            call.release()
        self._all_slots_can_be_had()

    def _running_ones_release(self) -> None:
        if self.world.certain:
            self.nobody_waits_beside_a_free_slot()
            for call in self._held():
                if call.child is None:
                    call.release()
            self.nobody_waits_beside_a_free_slot()

    def _all_slots_can_be_had(self) -> None:
        last = self._start(0)
        certain = self.world.certain
        calls = [last.ask(request(0.0 if certain else None)) for _ in range(self.world.limit)]
        if not certain:
            # The heartbeats of the dead, and then two seconds for each grant that they don't take up.
            self.world.pass_time(60.0)
        assert all(call.lease is not None for call in calls), "a slot leaked"
        assert idle_aside(calls) == self.world.limit
        for call in calls:
            call.release()
        assert not certain or not self.world.listing("queue", "parked", *HELD)


def pick(things: Sequence[T], which: int) -> T:
    return things[which % len(things)]
