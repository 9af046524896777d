"""Machines, processes and clocks that a test invents, with the shipped protocol running on real files under them.

Every process has a `Runtime` of its own, drives its acquisitions itself, and sees the world through `Eyes`: the clocks
of its kernel, the processes of its kernel, and files that it really opens. OS locks belong to open files, so processes
invented here exclude each other as real ones do, and one that is killed has its files closed under it.
"""

from __future__ import annotations

import contextvars
import errno
import itertools
import os

from insides import own_entry_in, own_entry_of
from staged_world import HookedDirectory

from leasecap import _ancestry
from leasecap._acquire import Acquisition
from leasecap._errors import AcquireTimeout, StoreError
from leasecap._file_store.file_store import FileStore
from leasecap._file_store.heartbeats import Heartbeats
from leasecap._host.effects import Effects
from leasecap._lease import Lease
from leasecap._liveness.presence import Identity
from leasecap._liveness.record import Child
from leasecap._origin import Origin
from leasecap._request import Request
from leasecap._runtime import Runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager

    from fake_world import World

    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._file_store.store import Store
    from leasecap._host.directory import Directory
    from leasecap._liveness.presence import Presence
    from leasecap._store.lease import HeldLease
    from leasecap._store.store import Store as AnyStore

POOL = "p"


class Kernel:
    """What processes share that can mean the same thing by a pid.

    :ivar host: kernels with one host share clocks and a boot id (containers of one machine).
    :ivar table: start ticks of the processes that run, by pid.
    :ivar boot_offset: nanoseconds by which its time namespace has the boot clock ahead.
    """

    def __init__(self, name: str, host: Host) -> None:
        self.name = name
        self.host = host
        self.table: dict[int, int] = {}
        self.boot_offset = 0

    def begin(self) -> tuple[int, int]:
        """A new process; it gets the lowest free pid, so pids are used again soon."""
        pid = next(pid for pid in itertools.count(100) if pid not in self.table)
        self.table[pid] = next(self.host.ticks)
        return pid, self.table[pid]


class Host:
    """A machine: what suspends and reboots.

    :ivar wall: what its wall clock says.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.ticks = itertools.count(1)
        self.boots = itertools.count(1)
        self.wall = 5e8
        self.reboot()

    def reboot(self) -> None:
        self.boot = f"{self.name}-boot-{next(self.boots)}"
        self.boot_ns = 10**9
        self.monotonic = 1.0

    def go_on(self, seconds: float, *, suspended: bool = False) -> None:
        self.boot_ns += round(seconds * 1e9)
        self.wall += seconds
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

    def probe(self, name: str, limit: int = 0) -> tuple[bool | None, bytes | None]:
        try:
            return super().probe(name, limit)
        except OSError:
            return None, None  # as the real one says


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
        return self.process.kernel.host.boot_ns + self.process.kernel.boot_offset

    def loaded_at(self) -> int:
        return 0  # no process was another program before

    def wall_clock(self) -> float:
        return self.process.kernel.host.wall

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
            time_ns=f"time:{kernel.boot_offset}",
            boot_offset=kernel.boot_offset,
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
        self, store: Store, own_entry: OwnEntry, on_gone: Callable[[], None] | None = None, *, ending: bool = False
    ) -> None:
        super().add(store, own_entry, on_gone, ending=ending)
        self._beating[own_entry.name].due = self._process.kernel.host.monotonic + own_entry.record.heartbeat

    def tick(self) -> None:
        now = self._process.kernel.host.monotonic
        for name, beating in list(self._beating.items()):
            if beating.due <= now:
                beating.due = now + beating.own_entry.record.heartbeat
                if not self._beat(beating):
                    self._beating.pop(name, None)
                    if beating.on_gone is not None:
                        beating.on_gone()


class UndyingLease(Lease):
    """Dropped when its process is killed, or with the whole world."""

    def __del__(self) -> None:
        pass


class NoWatch:
    """No inotify: whoever waits looks by itself."""

    starts = 0

    def start(self) -> bool:
        return False

    def stop(self) -> None: ...

    def attend(self, lookout: object) -> None: ...

    def leave(self, lookout: object) -> None: ...

    def is_received(self) -> bool:
        return False

    def is_there(self) -> bool:
        return False

    def forget(self) -> None: ...


class Call:
    """One call for a slot, from the asking to the release.

    :ivar lease: the lease, from the moment at which the process has it.
    :ivar child: pid and start of a command that runs under it.
    """

    def __init__(self, process: Process, request: Request, parent: Call | None) -> None:
        root = process.runtime.root(str(process.world.root))
        root.notifier._watch = NoWatch()  # type: ignore[assignment]
        self._root = root
        face = process.runtime.store(root, root.config.pool(POOL))
        assert isinstance(face, FileStore)
        self.store = face.store
        process.world.opened(process, face.store)
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
            self._context.run(_ancestry.enter, parent.lease.reference)
        origin = Origin(process.runtime.own)
        self.acquisition = self._context.run(Acquisition, root, face, request, origin, self.wake, face.monotonic())
        self._steps: Generator[float, None, HeldLease] = self.acquisition.steps()

    @property
    def waits(self) -> bool:
        return self.lease is None and not self.over

    @property
    def name(self) -> str | None:
        """Of its entry."""
        if self._left is not None:
            return self._left
        own_entry = own_entry_of(self.lease) if self.lease is not None else own_entry_in(self.acquisition)
        return None if own_entry is None else own_entry.name

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
            self.lease = UndyingLease(self.process.runtime, stop.value, None, self._reopen, "")
        except AcquireTimeout:
            self.over = True
        except StoreError:
            self.over = True
            if name not in self.process.world.foreign:
                raise
        except BaseException:
            self.over = True
            raise

    def _reopen(self) -> AbstractContextManager[AnyStore]:
        return self.process.runtime.using(self._root, POOL)

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
        self.acquisition._ticket._own_entry = None  # type: ignore[attr-defined]
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
    :ivar later: what it does once the world's time has come, as far as it runs then.
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
        self.later: list[tuple[float, Callable[[], object]]] = []
        self.runtime = Runtime(Eyes(self))
        self.runtime.own.program = f"{next(world.tokens):06x}"
        self.runtime.own.heartbeats = Beats(self)

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
        self.runtime.own.heartbeats.tick()  # type: ignore[attr-defined]
        for at, then in [due for due in self.later if due[0] <= self.ran_at]:
            self.later.remove((at, then))
            then()
        for call in self.calls:
            call.step()

    def kill(self) -> None:
        """No clean-up: the kernel takes it from the table and closes its files."""
        self.dead = True
        self.kernel.table.pop(self.pid, None)
        for call in self.calls:
            call.end()
        self.runtime.after_fork_in_child()
        self.runtime.own.heartbeats = Beats(self)


def request(timeout: float | None = None, limit: int | None = None, priority: int = 0) -> Request:
    return Request(timeout, limit, priority, None, True, None, ("a command",))
