"""Machines, processes and clocks that a test invents, with the shipped protocol running on real files under them.

Every process has a `Local` of its own, drives its acquisitions itself, and sees the world through `Eyes`: the clocks of
its kernel, the processes of its kernel, and files that it really opens. OS locks belong to open files, so processes
invented here exclude each other as real ones do, and one that is killed has its files closed under it.
"""

from __future__ import annotations

import contextvars
import errno
import itertools
import os
from pathlib import Path

from staged_world import HookedDirectory

from leasecap import _chain
from leasecap._acquire import Acquisition
from leasecap._decide import ACKNOWLEDGE_WITHIN
from leasecap._effects import Directory, Effects
from leasecap._entry import parse
from leasecap._errors import AcquireTimeout, StoreError
from leasecap._heartbeat import Heartbeats
from leasecap._lease import Lease
from leasecap._local import Local
from leasecap._process import Identity
from leasecap._record import Child
from leasecap._request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from leasecap._entries import Claim
    from leasecap._process import Presence
    from leasecap._store import Store

POOL = "p"
HELD = ("granted", "leases")


class Kernel:
    """What processes share that can mean the same thing by a pid.

    :ivar host: kernels with one host share clocks and a boot id (containers of one machine).
    :ivar table: start ticks of the processes that run, by pid.
    """

    def __init__(self, name: str, host: Host) -> None:
        self.name = name
        self.host = host
        self.table: dict[int, int] = {}

    def begin(self) -> tuple[int, int]:
        """A new process; it gets the lowest free pid, so pids are used again soon."""
        pid = next(pid for pid in itertools.count(100) if pid not in self.table)
        self.table[pid] = next(self.host.ticks)
        return pid, self.table[pid]


class Host:
    """A machine: what suspends and reboots."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ticks = itertools.count(1)
        self.boots = itertools.count(1)
        self.reboot()

    def reboot(self) -> None:
        self.boot = f"{self.name}-boot-{next(self.boots)}"
        self.boot_ns = 10**9
        self.monotonic = 1.0

    def go_on(self, seconds: float, *, suspended: bool = False) -> None:
        self.boot_ns += round(seconds * 1e9)
        if not suspended:
            self.monotonic += seconds


class Files(HookedDirectory):
    """Calls ``process.late`` after what a file server may have done though it says that it failed."""

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        self.world.process.late("rename")  # type: ignore[attr-defined]

    def unlink(self, name: str) -> None:
        super().unlink(name)
        self.world.process.late("unlink")  # type: ignore[attr-defined]

    def probe(self, name: str) -> bool | None:
        try:
            return super().probe(name)
        except OSError:
            return None  # as the real one says


class Eyes(Effects):
    """The world as one process sees it."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.tokens = process.world.tokens

    def before(self, operation: str, *names: str) -> None:
        if self.process.dead:
            raise OSError(errno.EIO, "this process is no more")
        self.process.failing(operation)
        self.process.world.permit(operation, *names)
        self.process.world.seen(self.process, operation, *names)

    def directory(self, path: str) -> Directory:
        return Files(path, self)  # type: ignore[arg-type]  # all that it wants of it is `before`

    def boot_clock(self) -> int:
        self.process.kernel.host.boot_ns += 1  # no two calls at the same nanosecond
        return self.process.kernel.host.boot_ns

    def monotonic(self) -> float:
        return self.process.kernel.host.monotonic

    def lock(self, fd: int) -> bool:
        self.before("lock")
        return super().lock(fd)

    def unlock(self, fd: int) -> None:
        self.before("unlock")
        super().unlock(fd)

    def write_at_start(self, fd: int, data: bytes) -> None:
        self.before("write_at_start")
        super().write_at_start(fd, data)

    def token(self) -> str:
        return f"{next(self.tokens):016x}"

    def me(self) -> Identity:
        kernel, host = self.process.kernel, self.process.kernel.host
        return Identity(
            pid=self.process.pid,
            start=self.process.start,
            uid=0,
            boot=host.boot,
            machine=host.name,
            pid_ns=kernel.name,
            time_ns="time",
            sees_processes=True,
        )

    def presence(self, pid: int, start: int) -> Presence:
        return "runs" if self.process.kernel.table.get(pid) == start else "gone"


class Beats(Heartbeats):
    """Heartbeats by the clock of the kernel instead of a thread."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process
        self._thread = object()  # type: ignore[assignment]  # there seems to be one

    def add(
        self, store: Store, claim: Claim, on_gone: Callable[[], None] | None = None, *, ending: bool = False
    ) -> None:
        super().add(store, claim, on_gone, ending=ending)
        self._beating[claim.name].due = self._process.kernel.host.monotonic + store.observer.heartbeat

    def tick(self) -> None:
        now = self._process.kernel.host.monotonic
        for name, beating in list(self._beating.items()):
            if beating.due <= now:
                beating.due = now + beating.every
                if not self._beat(beating):
                    self._beating.pop(name, None)
                    if beating.on_gone is not None:
                        beating.on_gone()


class NoWatch:
    """No inotify: whoever waits looks by itself."""

    def start(self) -> bool:
        return False

    def stop(self) -> None: ...

    def forget(self) -> None: ...


class Call:
    """One call for a slot, from the asking to the release.

    :ivar lease: the lease, from the moment at which the process has it.
    :ivar child: pid and start of a command that runs under it.
    """

    def __init__(self, process: Process, request: Request, parent: Call | None) -> None:
        root = process.local.root(str(process.world.root))
        root._watch = NoWatch()  # type: ignore[assignment]
        store = root.store(root.config.pool(POOL))
        self.process = process
        self.parent = parent
        self.lease: Lease | None = None
        self.over = False
        self.child: tuple[int, int] | None = None
        self._copy: int | None = None
        self._left: str | None = None
        self._due = 0.0
        self._context = contextvars.copy_context()
        if parent is not None and parent.lease is not None:
            self._context.run(_chain.enter, parent.lease.reference)
        self.acquisition = Acquisition(process.local, root, store, request, self.wake)
        self._steps: Generator[float, None, Claim] = self.acquisition.steps()

    @property
    def waits(self) -> bool:
        return self.lease is None and not self.over

    @property
    def name(self) -> str | None:
        """Of its entry."""
        if self._left is not None:
            return self._left
        claim = self.lease._claim if self.lease is not None else self.acquisition._claim
        return None if claim is None else claim.name

    def wake(self) -> None:
        self._due = 0.0

    def step(self) -> None:
        now = self.process.kernel.host.monotonic
        if not self.waits or now < self._due:
            return
        name = self.name
        try:
            self._due = now + self._context.run(next, self._steps)
        except StopIteration as stop:
            local, acquisition = self.process.local, self.acquisition
            self.lease = Lease(local, acquisition.root, acquisition.store, stop.value, None)
        except AcquireTimeout:
            self.over = True
        except StoreError:
            self.over = True
            if name not in self.process.world.foreign:
                raise
        except BaseException:
            self.over = True
            raise

    def release(self) -> None:
        assert self.lease is not None
        self.over = True  # the work is done by then
        self.lease.release()

    def run_command(self) -> None:
        """Start a command that inherits the descriptor of the liveness lock."""
        assert self.lease is not None
        self.child = self.process.kernel.begin()
        self.lease.note_child(Child(*self.child))
        if self.lease.liveness_fd is not None:
            self._copy = os.dup(self.lease.liveness_fd)

    def end(self) -> None:
        """Its process is no more: nothing of it runs again, not even when what it waited with is collected."""
        self._left = self.name
        self.acquisition._claim = None
        self._steps.close()

    def end_command(self) -> None:
        if self.child is not None:
            self.process.kernel.table.pop(self.child[0], None)
            self.child = None
        if self._copy is not None:
            os.close(self._copy)
            self._copy = None

    @property
    def runs(self) -> bool:
        """Whether the work for which the slot is held is under way, in truth."""
        if self.child is not None:
            return True
        return not self.process.dead and self.lease is not None and not self.over and not self.lease.lost


class Process:
    """A process that may hold and wait.

    :ivar failing: called ahead of each of its effects; raising there is failing.
    :ivar late: called after each of its renames and removals.
    """

    def __init__(self, world: World, kernel: Kernel) -> None:
        self.world = world
        self.kernel = kernel
        self.pid, self.start = kernel.begin()
        self.dead = False
        self.stopped = False
        self.ran_at = world.now
        self.failing: Callable[[str], object] = lambda operation: None
        self.late: Callable[[str], object] = lambda operation: None
        self.calls: list[Call] = []
        self.local = Local(Eyes(self))
        self.local.process = f"{next(world.tokens):012x}"
        self.local.heartbeats = Beats(self)

    def ask(self, request: Request, parent: Call | None = None) -> Call:
        call = Call(self, request, parent)
        self.calls.append(call)
        call.step()
        return call

    def run(self) -> None:
        """What is due."""
        if self.dead or self.stopped:
            return
        self.ran_at = self.world.now
        self.local.heartbeats.tick()  # type: ignore[attr-defined]
        for call in self.calls:
            call.step()

    def kill(self) -> None:
        """No clean-up: the kernel takes it from the table and closes its files."""
        self.dead = True
        self.kernel.table.pop(self.pid, None)
        for call in self.calls:
            call.end()
        self.local.after_fork_in_child()
        self.local.heartbeats = Beats(self)


class World:
    """All of it, and a referee who knows the truth.

    :ivar robbed: names of entries that somebody else took from those who lived.
    :ivar foreign: names of entries that belong to another user: nobody here can move them, or see what is in them.
    :ivar once_foreign: those that did at any time; what their owners gave up on may still be granted.
    :ivar passed_over: those that belong to this user again, which not everybody need have noticed.
    :ivar certain: whether nobody who is gone can be taken for one that lives.
    """

    def __init__(self, root: Path, *, kind: str, stale_after: float = 30.0) -> None:
        self.root = root
        self.kind = kind
        self.now = 0.0
        self.limit = 0
        self.stale_after = stale_after
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
        aside = self.root / "config.toml.new"
        aside.write_text(text)
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
            limit, owner = parse(name).limit, self.owner(name)
            # The dead are cleared away, and their limit with them, but for what can't be.
            if limit is not None and (name not in self.foreign or (owner is not None and not owner.process.dead)):
                limits.append(limit)
        return min(limits)

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
        assert idle >= self.stale_after - 11, f"{name} was taken from one that ran {idle:.0f} s ago"
        self.robbed.add(name)


def request(timeout: float | None = None, limit: int | None = None, priority: int = 0) -> Request:
    return Request(timeout, limit, priority, None, True, None, ("a command",))


def idle_aside(calls: list[Call]) -> int:
    """How many of them run, lenders idle while their borrowers work."""
    lenders = set()
    for call in calls:
        above = call.parent
        while above is not None and above not in calls:
            above = above.parent
        lenders.add(above)
    return sum(call not in lenders for call in calls)
