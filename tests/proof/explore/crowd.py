"""A stage for processes with many tickets, which hear, and of which the promptness is checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from explore.programs import once
from explore.promptness import Bounds, Promptness
from explore.stage import Option, Program, Stage
from explore.watched import ListeningKit, receives

if TYPE_CHECKING:
    from explore.scheduler import Actor, Process

_LONG = 60.0


class Crowd(Stage):
    """
    :ivar together: actors whose processes are killed or stopped as one, with the first of them.
    """

    kit = ListeningKit

    def __init__(
        self,
        *,
        bounds: Bounds | None = None,
        limit: int = 1,
        tick: float = 0.05,
        sees_stops: bool = True,
        sees_exits: bool = True,
        guarded: bool = True,
    ) -> None:
        """
        :param sees_stops: a stopped process is seen to be stopped; ``sees_exits``: handles on processes are to be had.
        :param guarded: whether somebody must look after the first that runs in every state.
        """
        super().__init__(limit=limit, tick=tick, within=_LONG)
        world = self.world
        world.leaps = True
        world.sees_stops, world.sees_exits = sees_stops, sees_exits
        self.prompt = Promptness(world, self.checks, limit, bounds or Bounds(), guarded=guarded)
        world.facts = lambda: (self.checks.key(), self.prompt.key())
        self.together: Sequence[Actor] = ()
        self.up = False

    # -- setting up -------------------------------------------------------------------------------------------------

    def lone(self, program: Program = once, **about: Any) -> Actor:
        """Before the curtain: a process with one thread, which waits and hears by itself."""
        return self.team(program, receiver=False, **about)[0]

    def team(self, *programs: Program, receiver: bool = True, **about: Any) -> list[Actor]:
        """Before the curtain: a process with a waiter for each of these programs, and with one that hears."""
        process = self.process(**about)
        hearing = [self.actor(receives, process)] if receiver else []
        for actor in hearing:
            self.run(actor)
        team = [self.actor(program, process) for program in programs or (once,)]
        for actor in team:
            self.run(actor)
            for other in hearing:
                self.run(other)
        return team

    def settle(self, seconds: float = 0.0) -> None:
        """Before the curtain: let all of them come to rest, and then so much time pass."""
        end = self.world.now + seconds
        while True:
            ready = [actor for actor in self.world.actors if actor.ready()]
            if ready:
                self.world.step(ready[0])
            elif self.world.next_time() <= end + 1e-9:
                self.world.pass_time()
            else:
                return
            self.prompt.note()

    def stop(self, actor: Actor) -> None:
        """Before the curtain: its process is stopped, and may be continued."""
        self.world.stop(actor.process)
        self.stops = [*self.stops, actor]

    def raise_curtain(self) -> Stage:
        self.up = True
        self.prompt.note()
        self.checks.disturbed = True  # `Promptness` says when a slot may be free
        return super().raise_curtain()

    # -- steps ------------------------------------------------------------------------------------------------------

    def options(self, current: str, faults: int) -> list[Option]:
        """Many look at the same moment: another order of theirs is counted as an interruption, too."""
        found = super().options(current, faults)
        return [*found[:1], *(each._replace(cost=1 - each.fault) for each in found[1:])]

    def _while_nobody_can_go_on(self) -> list[Option]:
        """Who is stopped or blocked stays so until all others have ended, unless it keeps a slot or the lock."""
        actors = [actor for actor in self.world.actors if actor.alive]
        stopped = [actor for actor in actors if actor.process.state == "stopped" or actor.blocked]
        for actor in stopped:
            if self.checks.keeps_others_out(actor):
                return [Option(f"+{actor.name}", 0, 0)]
        waits = [actor for actor in stopped if not actor.receives]
        if waits and not any(actor.alive and not actor.receives and self._runs(actor) for actor in self.world.actors):
            return [Option(f"+{waits[0].name}", 0, 0)]
        return [Option(".", 0, 0)]

    def _runs(self, actor: Actor) -> bool:
        return actor.process.state == "runs" and not actor.blocked

    def _disturb(self, how: str, actor: Actor) -> None:
        super()._disturb(how, actor)
        self.prompt.happens(how)
        if how in "!~" and actor in self.together:
            for process in processes_of(self.together):
                if process.state != "dead":
                    (self.world.kill if how == "!" else self.world.stop)(process)
            self.checks.passes()

    def before_time_passes(self) -> None:
        super().before_time_passes()
        if not self.checks.over:
            self.prompt.before_time_passes()

    def do(self, choice: str, *, checked: bool = True) -> None:
        super().do(choice, checked=checked)
        if self.up and not self.checks.over:
            self.prompt.note()

    def after_step(self) -> None:
        super().after_step()
        if self.up and not self.checks.over:
            self.prompt.after_step()


def processes_of(actors: Sequence[Actor]) -> list[Process]:
    """Each once."""
    return list(dict.fromkeys(actor.process for actor in actors))
