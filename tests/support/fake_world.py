"""The world of the invented machines: their pool, their time, and a referee who knows the truth."""

from __future__ import annotations

import errno
import itertools
import os
from pathlib import Path

from fake_machines import POOL, Call, Host, Kernel, Process

from leasecap._config.seal import seal
from leasecap._decisions.entry import parse_entry, process_of
from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._file_store.store import Store

HELD = ("granted", "leases")


class World:
    """All of it, and a referee who knows the truth.

    :ivar robbed: names of entries that somebody else took from those who lived.
    :ivar foreign: names of entries that belong to another user: nobody here can move them, or see what is in them.
    :ivar once_foreign: those that did at any time; what their owners gave up on may still be granted.
    :ivar passed_over: those that belong to this user again, which not everybody need have noticed.
    :ivar more: lines of the pool's configuration.
    :ivar opened: called with each store that a process has opened for a call.
    :ivar certain: whether nobody who is gone can be taken for one that lives.
    """

    def __init__(self, root: Path, *, kind: str, stale_after: float = 30.0) -> None:
        self.root = root
        self.kind = kind
        self.now = 0.0
        self.limit = 0
        self.stale_after = stale_after
        self.more = ""
        self.opened: Callable[[Process, Store], object] = lambda process, store: None
        self.certain = kind == "os"
        self.tokens = itertools.count(1)
        home, elsewhere = Host("home"), Host("elsewhere")
        self.hosts = [home, elsewhere]
        self.kernels = [Kernel("home", home), Kernel("container", home), Kernel("elsewhere", elsewhere)]
        self.processes: list[Process] = []
        self.robbed: set[str | None] = set()
        self.foreign: set[str] = set()
        self.once_foreign: set[str] = set()
        self.passed_over: set[str] = set()

    def set_limit(self, limit: int) -> None:
        text = f'[pools.{POOL}]\nlimit = {limit}\nlock = "{self.kind}"\nstale_after = {self.stale_after}\n'
        text += self.more
        aside = self.root / "config.toml.new"
        aside.write_text(text)
        seal(str(self.root), text)
        aside.rename(self.root / "config.toml")
        self.limit = limit

    @property
    def pool(self) -> Path:
        [path] = (self.root / "pools").iterdir()
        return path

    def listing(self, *places: str) -> list[str]:
        return [name for place in places for name in os.listdir(self.pool / place)]

    def calls(self) -> list[Call]:
        return [call for process in self.processes for call in process.calls]

    def owner(self, name: str) -> Call | None:
        return next((call for call in self.calls() if call.name == name), None)

    # -- owners -----------------------------------------------------------------------------------------------------

    def give_away(self, name: str) -> None:
        self.foreign.add(name)
        self.once_foreign.add(name)

    def give_back(self, name: str) -> None:
        self.foreign.remove(name)
        self.passed_over.add(name)
        self.pass_time(ACKNOWLEDGE_WITHIN + 0.1)
        self.passed_over.remove(name)

    def permit(self, operation: str, *names: str) -> None:
        for name in names:
            _, _, below = name.partition("/")
            entry, _, inside = below.partition("/")
            if entry in self.foreign and (inside or operation != "stat"):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES), name)

    # -- time -------------------------------------------------------------------------------------------------------

    def pass_time(self, seconds: float, chunk: float = 1.0) -> None:
        """Let time pass, everybody who runs doing what is due at least once in each ``chunk``."""
        while seconds > 1e-9:
            step = min(seconds, chunk)
            seconds -= step
            self.now += step
            for host in self.hosts:
                host.go_on(step)
            for process in self.processes:
                process.run()

    def suspend(self, host: Host, seconds: float) -> None:
        """The lid is closed on one machine; the others go on."""
        while seconds > 1e-9:
            step = min(seconds, 1.0)
            seconds -= step
            self.now += step
            for other in self.hosts:
                other.go_on(step, suspended=other is host)
            for process in self.processes:
                if process.kernel.host is not host:
                    process.run()

    def reboot(self, host: Host) -> None:
        for process in self.processes:
            if process.kernel.host is host and not process.dead:
                process.kill()
            if process.kernel.host is host:
                for call in process.calls:
                    call.end_command()
        host.reboot()

    # -- the referee ------------------------------------------------------------------------------------------------

    def seen(self, process: Process, operation: str, *names: str) -> None:
        """An effect is about to happen."""
        if operation != "rename":
            return
        source, _, name = names[0].partition("/")
        target = names[1].partition("/")[0]
        if target == "granted" or (source, target) == ("staging", "leases"):
            self._judge_grant(name)
        elif target == "trash":
            self._judge_removal(name, process)

    def running(self) -> list[Call]:
        """Who has a slot, by truth: those that work, and those that were granted one and don't know it yet."""
        held = set(self.listing(*HELD))
        calls = (call for call in self.calls() if call.runs or (call.name in held and not call.process.dead))
        return [call for call in calls if call.name not in self.robbed]

    def taken(self) -> int:
        """How many slots somebody has, or nobody can get at."""
        running = self.running()
        lost = self.foreign.intersection(self.listing(*HELD)).difference(call.name for call in running)
        return idle_aside(running) + len(lost)

    def limit_in_force(self) -> int:
        limits = [self.limit]
        for name in self.listing("queue", "parked", *HELD):
            limit, owner = parse_entry(name).limit, self.owner(name)
            # What the dead have declared holds no longer, though it may not have been cleared away yet.
            alive = owner is not None and (not owner.process.dead or owner.child is not None)
            if limit is not None and (alive or (owner is None and name not in self.foreign)):
                limits.append(limit)
        return min(limits)

    def least_in_force(self) -> int:
        """`limit_in_force`, or less: an entry that was given to another user, and left since, speaks for its process as
        long as that lives."""
        live = {process_of(call.name) for call in self.calls() if call.name is not None and not call.process.dead}
        left = [name for name in self.listing("queue", "parked", *HELD) if name in self.foreign]
        declared = [parse_entry(name).limit for name in left if process_of(name) in live]
        return min(self.limit_in_force(), *(limit for limit in declared if limit is not None), self.limit)

    def _judge_grant(self, name: str) -> None:
        owner = self.owner(name)
        if owner is None or owner.process.dead:
            assert not self.certain or name in self.once_foreign, f"{name} was granted to nobody"
            return
        before, limit = self.running(), self.limit_in_force()
        after = [*before, owner]
        assert idle_aside(after) <= max(limit, idle_aside(before)), f"over the limit of {limit}: {name}"
        if idle_aside(after) == idle_aside(before):
            return  # a borrower may go out of turn
        for other in os.listdir(self.pool / "queue"):
            ahead = self.owner(other)
            if other in self.foreign | self.passed_over:
                continue
            if self.kind == "directory" and ahead is not None and self._seems_dead(ahead):
                continue  # it is passed over first, and removed then
            if other < name and ahead is not None and not ahead.process.dead:
                raise AssertionError(f"{name} passed {other}, which waits")

    def _judge_removal(self, name: str, process: Process) -> None:
        owner = self.owner(name)
        if owner is None or owner.process is process or (owner.process.dead and owner.child is None):
            return
        if owner.over:
            return
        # Somebody else takes it from one who lives.
        idle = self.now - owner.process.ran_at
        assert self.kind == "directory", f"{name} was taken from a live process, its lock held"
        assert self._seems_dead(owner), f"{name} was taken from one that ran {idle:.0f} s ago"
        self.robbed.add(name)

    def _seems_dead(self, call: Call) -> bool:
        """Whether its heartbeats, which are all that others may see, have stood still for long enough."""
        return self.now - call.process.ran_at >= self.stale_after - 11


def idle_aside(calls: list[Call]) -> int:
    """How many of them run, lenders idle while their borrowers work."""
    lenders = set()
    for call in calls:
        above = call.parent
        while above is not None and above not in calls:
            above = above.parent
        lenders.add(above)
    return sum(call not in lenders for call in calls)
