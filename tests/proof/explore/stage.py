"""A scenario set up: its actors, what may happen to them, and which steps are possible now."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from explore.checks import Checks
from explore.fingerprint import fingerprint
from explore.programs import Kit, acquire, once, release
from explore.scheduler import Actor, Process, Violation, World

Program = Callable[[Actor], object]


class Scenario(NamedTuple):
    """
    :ivar stage: sets it up, each time in the same way.
    :ivar about: what it is, in a few words.
    """

    name: str
    about: str
    stage: Callable[[], Stage]


class Option(NamedTuple):
    """
    :ivar cost: 1 if it interrupts an actor in the middle of something.
    :ivar fault: 1 if it kills or stops one.
    """

    choice: str
    cost: int
    fault: int


def follows(current: str, choice: str) -> str:
    """Who is in the middle of something after the choice."""
    if choice.isalpha():
        return choice
    if choice[0] == "?":
        return choice[1:]
    return current if choice[0] in "!=" else ""


class Stage:
    """One execution of a scenario.

    :ivar kills: actors whose processes may be killed; ``stops``: those that may be stopped; ``blocks``: those whose
        thread may come to stand still; ``fails``: those of whom a wake-up may be lost or a handle not be had.
    :ivar twins: groups of actors of which one is like the other as long as they have not begun.
    """

    kit: type[Kit] = Kit

    def __init__(
        self,
        *,
        limit: int = 1,
        kind: str = "os",
        tick: float = 0.1,
        within: float = 1.0,
        stop_for: int = 6,
        stale_after: float = 30.0,
        heartbeat: float = 10.0,
        patience: float = 0.0,
        steals: bool = False,
        errors: bool = False,
        chunked: bool = False,
    ) -> None:
        """
        :param within: seconds after which everybody has had its turn.
        :param stop_for: ticks after which a stopped process is continued at the latest.
        :param patience: seconds that a newcomer waits at the end.
        """
        self.world = World(kind, tick, chunked=chunked)
        self.checks = Checks(
            self.world, limit=limit, steals=steals, within=within, stop_for=2 * stop_for * tick, errors=errors
        )
        self.by_name: dict[str, Actor] = {}
        self.kills: Sequence[Actor] = ()
        self.stops: Sequence[Actor] = ()
        self.blocks: Sequence[Actor] = ()
        self.fails: Sequence[Actor] = ()
        self.twins: Sequence[Sequence[Actor]] = ()
        self._limit = limit
        self._stop_for = stop_for
        self._stale_after = stale_after
        self._heartbeat = heartbeat
        self._patience = patience
        self.world.remembers = self._remembers

    # -- setting up -------------------------------------------------------------------------------------------------

    def process(self, **about: Any) -> Process:
        """A new process; ``about`` is what `scheduler.Process` takes."""
        process = self.world.process(**about)
        process.kit = self.kit(
            self.world,
            process.number,
            limit=self._limit,
            stale_after=self._stale_after,
            heartbeat=self._heartbeat,
        )
        return process

    def actor(self, program: Program, process: Process | None = None) -> Actor:
        """A new actor; threads of one process are given the same ``process``."""
        if process is not None and any(actor.process is process for actor in self.world.actors):
            process.threads = True
        actor = self.world.actor(program, process or self.process())
        self.by_name[actor.name] = actor
        return actor

    def _remembers(self, process: Process) -> Hashable:
        if process.memory is None:
            process.memory = fingerprint(process.kit)
        return process.memory

    def run(self, actor: Actor, until: str = "") -> None:
        """Before the curtain: let it run alone to that place in its program, or until it rests."""
        while actor.ready() and actor.label != until:
            self.world.step(actor)
        assert actor.label == until or not until, (actor.name, actor.label, actor.error)

    def holder(self, program: Program = once, **about: Any) -> Actor:
        """Before the curtain: one that holds a slot and is about to work, or to rest at it."""
        actor = self.actor(program, self.process(**about))
        self.run(actor, "works")
        return actor

    def dead_holder(self, **about: Any) -> Actor:
        """Before the curtain: one that was killed at its work."""
        actor = self.holder(**about)
        self.bury(actor)
        return actor

    def waiter(self, program: Program = once) -> Actor:
        """Before the curtain: one that has queued."""
        actor = self.actor(program)
        self.run(actor)
        return actor

    def inside(self, program: Program = once, **about: Any) -> Actor:
        """Before the curtain: one that has just entered the critical section."""
        actor = self.actor(program, self.process(**about))
        while actor.number not in self.checks.inside:
            self.world.step(actor)
        return actor

    def play(self, actors: Sequence[Actor], until: Callable[[], bool]) -> None:
        """Before the curtain: let them run, the first one that can, until that is so."""
        while not until():
            ready = [actor for actor in actors if actor.ready()]
            if ready:
                self.world.step(ready[0])
            else:
                self.world.pass_time()

    def bury(self, actor: Actor) -> None:
        """Before the curtain: it is killed."""
        self.world.kill(actor.process)

    def raise_curtain(self) -> Stage:
        self.checks.began = self.world.now
        return self

    # -- steps ------------------------------------------------------------------------------------------------------

    def options(self, current: str, faults: int) -> list[Option]:
        """What may happen now, the least disturbing first; nothing when everybody has ended."""
        world = self.world
        if not any(actor.alive for actor in world.actors):
            return []
        ready = [actor for actor in world.actors if actor.ready()]
        found: list[Option] = []
        if ready:
            goes_on = any(actor.name == current for actor in ready)
            ready.sort(key=lambda actor: actor.name != current)
            found += [
                Option(actor.name, int(goes_on and actor.name != current), 0)
                for actor in ready
                if not self._has_an_older_twin(actor)
            ]
        else:
            found += self._while_nobody_can_go_on()
        if faults:
            found += [Option(f"!{actor.name}", 0, 1) for actor in self.kills if actor.alive and actor.started]
            for actor in self.stops:
                # Being stopped differs from not being chosen only in that time passes.
                if actor.process.state != "runs" or not actor.alive:
                    continue
                if world.sees_stops or all(other.process is actor.process for other in ready):
                    found.append(Option(f"~{actor.name}", 0, 1))
            found += [
                Option(f"={actor.name}", 0, 1)
                for actor in self.blocks
                if actor.alive and actor.due is not None and not actor.blocked
            ]
            in_vain = [a for a in self.fails if a in ready and a.pending and a.pending[0] in ("notify", "exit_of")]
            found += [Option(f"?{actor.name}", 0, 1) for actor in in_vain]
        return found

    def _while_nobody_can_go_on(self) -> list[Option]:
        stopped = [actor for actor in self.stops if actor.process.state == "stopped"]
        overdue = [actor for actor in stopped if actor.process.stopped_for >= self._stop_for]
        passes = [] if overdue else [Option(".", 0, 0)]
        return passes + [Option(f"+{actor.name}", 0, 0) for actor in overdue or stopped]

    def _has_an_older_twin(self, actor: Actor) -> bool:
        if actor.started:
            return False
        for group in self.twins:
            if actor in group:
                return any(not twin.started for twin in group[: group.index(actor)])
        return False

    def do(self, choice: str, *, checked: bool = True) -> None:
        """Do the step, and check what must hold after it unless that has been done."""
        world = self.world
        if choice.isalpha():
            world.step(self.by_name[choice])
        elif choice == ".":
            self.before_time_passes()
            world.pass_time()
        else:
            self._disturb(choice[0], self.by_name[choice[1:]])
        if world.log is not None and not choice.isalpha():
            world.log.append((choice, "", (), None))
        if checked:
            self.after_step()

    def _disturb(self, how: str, actor: Actor) -> None:
        world, process = self.world, actor.process
        self.checks.disturbed = True
        if how == "!":
            world.kill(process)
        elif how == "~":
            world.stop(process)
            self.checks.passes()
        elif how == "=":
            actor.blocked = True
        elif how == "?":
            world.step(actor, in_vain=True)
        else:
            self.before_time_passes()
            actor.blocked = False
            if not world.leaps:
                process.state = "runs"
            world.pass_time()
            world.go_on(process)

    def before_time_passes(self) -> None:
        """Check what must hold then."""
        self.checks.before_time_passes()

    def after_step(self) -> None:
        """Check what must hold after each step."""
        self.checks.after_step()

    def ahead(self, choice: str) -> int:
        """For a choice that is no actor's effect: the key of the state it leads to, or one from which that follows."""
        world = self.world
        if choice[0] == "!":
            process = self.by_name[choice[1:]].process
            if self.kit is not Kit:
                return hash((choice, world.key()))
            fs = world.fs.copy()
            fs.end(process.number)
            process.state = "dead"
            key = world.key(fs)
            process.state = "runs"
            return key
        return hash((choice, world.key()))

    def newcomer(self) -> None:
        """After the end: all slots can be had by somebody who has just come, and nothing is left behind."""
        world = self.world
        self.checks.over = True

        def program(actor: Actor) -> None:
            leases = [acquire(actor, timeout=self._patience) for _ in range(self._limit)]
            for lease in leases:
                release(actor, lease)
            actor.process.kit.store.sweeper.sweep()

        actor = self.actor(program)
        world.begin(actor)
        for _ in range(10_000):
            if actor.ended:
                break
            if actor.ready():
                self.do(actor.name)
            else:
                world.pass_time()
        if actor.error is not None:
            raise Violation(f"afterwards no newcomer can have a slot: {actor.error!r}") from actor.error
        self.checks.at_the_end()
