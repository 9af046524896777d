"""What the actors of the scenarios do, in terms of the shipped code."""

from __future__ import annotations

import contextlib
import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from insides import own_entry_in

from explore.scheduler import ROOT, Actor, Gone, World
from leasecap import _ancestry
from leasecap._acquire import Acquisition
from leasecap._decisions.places import QUEUE
from leasecap._errors import AcquireTimeout
from leasecap._file_store.file_store import FileStore
from leasecap._file_store.heartbeats import Beating, Heartbeats
from leasecap._file_store.lookout import Lookout
from leasecap._file_store.store import Store
from leasecap._lease import Lease
from leasecap._origin import Origin
from leasecap._request import Request
from leasecap._wait.blocking import drive

if TYPE_CHECKING:
    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._host.deferred_signals import DeferredSignals
    from leasecap._store.wakeup import Wakeup

NO_INTERRUPTS: Any = types.SimpleNamespace(delivered=contextlib.nullcontext)


class Turn:
    """A lock between the threads of one process, which the scheduler sees."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._owner = ""
        self._depth = 0

    def __enter__(self) -> None:
        me = self._world.current
        if self._owner != me.name:
            while self._owner:
                self._world.perform("wait", lambda: not self._owner)
            self._owner = me.name
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = ""


class HeartbeatList(Heartbeats):
    """The shipped heartbeats without their thread: `beats` is what the thread does."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._turn = Turn(world)

    def add(
        self, store: Store, own_entry: OwnEntry, on_gone: Callable[[], None] | None = None, *, ending: bool = False
    ) -> None:
        with self._turn:
            beating = self._beating[own_entry.name] = Beating(store, own_entry, on_gone, ending)
            beating.due = 0.0  # `beats` has a clock of its own

    def remove(self, own_entry: OwnEntry) -> None:
        with self._turn:
            self._beating.pop(own_entry.name, None)

    def follow(self, own_entry: OwnEntry, lease: object, then: Callable[[], None]) -> None:
        """Nobody drops a lease here."""

    def beats(self) -> None:
        """One round of heartbeats."""
        gone: list[Beating] = []
        with self._turn:
            for beating in list(self._beating.values()):
                if not self._beat(beating):
                    del self._beating[beating.own_entry.name]
                    gone.append(beating)
        for beating in gone:
            if beating.on_gone is not None:
                beating.on_gone()


_NOT_SUMMED_UP = frozenset({"_reuse"})
"""Methods that change an argument which nothing that the process remembers refers to yet."""


def summed_up(world: World, function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The same function; when it is done, only its result and what the process remembers count as seen.

    What it saw on the way is then forgotten: nobody but the function itself knew of it.
    """

    def wrapper(*args: Any, **named: Any) -> Any:
        actor = world.current
        before = actor.seen
        try:
            result = function(*args, **named)
        except Gone:
            raise
        except Exception as error:
            world.sum_up(actor, before, (name, repr(error)))
            raise
        if actor.seen != before:
            world.sum_up(actor, before, (name, result))
        return result

    return wrapper


class Kit:
    """What leasecap keeps in one process: `OwnProcess` and `OpenRoot`, as far as an acquisition uses them."""

    starts = 1  # of its wake-up

    def __init__(self, world: World, number: int, *, limit: int, stale_after: float, heartbeat: float) -> None:
        self.path = ROOT
        self.effects = world.effects
        self.id = f"{number:012x}"
        self.root = self.make_root()
        self.lock = Turn(world)
        self.heartbeats = HeartbeatList(world)
        self.waiters: dict[str, Callable[[], None]] = {}
        self.lookouts: dict[str, Lookout] = {}
        self.own_entries: set[OwnEntry] = set()
        self.config = types.SimpleNamespace(path=f"{ROOT}/config.toml")
        self.store = Store(
            world.effects,
            world.pool,
            configured=limit,
            stale_after=stale_after,
            heartbeat=heartbeat,
            **self.hooks(),
        )
        self.look_out = Lookout(self, self.store, self, lambda: None)  # type: ignore[arg-type]
        self.leases: list[Lease] = []
        self.hints = False
        store = self.store
        parts = store.entries, store.observer, store.peers, store.snapshots, store.reconciler, store.sweeper
        for part in (store, *parts):
            for name, function in inspect.getmembers(type(part), inspect.isfunction):
                if not name.startswith("__") and name not in _NOT_SUMMED_UP:
                    setattr(part, name, summed_up(world, getattr(part, name), function.__name__))

    def make_root(self) -> Any:
        """What is `OpenRoot` there."""
        return self

    def hooks(self) -> dict[str, Any]:
        """What the store calls to wake others."""
        return {"waker": self._wake, "notify": self._notify}

    def refresh(self) -> bool:
        return False

    @property
    def own(self) -> Kit:
        """What `Runtime` has in its pools."""
        return self

    @property
    def notifier(self) -> Kit:
        return self

    def watch(self) -> Kit:
        return self

    def lookout(self, store: Store) -> Lookout:
        return self.look_out

    def standing(self, store: Store) -> Store:
        return store  # nobody forgets a pool here

    def wake_tickets(self, names: Iterable[str]) -> None:
        """Each waiter looks when its pause is over, or when it is worth it."""

    # What it needs of a watch. Nobody but the waiters themselves runs the look-out.

    def attend(self, lookout: Lookout) -> None:
        pass

    def leave(self, lookout: Lookout) -> None:
        pass

    runs_lookouts = True  # as with a pipe

    def reaches(self) -> bool:
        return True

    def is_received(self) -> bool:
        return False

    def wake_by(self, when: float) -> None:
        pass

    def drop(self, handle: int) -> None:
        pass

    def start(self) -> bool:
        """Listen for hints, if the scenario is about them; else a waiter may look at any moment after its grant."""
        if self.hints:
            self.effects.world.perform("make", f"wake-{self.id}")
        return self.hints

    def stop(self) -> None:
        pass

    def listen(self, watch: Wakeup) -> bool:
        """Have the waiter listen."""
        return watch.start()

    def waits(self, actor: Actor, timeout: float, waiter: Waiter) -> bool:
        """Wait, if that is this kit's to do."""
        return False

    def _notify(self, process: str, name: str) -> None:
        """Its process looks when that is due, or when it is worth it."""

    def _wake(self, process: str, name: str) -> None:
        if self.hints:
            self.effects.world.perform("make", f"wake-{process}/{name}")


class Bell:
    """Whether a waiter was woken since its last look."""

    def __init__(self) -> None:
        self.rung = False

    def ring(self) -> None:
        self.rung = True

    def answer(self) -> None:
        self.rung = False


class Waiter:
    """Blocks an actor between two looks."""

    def __init__(self, actor: Actor, interrupt_at: float | None = None) -> None:
        self._actor = actor
        self.acquisition: Acquisition = None  # type: ignore[assignment]  # set before it waits
        self.steps: Any = None
        self._interrupt_at = interrupt_at
        self.bell = Bell()

    def wake(self) -> None:
        self.bell.ring()

    def listen(self, watch: Wakeup) -> bool:
        return bool(self._actor.process.kit.listen(watch))

    def wait(self, timeout: float, interrupts: DeferredSignals) -> None:
        actor, own_entry = self._actor, own_entry_in(self.acquisition)
        inner = self.steps
        while inner.gi_yieldfrom is not None:
            inner = inner.gi_yieldfrom
        world = actor.world
        if inner.gi_code.co_name == "entering":
            early = section_is_free(world)
        else:
            assert own_entry is not None
            kit: Kit = actor.process.kit
            if kit.waits(actor, timeout, self):
                return
            ticket, hint = f"{QUEUE}/{own_entry.name}", f"wake-{kit.id}/{own_entry.name}"
            if kit.hints:
                timeout = 1e6  # only a hint ends it

            def early() -> bool:
                return hint in world.fs.names if kit.hints else ticket not in world.fs.names

        actor.rests(timeout, early, self.steps)
        if self._interrupt_at is not None and world.now >= self._interrupt_at:
            raise KeyboardInterrupt


def section_is_free(world: World) -> Callable[[], bool]:
    """Whether it is worth trying to enter the critical section again."""

    def free() -> bool:
        if world.kind == "directory":
            return not any(name.startswith("lock.d/") for name in world.fs.names)
        return world.fs.names["lock"] not in world.fs.locks

    return free


class UndyingLease(Lease):
    """Dropped when its process is killed, which is no mistake of anybody's."""

    def __del__(self) -> None:
        pass


def acquire(
    actor: Actor,
    *,
    timeout: float | None = None,
    limit: int | None = None,
    priority: int = 0,
    borrow: bool = True,
    interrupt_at: float | None = None,
    max_hold: float | None = None,
    task_since: float | None = None,
) -> Lease:
    """`leasecap.acquire`, with the world's effects in place of the real ones."""
    kit: Kit = actor.process.kit
    waiter = Waiter(actor, interrupt_at)
    request = Request(timeout, limit, priority, None, borrow, None, ("command",), max_hold, task_since=task_since)
    actor.asks = True
    face = FileStore(kit, kit.root, kit.store)  # type: ignore[arg-type]
    acquisition = waiter.acquisition = Acquisition(
        kit.root, face, request, Origin(kit), waiter.bell.ring, face.monotonic(), waiter.listen
    )
    waiter.steps = acquisition.steps()
    actor.at("acquires")
    actor.timeout = timeout
    actor.asked_at = actor.world.now
    try:
        held = drive(waiter.steps, waiter, NO_INTERRUPTS)
    finally:
        actor.answered_at = actor.world.now
    lease = UndyingLease(kit, held, None, None, "")  # type: ignore[arg-type]
    lease._lock = Turn(actor.world)  # type: ignore[assignment]
    kit.leases.append(lease)
    actor.holds(lease)
    return lease


def release(actor: Actor, lease: Lease) -> None:
    """`Lease.release`, but for what it does about signals."""
    actor.at("releases")
    actor.lets_go(lease)
    lease._give_back()
    actor.process.kit.leases.remove(lease)


@contextlib.contextmanager
def under(lease: Lease) -> Iterator[None]:
    """Code that runs under the lease, in whatever process."""
    with _ancestry.running(lease.reference):
        yield


def once(actor: Actor, **how: Any) -> str:
    """Take a slot and give it back."""
    try:
        lease = acquire(actor, **how)
    except AcquireTimeout:
        return "timeout"
    except KeyboardInterrupt:
        return "interrupted"
    actor.at("works")
    actor.world.perform("work")  # a step: it works for as long as the scheduler likes
    release(actor, lease)
    return "lost" if lease.lost else "done"


def works(seconds: float, times: int = 1, **how: Any) -> Callable[[Actor], str]:
    """A program: take a slot, work for that long, give it back."""

    def program(actor: Actor) -> str:
        lease = acquire(actor, **how)
        actor.at("works")
        for _ in range(times):
            actor.rests(seconds, None, None)
        release(actor, lease)
        return "lost" if lease.lost else "done"

    return program


def beats(every: float) -> Callable[[Actor], None]:
    """A program: the heartbeat thread of the actor's process, until nothing is left to beat for."""

    def program(actor: Actor) -> None:
        kit: Kit = actor.process.kit
        while True:
            actor.rests(every, None, None)
            kit.heartbeats.beats()
            beside = [other for other in actor.world.actors if other.process is actor.process and other is not actor]
            if all(other.ended for other in beside):
                return

    return program
