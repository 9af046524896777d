"""Actors that run the shipped code as greenlets, and a world in which a scheduler decides who does the next effect.

An actor runs until it is about to do an effect and hands that effect to the scheduler. The scheduler does it in the
`MemoryFs`, gives the actor its outcome and lets it run to the next one. Time stands still until nobody has anything to
do; then it jumps by the scenario's tick, and whoever's pause is over goes on. So a step is one of:

- ``a``: the actor of that name does its next effect, or looks before its pause is over because it is worth it;
- ``.``: time passes;
- ``!a``: the process of that actor is killed;
- ``~a``: it is stopped, ``+a``: time passes and it is continued;
- ``=a``: the actor's thread or event loop is blocked, which ``+a`` ends as well;
- ``?a``: the actor's next effect is in vain: what it writes to a wake-up is lost, or a handle isn't to be had.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, greenlet

from explore.memory_fs import MemoryDirectory, MemoryEffects, MemoryFs
from leasecap._config.pool_name import pool_name
from leasecap._decisions.places import QUEUE
from leasecap._file_store.layout import DIRECTORIES, Pool
from leasecap._liveness.presence import Identity

if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry

ROOT = "/explored"
NAME = pool_name("p")
EPOCH = 1000.0
"""What the clocks say at the start, in seconds."""


class Gone(GreenletExit):
    """Raised where a killed actor would go on."""


class Violation(AssertionError):
    """An invariant does not hold."""


class Process:
    """One process of the world: what the others see of it.

    :ivar number: its place among the processes, from 1.
    :ivar state: "runs", "stopped" or "dead".
    :ivar kit: what leasecap keeps in this process (`programs.Kit`).
    :ivar threads: several actors run in it; ``memory``: a hash of what they share, None when it has to be taken anew.
    :ivar latest: who of them ran last.
    """

    def __init__(
        self, number: int, *, kernel: str = "here", boot: str = "", pid_ns: str = "ns", pid: int = 0, start: int = 0
    ) -> None:
        self.number = number
        self.state = "runs"
        self.stopped_for = 0
        self.kit: Any = None
        self.threads = False
        self.memory: Hashable = None
        self.latest: Actor | None = None
        self.identity = Identity(
            pid=pid or 100 + number,
            start=start or 10 + number,
            uid=0,
            boot=f"boot-{boot or kernel}",
            machine=f"machine-{kernel}",
            pid_ns=f"{pid_ns}-{kernel}",
            time_ns="time",
            sees_processes=True,
        )


class Actor:
    """One thread of control.

    :ivar pending: the effect that it is about to do; None while it pauses or when it has ended.
    :ivar due: when its pause is over.
    :ivar early: whether it may go on before: what it waits for has happened.
    :ivar held: the leases under which it works; ``idle``: it only waits for another one that borrows.
    :ivar box: what it hands to others.
    :ivar blocked: its thread or event loop stands still, while others of its process run.
    :ivar hears: it hears for its process, which lasts until the others there have ended.
    :ivar seen: a hash of all that it has observed. Actors are deterministic: in two executions in which this is equal,
        they are in the same state.
    """

    def __init__(self, world: World, number: int, process: Process, program: Callable[[Actor], object]) -> None:
        self.world = world
        self.number = number
        self.name = "abcdefghijklmnop"[number - 1]
        self.process = process
        self.pending: tuple[str, tuple[Any, ...]] | None = None
        self.due: float | None = None
        self.early: Callable[[], bool] | None = None
        self.seen = hash((number, "begun"))
        self.label = "begins"
        self.held: list[Any] = []
        self.had: list[Any] = []
        self.idle = self.blocked = self.receives = False
        self.box: list[Any] = []
        self.steps: Any = None
        self.timeout: float | None = None
        self.asked_at = self.answered_at = 0.0
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = False
        self.ended_at = 0.0
        self.started = False
        self.tokens = 0
        self.asks = False
        self.greenlet = greenlet(lambda *_: self._run(program))

    def _run(self, program: Callable[[Actor], object]) -> None:
        try:
            self.result = program(self)
        except Gone:
            pass
        except Exception as error:
            self.error = error
        self.ended = True
        self.ended_at = self.world.now
        self.pending = self.due = None

    # -- called from inside the actor -------------------------------------------------------------------------------

    def perform(self, operation: str, *args: Any) -> Any:
        """Hand an effect to the scheduler; returns its outcome."""
        if self.process.state == "dead":
            raise Gone
        self.pending = (operation, args)
        return self.world.hub.switch()

    def pause(self, seconds: float, early: Callable[[], bool] | None = None) -> None:
        """Do nothing for that long, or until ``early`` says that it may go on."""
        if self.process.state == "dead":
            raise Gone
        self.due = self.world.now + seconds
        self.early = early
        self.world.hub.switch()

    def note(self, fact: Hashable) -> None:
        """It has observed this."""
        self.seen = hash((self.seen, fact))

    def at(self, label: str) -> None:
        """Where it is in its program, for setting the stage and for traces."""
        self.label = label

    def holds(self, lease: Any) -> None:
        self.held = [*self.held, lease]
        self.had.append(lease)

    def lets_go(self, lease: Any) -> None:
        self.held = [other for other in self.held if other is not lease]

    def memory(self) -> tuple[Any, ...]:
        """All that it remembers while it rests."""
        lost = [bool(lease.lost) for lease in self.had]
        times = (self.timeout, self.asked_at, self.answered_at)
        return (self.process.kit, self.held, self.steps, self.idle, times, lost)

    def rests(self, seconds: float, early: Callable[[], bool] | None, steps: Any) -> None:
        """Pause, and let the past be forgotten: all that it remembers hangs on ``steps`` and on its process."""
        self.steps = steps
        self.pause(seconds, early)
        self.steps = None

    # -- called by the scheduler ------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return not self.ended and self.process.state != "dead"

    def ready(self) -> bool:
        """Whether it can do something now."""
        if self.ended or self.blocked or self.process.state != "runs":
            return False
        if not self.started:
            return True
        if self.pending is None:
            return self.due is not None and self.early is not None and self.early()
        if self.pending[0] == "wait":
            return bool(self.pending[1][0]())
        return True

    def go_on(self, outcome: Any = None) -> None:
        """Run to the next effect or pause."""
        self.pending = self.due = self.early = None
        self.world.current = self
        if self.process.threads:
            if self.process.latest is not self:  # what they share may have changed
                self.note(self.world.remembers(self.process))
            self.process.latest = self
            self.process.memory = None
        self.greenlet.switch(outcome)
        if self.due is not None:
            self.world.forget(self)

    def end(self) -> None:
        """Let the greenlet go; what its ``finally`` clauses do has no effect."""
        if self.greenlet and not self.greenlet.dead:
            self.world.current = self
            self.greenlet.throw(Gone)


class World:
    """What all actors share.

    :ivar kind: of the pool's critical section, "os" or "directory".
    :ivar tick: by how much time jumps (seconds), when nobody has anything to do.
    :ivar forget: called with an actor that pauses, to shorten what it has ``seen``; ``sum_up`` with one that has done
        a function: what it had seen before, and the function's result.
    :ivar remembers: a hash of what a process remembers; what actors of one process share is a part of the state.
    :ivar sees_stops: a stopped process is seen to be stopped; ``sees_exits``: handles on processes are to be had.
    :ivar leaps: time doesn't stop for what a stopped process would do.
    :ivar watchers: called after each effect with the actor, the operation, its arguments and its outcome.
    """

    def __init__(self, kind: str = "os", tick: float = 0.1, *, chunked: bool = False) -> None:
        self.kind = kind
        self.tick = tick
        self.now = EPOCH
        self.ticks = 0
        self.asked = 0
        self.fs = MemoryFs()
        self.processes: list[Process] = []
        self.actors: list[Actor] = []
        self.current: Actor = None  # type: ignore[assignment]  # nobody runs yet
        self.hub: greenlet = greenlet.getcurrent()
        self.effects = MemoryEffects(self.perform, self)
        self.directory = MemoryDirectory(f"{ROOT}/pools/{NAME.directory}", self.perform, chunked=chunked)
        self.root = MemoryDirectory(ROOT, self.perform)
        self.pool = Pool(ROOT, NAME, self.directory, kind, True)
        self.outcome: Hashable = None
        self.watchers: list[Callable[[Actor, str, tuple[Any, ...], Any], None]] = []
        self.facts: Callable[[], Hashable] = tuple
        self.remembers: Callable[[Process], Hashable] = lambda process: None
        self.sees_stops = self.sees_exits = self.leaps = False
        self.forget: Callable[[Actor], None] = lambda actor: None
        self.sum_up: Callable[[Actor, int, Hashable], None] = lambda actor, before, result: None
        self.log: list[tuple[str, str, tuple[Any, ...], Any]] | None = None
        for part in (*DIRECTORIES, "wake"):
            self.fs.make(0, 0, part)
        for name, content in (("lock", b"0         \n"), ("sweep", b"0" * 16)):
            self.fs.close(0, 0, self.fs.create(0, 0, name))
            self.fs.overwrite(0, 0, name, content)

    # -- making it --------------------------------------------------------------------------------------------------

    def process(self, **about: Any) -> Process:
        process = Process(len(self.processes) + 1, **about)
        self.processes.append(process)
        return process

    def actor(self, program: Callable[[Actor], object], process: Process | None = None) -> Actor:
        """A new actor, about to begin; in a process of its own unless one is given."""
        actor = Actor(self, len(self.actors) + 1, process or self.process(), program)
        self.actors.append(actor)
        return actor

    def begin(self, actor: Actor) -> None:
        """Run it to its first effect."""
        actor.started = True
        actor.go_on()

    # -- called from inside the current actor -----------------------------------------------------------------------

    def perform(self, operation: str, *args: Any) -> Any:
        if greenlet.getcurrent() is self.hub:  # a process opens the pool before its actors begin
            newest = self.processes[-1].number
            return self.fs.apply(50 + newest, newest, operation, args)
        return self.current.perform(operation, *args)

    def boot_clock(self) -> int:
        now = int(self.now * 1e9)
        if self.current.asks:
            # Calls differ in their order, as real clocks make them; elsewhere only the hour counts.
            self.current.asks = False
            self.asked += 1
            now += self.asked
            self.current.note(now)
        return now

    def monotonic(self) -> float:
        return self.now

    def token(self) -> str:
        """The first digit is the actor's name, the others count."""
        self.current.tokens += 1
        return f"{self.current.name}{self.current.tokens:015x}"

    def me(self) -> Identity:
        return self.current.process.identity

    # -- steps ------------------------------------------------------------------------------------------------------

    def effect(self, actor: Actor, fs: MemoryFs) -> Hashable:
        """Do the actor's next effect in ``fs`` and return its outcome; the actor does not learn of it."""
        if actor.pending is None:
            return "early"
        operation, args = actor.pending
        if operation == "presence":
            return self._presence(actor, *args)
        if operation == "exit_of":
            other = self._process(actor, *args)
            return None if other is None else fs.watch_exit(actor.number, actor.process.number, other.number)
        if operation == "receive":
            args = (*args, self.dead())
        if operation in ("wait", "work"):
            return True
        if operation == "exit":
            fs.end(actor.process.number)
            return True
        return fs.apply(actor.number, actor.process.number, operation, args)

    def dead(self) -> frozenset[int]:
        """The numbers of the processes that have exited."""
        return frozenset(process.number for process in self.processes if process.state == "dead")

    def step(self, actor: Actor, *, in_vain: bool = False) -> None:
        """Let it do its next effect; ``in_vain``: as far as it knows."""
        if not actor.started:
            self.begin(actor)
            return
        pending = actor.pending or ("looks", ())
        outcome = self.outcome = None if in_vain else self.effect(actor, self.fs)
        actor.note((outcome, self.now))
        if self.log is not None:
            self.log.append((actor.name, *pending, outcome))
        for watcher in self.watchers:
            watcher(actor, *pending, outcome)
        actor.go_on(outcome)

    def can_pass(self) -> bool:
        """Whether time may pass: nobody has anything to do."""
        return not any(actor.ready() for actor in self.actors)

    def next_time(self) -> float:
        """When the first of those goes on that pause."""
        pausing = [actor for actor in self.actors if actor.alive and not (actor.blocked or self._is_left_out(actor))]
        waiting = [actor.due for actor in pausing if actor.due is not None]
        return round(max(self.now + self.tick, min(waiting, default=0.0)), 9)

    def _is_left_out(self, actor: Actor) -> bool:
        return self.leaps and actor.process.state == "stopped"

    def pass_time(self) -> None:
        """Let it jump, and let those go on whose pause is over."""
        self.now = self.next_time()
        self.ticks += 1
        for process in self.processes:
            if process.state == "stopped":
                process.stopped_for += 1
        for actor in self.actors:
            self._wake_if_due(actor)

    def _wake_if_due(self, actor: Actor) -> None:
        if not actor.alive or actor.blocked or actor.process.state != "runs":
            return
        if actor.due is not None and actor.due <= self.now:
            actor.note(self.now)
            actor.go_on()

    def kill(self, process: Process) -> None:
        process.state = "dead"
        self.fs.end(process.number)

    def stop(self, process: Process) -> None:
        process.state = "stopped"

    def go_on(self, process: Process) -> None:
        """Continue it; time has passed for it as well."""
        process.state = "runs"
        for actor in self.actors:
            if actor.process is process:
                actor.note(self.now)
                self._wake_if_due(actor)

    def _presence(self, actor: Actor, pid: int, start: int) -> str:
        process = self._process(actor, pid, start)
        if process is None:
            return "gone"
        return "stopped" if self.sees_stops and process.state == "stopped" else "runs"

    def _process(self, actor: Actor, pid: int, start: int) -> Process | None:
        """The live one that the actor means by this."""
        me = actor.process.identity
        for process in self.processes:
            here = process.identity
            if here.boot == me.boot and here.pid_ns == me.pid_ns and here.pid == pid:
                return process if here.start == start and process.state != "dead" else None
        return None

    def close(self) -> None:
        """Let all greenlets go."""
        for process in self.processes:
            process.state = "dead"
        for actor in self.actors:
            actor.end()

    # -- what it looks like -----------------------------------------------------------------------------------------

    def key(self, fs: MemoryFs | None = None, mover: Actor | None = None, seen: int | None = None) -> int:
        """A hash of the state; of one with this ``fs``, and in which ``mover`` has ``seen`` this, if given."""
        return hash(
            (
                (fs or self.fs).key(),
                tuple(self.remembers(each) for each in self.processes if each.threads and each.state != "dead"),
                self.now,
                self.asked,
                tuple((process.state, process.stopped_for) for process in self.processes),
                tuple(each.latest and each.latest.number for each in self.processes if each.threads),
                tuple(actor.blocked for actor in self.actors),
                tuple(
                    None if actor.ended or actor.process.state == "dead" else seen if actor is mover else actor.seen
                    for actor in self.actors
                ),
                self.facts(),
            )
        )

    def entry_is_in(self, where: str, name: str) -> bool:
        return f"{where}/{name}" in self.fs.names

    def queued(self) -> list[str]:
        """Names of the tickets in the queue, first of all the head."""
        return sorted(self.fs.children(QUEUE))

    def actor_of(self, entry: Entry) -> Actor | None:
        """Whose entry it is: its token begins with the actor's name."""
        return next((actor for actor in self.actors if entry.token.startswith(actor.name)), None)


assert os.name == "posix"
