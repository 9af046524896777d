"""What a process has that hears: the shipped watch and look-out, over wake-ups and handles in the world."""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from explore.programs import Kit, Turn
from explore.scheduler import ROOT, Actor, World
from leasecap._file_store import notifier
from leasecap._file_store.notifier import Notifier
from leasecap._file_store.open_root import OpenRoot
from leasecap._file_store.own_process import OwnProcess
from leasecap._file_store.wakeups import _END, Watch
from leasecap._store.wakeup import Received

if TYPE_CHECKING:
    from explore.programs import Waiter
    from leasecap._file_store.store import Store
    from leasecap._host.directory import Directory
    from leasecap._store.wakeup import Wakeup


class Receiver:
    """`receiver.Receiver`: the pipe is a file of the world, a handle one of its descriptors."""

    inode = None  # nobody removes a pipe alone here: that its place is there is enough

    def __init__(self, world: World, pipe: int) -> None:
        self.pipe = pipe
        self.calls: dict[int, Callable[[], None]] = {}
        self.has_thread = False
        self.told = b""
        self._over: set[int] = set()
        self._world = world

    def prepare(self) -> None:
        pass

    def is_own(self) -> bool:
        return True  # no program closes what isn't its own here

    def has_something(self, process: int) -> bool:
        """Whether `receive` would return at once."""
        fs = self._world.fs
        return bool(self.told or fs.said(process, self.pipe) or self._new(fs.handles(process, self._world.dead())))

    def _new(self, handles: tuple[int, ...]) -> list[int]:
        return [handle for handle in handles if handle not in self._over]  # each is told once

    def receive(self) -> Received:
        """What has come."""
        said, handles = self._world.perform("receive", self.pipe)
        told, self.told = self.told, b""
        handles = self._new(handles)
        self._over.update(handles)
        return Received(told + said, [call for call in map(self.calls.get, handles) if call is not None])

    def add(self, handle: int, call: Callable[[], None]) -> bool:
        self.calls[handle] = call
        return len(self.calls) == 1

    def drop(self, handle: int) -> None:
        if self.calls.pop(handle, None) is not None:
            self._world.effects.close(handle)

    def write(self, what: bytes) -> None:
        self.told += what

    def renew(self, pipe: int) -> None:
        self.told += b"\n"
        old, self.pipe = self.pipe, pipe
        self._world.effects.close(old)

    def close(self) -> None:
        while self.calls:
            self._world.effects.close(self.calls.popitem()[0])
        self._world.effects.close(self.pipe)


class Receiving(Watch):
    """The shipped watch, but for its thread, which is an actor (`has_receiver`), and for who blocks in a read."""

    def __init__(self, world: World, process: str, on_wake: Callable[[bytes], None]) -> None:
        super().__init__(world.root, process, on_wake)
        self._world = world
        self._lock = Turn(world)  # type: ignore[assignment]
        self.thread = False

    def _open(self) -> bool:
        self.starts += 1
        self._receiver = Receiver(self._world, self._make())  # type: ignore[assignment]
        return True

    def _start_thread(self, receiver: Any) -> bool:
        receiver.has_thread = self.thread
        return self.thread

    def rests(self, actor: Actor, receiver: Receiver, end: float, early: Callable[[], bool], steps: Any) -> Received:
        """Hear until ``end``, a look-out is due, or something comes or has happened; returns what has come."""
        process = actor.process.number
        due = self._receives_until = min(end, self._due())
        actor.rests(max(due - self._world.now, 0.0), lambda: receiver.has_something(process) or early(), steps)
        self._receives_until = -math.inf
        if not receiver.has_something(process):
            return Received(b"", [])
        received = receiver.receive()
        if _END in received.names:
            receiver.close()
        else:
            self.pass_on(received)
        return received

    def _run_lookouts(self) -> None:
        for lookout in tuple(self._lookouts):
            lookout.run(self._world.now)

    def for_itself(self) -> Any:
        """The ear, if the thread that waits hears by itself."""
        return None if self._receiver is not None and self._receiver.has_thread else self._receiver


class ModelNotifier(Notifier):
    """The shipped one, over the model's root directory."""

    def _opened(self) -> Directory:
        return self._own.effects.world.root  # type: ignore[attr-defined, no-any-return]


class ListeningRoot:
    """`OpenRoot`, as far as an acquisition that is heard for uses it."""

    lookout, _answer = OpenRoot.lookout, OpenRoot._answer

    def __init__(self, kit: ListeningKit) -> None:
        self.path = ROOT
        self.config = types.SimpleNamespace(path=f"{ROOT}/config.toml")
        self._own = kit
        self._lookouts: dict[Any, Any] = {}
        self.notifier = ModelNotifier(kit, lambda: ROOT)  # type: ignore[arg-type]
        self._open = types.SimpleNamespace(all=lambda: [kit.store])

    def refresh(self) -> bool:
        return False

    def standing(self, store: Store) -> Store:
        return store  # nobody forgets a pool here


class ListeningKit(Kit):
    """A process that hears what is said to it."""

    wake_tickets = OwnProcess.wake_tickets

    def make_root(self) -> ListeningRoot:
        root = ListeningRoot(self)
        self.watching = root.notifier._watch = Receiving(
            self.effects.world,
            self.id,
            lambda names: notifier.dispatch(self, names),  # type: ignore[arg-type]
        )
        return root

    def hooks(self) -> dict[str, Any]:
        by = self.root.notifier
        return {"waker": by.wake, "notify": by.notify, "listens": by.listens, "marks": by.marks}

    def listen(self, watch: Wakeup) -> bool:
        return watch.start(alone=not self.watching.thread)

    def waits(self, actor: Actor, timeout: float, waiter: Waiter) -> bool:
        bell, watching = waiter.bell, self.watching
        receiver = watching.for_itself()
        if receiver is not None:
            end = actor.world.now + timeout
            while not (bell.rung or actor.world.now >= end):
                received = watching.rests(actor, receiver, end, lambda: bell.rung, waiter.steps)
                if not any(received):
                    watching._run_lookouts()
                elif _END in received.names:
                    break
        else:
            actor.rests(timeout, lambda: bell.rung, waiter.steps)
        bell.answer()
        return True


def receives(actor: Actor) -> None:
    """A program: the thread that receives for its process, until nobody waits there any more."""
    watching: Receiving = actor.process.kit.watching
    watching.thread = actor.receives = True

    def all_ended() -> bool:
        others = [other for other in actor.world.actors if other.process is actor.process and other is not actor]
        return bool(others) and all(other.ended for other in others)

    def begins() -> bool:
        return watching._receiver is not None and watching._receiver.has_thread

    while not all_ended():
        actor.rests(math.inf, lambda: begins() or all_ended(), None)
        receiver: Any = watching._receiver
        while not all_ended() and _END not in watching.rests(actor, receiver, math.inf, all_ended, None).names:
            watching._run_lookouts()
