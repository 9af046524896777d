"""The replaceable layer put to use: a world whose clock stands still and whose every effect on a file can be hooked.

A schedule of several processes is played in one: each actor has a `Store` of its own on the same directory (an OS lock
belongs to the open file, so two stores exclude each other as two processes do), and what one actor does between two
steps of another is done in the other's hook.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from places import PLATFORM

from leasecap._config.pool_name import pool_name
from leasecap._decisions.entry import Group, make_entry
from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING, TRASH
from leasecap._decisions.snapshot import Snapshot
from leasecap._file_store.opening import open_pool
from leasecap._file_store.self_record import describe_self
from leasecap._file_store.store import Store
from leasecap._host.directory import Directory
from leasecap._host.effects import Effects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from leasecap._decisions.entry import Entry
    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._liveness.presence import Identity, Presence
    from leasecap._liveness.record import Record

PLACES = (STAGING, QUEUE, GRANTED, PARKED, LEASES, TRASH)

KIND = "directory" if PLATFORM == "win32" else "os"
"""Of the lock that a new pool gets on this platform."""

Hook = Callable[..., object]


class HookedDirectory(Directory):
    """Calls ``world.before(operation, *names)`` ahead of everything it does; raising there is failing."""

    def __init__(self, path: str, world: World) -> None:
        self.world = world
        super().__init__(path)

    def stat(self, name: str = "") -> os.stat_result:
        self.world.before("stat", name)
        return super().stat(name)

    def list(self, name: str) -> list[str]:
        self.world.before("list", name)
        return super().list(name)

    def make(self, name: str) -> None:
        self.world.before("make", name)
        super().make(name)

    def rename(self, old: str, new: str) -> None:
        self.world.before("rename", old, new)
        super().rename(old, new)

    def unlink(self, name: str) -> None:
        self.world.before("unlink", name)
        super().unlink(name)

    def rmdir(self, name: str) -> None:
        self.world.before("rmdir", name)
        super().rmdir(name)

    def read_and_stat(self, name: str, limit: int) -> tuple[bytes, os.stat_result]:  # `read` as well
        self.world.before("read", name)
        return super().read_and_stat(name, limit)

    def write(self, name: str, data: bytes) -> None:
        self.world.before("write", name)
        super().write(name, data)

    def replace(self, name: str, data: bytes) -> None:
        self.world.before("replace", name)
        super().replace(name, data)

    def overwrite(self, name: str, data: bytes) -> None:
        self.world.before("overwrite", name)
        super().overwrite(name, data)

    def open(self, name: str, *, create: bool = False) -> int:
        self.world.before("open", name)
        return super().open(name, create=create)

    def probe(self, name: str, limit: int = 0) -> tuple[bool | None, bytes | None]:
        self.world.before("probe", name)
        return super().probe(name, limit)


class World(Effects):
    """The real world but for what a test sets.

    :ivar clock: what the monotonic clock says.
    :ivar before: called ahead of each effect with its name and arguments.
    :ivar identity: who this process claims to be; None for the truth.
    """

    def __init__(self) -> None:
        self.clock = 1000.0
        self.before: Hook = nothing
        self.identity: Identity | None = None

    def directory(self, path: str) -> Directory:
        return HookedDirectory(path, self)

    def monotonic(self) -> float:
        return self.clock

    def lock(self, fd: int) -> bool:
        self.before("lock")
        return super().lock(fd)

    def write_at_start(self, fd: int, data: bytes) -> None:
        self.before("write_at_start")
        super().write_at_start(fd, data)

    def me(self) -> Identity:
        return self.identity or super().me()

    def presence(self, pid: int, start: int) -> Presence:
        self.before("presence", str(pid))
        return super().presence(pid, start)

    def once(self, operation: str, then: Callable[[], object], *, name: str = "") -> None:
        """Do ``then`` ahead of the next ``operation`` on a path with ``name`` in it, and nothing ever after."""

        def hook(done: str, *names: str) -> None:
            if done == operation and any(name in path for path in (*names, "")):
                self.before = nothing
                then()

        self.before = hook

    def failing(self, operation: str, error: int, *, name: str = "") -> None:
        """Fail every ``operation`` on a path with ``name`` in it from now on."""

        def hook(done: str, *names: str) -> None:
            if done == operation and any(name in path for path in (*names, "")):
                raise OSError(error, os.strerror(error))

        self.before = hook


def nothing(*_: object) -> None:
    """The hook that does nothing."""


class Actor:
    """What one process does to a pool, step by step.

    :ivar woken: names of the tickets whose waiters it woke, in order; ``notified`` of those whose process is to look.
    :ivar process: the id of its process.
    """

    def __init__(
        self,
        root: Path,
        *,
        kind: str = KIND,
        limit: int | None = 1,
        name: str = "p",
        stale_after: float = 30.0,
        heartbeat: float = 10.0,
        world: World | None = None,
    ) -> None:
        self.world = world or World()
        self.woken: list[str] = []
        self.notified: list[str] = []
        self.process = new_process()
        pool = open_pool(self.world, str(root), pool_name(name), kind)
        self.store = Store(
            self.world,
            pool,
            configured=limit,
            stale_after=stale_after,
            heartbeat=heartbeat,
            waker=lambda process, name: self.woken.append(name),
            notify=lambda process, name: self.notified.append(name),
        )
        _opened.append(self.store)

    def stage(
        self,
        *,
        order: int | None = None,
        priority: int = 0,
        limit: int | None = None,
        ancestors: tuple[str, ...] = (),
        change: Callable[[Record], Record] | None = None,
    ) -> OwnEntry:
        """An entry in ``staging/``; ``change`` forges its record, which makes it another process's."""
        token = self.world.token()
        entry = make_entry(
            token=token,
            process=self.process if change is None else new_process(),
            order=self.world.boot_clock() if order is None else order,
            priority=priority,
            limit=limit,
            ancestors=ancestors,
        )
        record = describe_self(self.world, self.store.pool, self.store.observer, label=None, argv=("a command",))
        own_entry = self.store.entries.stage(entry, record if change is None else change(record))
        _staged.append((self.store, own_entry))
        return own_entry

    def place(self, own_entry: OwnEntry, *, may_queue: bool = True) -> bool:
        """Place it as an acquisition does."""
        end = time.monotonic() + 20
        while not self.store.section.try_enter():
            assert time.monotonic() < end, "another actor is inside, in this very process"
            time.sleep(0.001)
        try:
            granted = self.store.reconciler.place(own_entry, may_queue=may_queue)
        finally:
            again = self.store.reconciler.leave()
        if again:
            self.store.reconciler.transact()
        return granted

    def ask(self, **facts: object) -> OwnEntry:
        """A new entry, placed: a lease if there was room, else a ticket."""
        own_entry = self.stage(**facts)  # type: ignore[arg-type]
        self.place(own_entry)
        return own_entry

    def where(self, own_entry: OwnEntry) -> str | None:
        """The place in which the entry stands."""
        return where(self.store, own_entry.name)

    def held(self) -> set[str]:
        """Names of all entries that hold a slot."""
        return {name for place in (GRANTED, LEASES) for name in Directory(self.store.directory.path).list(place)}


_opened: list[Store] = []
_staged: list[tuple[Store, OwnEntry]] = []
_processes = itertools.count(1)


def new_process() -> str:
    """The id of a process that has none yet."""
    return f"{next(_processes):012x}"


def close_all() -> None:
    """After a test: close the pools that its actors opened, and their entries."""
    while _staged:
        owner, own_entry = _staged.pop()
        owner.entries.close(own_entry)
    while _opened:
        store = _opened.pop()
        store.entries.forget_spares()
        store.section.forget()
        store.directory.close()


def where(store: Store, name: str) -> str | None:
    """The one place in which the entry stands, or None."""
    found = [place for place in PLACES if os.path.lexists(os.path.join(store.directory.path, place, name))]
    assert len(found) <= 1, found
    return found[0] if found else None


def wait_unacknowledged(actor: Actor) -> None:
    """Let ``actor`` look on as a waiter near the head does, until a grant that stands now is late."""
    actor.store.snapshots.take()
    for _ in range(5):
        actor.world.clock += ACKNOWLEDGE_WITHIN / 4
        actor.store.snapshots.take()


def as_a_dead_process(actor: Actor, pid: int) -> None:
    """Let what ``actor`` writes of itself from now on name ``pid``, which has ended: others take it for dead.

    It goes on to act: so does a process that another kernel took for dead by its heartbeat.
    """
    actor.world.identity = Effects().me()._replace(pid=pid, start=1)
    actor.process = new_process()


def pool_at(
    configured: int | None,
    queue: Iterable[Entry] = (),
    parked: Iterable[Entry] = (),
    granted: Iterable[Entry] = (),
    leases: Iterable[Entry] = (),
    cooling: Iterable[Entry] = (),
    **others: Any,
) -> Snapshot:
    """A snapshot with these entries."""
    groups = {"queue": queue, "parked": parked, "granted": granted, "leases": leases, "cooling": cooling}
    return Snapshot(configured, **{name: Group.of(group) for name, group in groups.items()}, **others)  # type: ignore[arg-type]


def entry(
    number: int,
    *ancestors: int,
    priority: int = 0,
    limit: int | None = None,
    order: int | None = None,
    process: int | None = None,
) -> Entry:
    """The entry with this number for a token, asked for in the order of numbers, by a process of its own by default."""
    return make_entry(
        token=f"{number:016x}",
        process=f"{number if process is None else process:012x}",
        order=number if order is None else order,
        priority=priority,
        limit=limit,
        ancestors=tuple(f"{ancestor:016x}" for ancestor in ancestors),
    )
