"""Switches that remove one guard of the protocol each. The shipped code is not touched: a test's monkeypatch is."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from explore import programs
from explore.memory_fs import MemoryFs
from explore.programs import once
from explore.scheduler import World
from explore.stage import Scenario, Stage
from leasecap._decisions import entry as _entry
from leasecap._decisions import grants
from leasecap._decisions import loads as _loads
from leasecap._decisions import places as _places
from leasecap._decisions import snapshot as _snapshot
from leasecap._file_store import entries, lock_directory, observer, os_lock, own_entry, reconcile, ticket
from leasecap._file_store import peers as _peers
from leasecap._file_store.reconcile import Reconciler
from leasecap._file_store.snapshots import Snapshots
from leasecap._file_store.sweep import Sweeper
from leasecap._file_store.thefts import Thefts
from leasecap._liveness import verdict

if TYPE_CHECKING:
    from leasecap._host.deferred_signals import DeferredSignals

Patch = pytest.MonkeyPatch


def no_token_in_the_name(patch: Patch) -> None:
    """An entry is named after its owner's pid alone, and the first two have one pid after another."""
    make = _entry.make_entry

    def named(*, token: str, **facts: Any) -> _entry.Entry:
        if token[0] in "ab":
            facts |= {"process": f"{2:012x}", "order": 1}  # the second one's, which looks who stands ahead of it
            token = "f" * 16
        return make(token=token, **facts)

    patch.setattr(ticket, "make_entry", named)


def built_in_place(patch: Patch) -> None:
    """An entry is not built aside and renamed into the queue but built there."""
    for module in (entries, reconcile):
        patch.setattr(module, "STAGING", _places.QUEUE)


def listed_in_another_order(patch: Patch) -> None:
    """The places are not read in the order in which entries move on."""
    take = Snapshots._places

    def reversed_take(snapshots: Snapshots) -> _snapshot.Snapshot:
        places = (_places.LEASES, _places.GRANTED, _places.PARKED, _places.QUEUE)
        own = snapshots._entries
        found = {where: own.directory.list(where) for where in places}
        directory = own.directory
        own.directory = types.SimpleNamespace(list=found.__getitem__)  # type: ignore[assignment]
        try:
            return take(snapshots)
        finally:
            own.directory = directory

    patch.setattr(Snapshots, "_places", reversed_take)


def acknowledged_within_one_directory(patch: Patch) -> None:
    """A grant is a mark in the name, and not a directory of its own; listings come in chunks."""
    take, called_for = Snapshots._places, Reconciler._is_called_for

    def grant(reconciler: Reconciler, entry: _entry.Entry) -> bool:
        try:
            reconciler._directory.rename(f"queue/{entry.name}", f"leases/!{entry.name}")
        except OSError:
            return False
        reconciler._to_wake.append(entry)
        return True

    def acknowledge(own: entries.Entries, own_entry: own_entry.OwnEntry) -> bool:
        try:
            own.directory.rename(f"leases/!{own_entry.name}", f"leases/{own_entry.name}")
        except FileNotFoundError:
            return False
        own.note_grant(own_entry)
        return True

    def without_marks(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(part: Any, *arguments: Any) -> Any:
            own = part._entries
            directory = own.directory
            own.directory = types.SimpleNamespace(
                list=lambda where: [name.lstrip("!") for name in directory.list(where)]
            )
            try:
                return function(part, *arguments)
            finally:
                own.directory = directory

        return wrapper

    patch.setattr(Reconciler, "_grant", grant)
    patch.setattr(entries.Entries, "acknowledge", acknowledge)
    patch.setattr(Snapshots, "_places", without_marks(take))
    patch.setattr(Reconciler, "_is_called_for", without_marks(called_for))


def no_liveness_lock(patch: Patch) -> None:
    """Nobody holds a lock on ``alive``."""
    lock = MemoryFs.lock

    def only_others(fs: MemoryFs, who: int, process: int, fd: int, exclusive: bool = True) -> bool:
        ino = fs.opened[fs.fds[process, fd]]
        if exclusive and ino != fs.names["lock"]:
            return True
        return lock(fs, who, process, fd, exclusive)

    patch.setattr(MemoryFs, "lock", only_others)


def exclusive_probes(patch: Patch) -> None:
    """A probe takes the lock for itself."""
    lock = MemoryFs.lock
    patch.setattr(MemoryFs, "lock", lambda fs, who, process, fd, exclusive=True: lock(fs, who, process, fd, True))


def looks_before_it_subscribes(patch: Patch) -> None:
    """A waiter asks for hints when it has looked, and then waits."""
    start, wait = programs.Kit.start, programs.Waiter.wait

    def late(waiter: programs.Waiter, timeout: float, interrupts: DeferredSignals) -> None:
        kit = waiter._actor.process.kit
        if kit.hints and f"wake-{kit.id}" not in waiter._actor.world.fs.names:
            start(kit)
        wait(waiter, timeout, interrupts)

    patch.setattr(programs.Kit, "start", lambda kit: kit.hints)
    patch.setattr(programs.Waiter, "wait", late)


class FromTheFuture(bytes):
    """A stamp that says by the clock when the last sweep was, written by a process whose clock is ahead."""

    def __eq__(self, other: object) -> bool:
        return False  # it says that somebody has just swept

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = bytes.__hash__


def stamp_compared_with_the_clock(patch: Patch) -> None:
    """Whether to sweep is told from the stamp and the clock."""
    patch.setattr(Sweeper, "stamp", lambda sweeper: FromTheFuture(b"later"))


def no_acknowledgement(patch: Patch) -> None:
    """A grant holds, however long its waiter doesn't take it up."""
    patch.setattr(grants, "ACKNOWLEDGE_WITHIN", math.inf)


def borrowing_without_load(patch: Patch) -> None:
    """Whoever has a lender borrows."""
    patch.setattr(_loads.Loads, "added_by", lambda loads, entry: int(loads.lender_of(entry) is None))


def several_deadlines(patch: Patch) -> None:
    """The caller's time is for the queue; the critical section has its own."""
    place = ticket.FileTicket._place

    def patient(own: ticket.FileTicket, own_entry: own_entry.OwnEntry, *, may_queue: bool) -> Any:
        own._deadline = None
        return (yield from place(own, own_entry, may_queue=may_queue))

    patch.setattr(ticket.FileTicket, "_place", patient)


class NoMutex:
    """Lets everybody in."""

    def acquire(self, blocking: bool = True) -> bool:
        return True

    def release(self) -> None:
        pass


def no_mutex_round_the_lock(patch: Patch) -> None:
    """The threads of a process share one descriptor of the pool's lock."""
    patch.setattr(os_lock, "threading", types.SimpleNamespace(Lock=NoMutex))


def no_look_on_leaving(patch: Patch) -> None:
    """Whoever leaves the critical section doesn't look whether somebody has released meanwhile."""
    patch.setattr(Reconciler, "_is_called_for", lambda reconciler, done: done.missed)


def no_probe_before_a_grant(patch: Patch) -> None:
    """A ticket in the queue is taken for one of a process that runs."""
    patch.setattr(_peers.Peers, "look", lambda peers, ticket, where=_places.QUEUE: "runs")


def no_signed_grants(patch: Patch) -> None:
    """Nobody can tell what a robbed section has granted."""
    patch.setattr(Thefts, "suspects", lambda thefts, *_: frozenset())


def robbed_and_not_told(patch: Patch) -> None:
    """A holder of the lock directory whose last unlink fails doesn't look again, nor does the thief when it leaves.

    Either of them looks at what the other has granted beside it; without both nobody does.
    """
    leave = lock_directory.LockDirectory.leave

    def unaware(section: lock_directory.LockDirectory) -> bool:
        leave(section)
        return True

    patch.setattr(lock_directory.LockDirectory, "leave", unaware)
    patch.setattr(Thefts, "granted_beside", lambda thefts, counted: False)


def built_in_the_trash(patch: Patch) -> None:
    """What is being built and what is being removed stand in one place."""
    for module in (entries, reconcile):
        patch.setattr(module, "STAGING", _places.TRASH)


def without_the_child(patch: Patch) -> None:
    """Only the holder is looked for in the process table."""
    judge = verdict.judge
    patch.setattr(observer, "judge", lambda facts: judge(facts._replace(child=None)))


def without_start_ticks(patch: Patch) -> None:
    """A pid is taken for its process, whoever has it now."""

    def any_start(world: World, actor: Any, pid: int, start: int) -> str:
        me = actor.process.identity
        there = [p for p in world.processes if p.identity.pid == pid and p.identity.boot == me.boot]
        return "runs" if any(process.state != "dead" for process in there) else "gone"

    patch.setattr(World, "_presence", any_start)


def without_the_boot_id(patch: Patch) -> None:
    """Pids and start ticks of an earlier boot mean what they mean now."""
    patch.setattr(verdict, "_same", lambda one, other: True)


def forked_without_a_reset() -> Stage:
    """The second process is a fork of the first and goes on using its descriptor of the pool's lock."""
    stage = Stage()
    parent, child = stage.actor(once), stage.actor(once)
    section = parent.process.kit.store.section
    stage.world.fs.inherit(0, parent.process.number, section._fd, child.process.number)
    child.process.kit.store.section._fd = section._fd
    return stage.raise_curtain()


FORKED = Scenario("forked_without_a_reset", "", forked_without_a_reset)
