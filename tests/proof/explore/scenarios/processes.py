"""Processes with several tickets: killed, stopped and blocked as a whole, and how soon a slot passes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explore.crowd import Crowd
from explore.programs import once, works
from explore.promptness import Bounds
from explore.scenarios.register import scenario

if TYPE_CHECKING:
    from explore.scheduler import Actor
    from explore.stage import Stage

SOON = works(0.5)
LATE = works(1.5)


@scenario("a process that holds and has two tickets is killed, and another one waits behind")
def killed_with_its_tickets() -> Stage:
    stage = Crowd()
    holder = stage.team(LATE, once, once)
    stage.team(once)
    stage.kills = holder[:1]
    return stage.raise_curtain()


@scenario("the same, and the killed one is started anew at once")
def killed_and_started_anew() -> Stage:
    stage = Crowd()
    holder = stage.team(LATE, once, once)
    stage.lone()
    stage.settle(1.0)
    stage.bury(holder[0])
    stage.prompt.happens("!")
    process = stage.process()
    stage.actor(once, process)
    return stage.raise_curtain()


@scenario("the two tickets of a process that is stopped stand ahead, when a slot is released")
def stopped_with_its_tickets() -> Stage:
    stage = Crowd()
    stage.lone(SOON)
    stage.stops = stage.team(once, once)[:1]
    stage.lone()
    return stage.raise_curtain()


@scenario("the same where it can't be seen that it is stopped")
def stopped_unseen() -> Stage:
    stage = Crowd(sees_stops=False)
    stage.lone(SOON)
    stage.stops = stage.team(once, once)[:1]
    stage.lone()
    return stage.raise_curtain()


@scenario("an event loop with two tickets is blocked while its process hears, and another one waits behind")
def blocked_with_its_tickets() -> Stage:
    stage = Crowd()
    stage.lone(SOON)
    team = stage.team(once, once)
    stage.lone()
    for actor in team:
        actor.blocked = True
    return stage.raise_curtain()


@scenario("one of two threads of a process is blocked, and another process waits behind")
def blocked_beside_a_sound_one() -> Stage:
    stage = Crowd()
    stage.lone(works(1.5))
    stage.blocks = stage.team(once, once)[:1]
    stage.lone()
    return stage.raise_curtain()


@scenario("one of two threads of a process is blocked, and nobody else waits")
def blocked_beside_a_sound_one_alone() -> Stage:
    stage = Crowd(guarded=False)
    stage.lone(works(1.3))
    team = stage.team(once, once)
    stage.settle(0.3)
    team[0].blocked = True
    return stage.raise_curtain()


@scenario("one is stopped unseen; two wait, and the second is killed before that one's grant is taken back")
def sweeper_killed_beside_a_stopped_one() -> Stage:
    stage = Crowd(sees_stops=False)
    stage.lone(works(0.3))
    stopped = stage.lone()
    both = [stage.lone() for _ in range(2)]
    stage.settle(0.1)
    stage.stop(stopped)
    stage.settle(2.1)  # it was granted the slot at 0.3 s
    stage.kills = both[1:]
    return stage.raise_curtain()


@scenario("a holder and the first two processes are killed together, and a third one waits")
def killed_with_the_first_two() -> Stage:
    stage = Crowd()
    holder, first, second = stage.lone(LATE), stage.lone(), stage.lone()
    stage.lone()
    stage.settle(0.1)
    stage.together = [holder, first, second]
    stage.kills = [holder]
    return stage.raise_curtain()


def stopped_then_the_holder_killed(number: int, bounds: Bounds | None = None) -> Stage:
    """Nobody has looked since they were stopped."""
    stage = Crowd(bounds=bounds)
    holder, *others = (stage.lone(works(1.5)), *(stage.lone() for _ in range(number)))
    stage.lone()
    stage.settle(1.1)
    for actor in others:
        stage.stop(actor)
    stage.prompt.happens("~")
    stage.kills = [holder]
    return stage.raise_curtain()


@scenario("the first two processes are stopped, and then the holder is killed; a third one waits")
def two_stopped_then_the_holder_killed() -> Stage:
    return stopped_then_the_holder_killed(2)


@scenario("the first three processes are stopped, and then the holder is killed; a fourth one waits")
def three_stopped_then_the_holder_killed() -> Stage:
    """Each one more that was stopped just before takes a quarter of a second more."""
    return stopped_then_the_holder_killed(3, Bounds(kill=0.5, stop=0.5))


@scenario("a process with three tickets is stopped, and then the holder is killed; another one waits")
def stopped_with_three_tickets_then_the_holder_killed() -> Stage:
    stage = Crowd()
    holder = stage.lone(works(1.5))
    stopped = stage.team(once, once, once)
    stage.lone()
    stage.settle(1.1)
    stage.stop(stopped[0])
    stage.kills = [holder]
    return stage.raise_curtain()


@scenario("one far back that declares a limit of one is killed, where two are free")
def declarer_far_back_killed() -> Stage:
    stage = Crowd(limit=2)
    stage.lone(LATE)
    stage.lone()
    stage.lone()
    stage.kills = [stage.lone(lambda actor: once(actor, limit=1))]
    stage.settle(0.1)
    return stage.raise_curtain()


def urgent(actor: Actor) -> str:
    return once(actor, priority=1)


@scenario("one goes before another one in the queue, and is killed with all ahead but the stopped")
def inserted_and_killed() -> Stage:
    stage = Crowd()
    holder = stage.lone(works(2.0))
    first, second, stopped = (stage.lone(urgent) for _ in range(3))
    stage.lone()
    stage.settle(1.1)  # the last one has just looked
    stage.stop(stopped)
    inserted = stage.lone(urgent)
    stage.settle()
    stage.together = [holder, first, second, inserted]
    stage.kills = [holder]
    return stage.raise_curtain()


def elder(actor: Actor) -> str:
    return once(actor, task_since=-60.0)


@scenario("one of an earlier task goes before another one, and is killed with all ahead but the stopped")
def elder_inserted_and_killed() -> Stage:
    stage = Crowd()
    holder = stage.lone(works(2.0))
    first, second, stopped = (stage.lone(elder) for _ in range(3))
    stage.lone()
    stage.settle(1.1)  # the last one has just looked
    stage.stop(stopped)
    inserted = stage.lone(lambda actor: once(actor, task_since=-30.0))
    stage.settle()
    stage.together = [holder, first, second, inserted]
    stage.kills = [holder]
    return stage.raise_curtain()


@scenario("one gives up in the middle of the queue, and all ahead of it are killed")
def gives_up_and_all_ahead_killed() -> Stage:
    stage = Crowd()
    ahead = [stage.lone(works(2.2)), *(stage.lone() for _ in range(3))]
    stage.lone(lambda actor: once(actor, timeout=2.0))
    stage.lone()
    stage.settle(1.5)
    stage.together = ahead
    stage.kills = ahead[:1]
    return stage.raise_curtain()


@scenario("wake-ups are lost, or handles on processes not to be had, among three that wait")
def lost_wake_ups() -> Stage:
    stage = Crowd()
    actors = [stage.lone(SOON), *stage.team(once, once), stage.lone()]
    stage.fails = stage.world.actors
    stage.kills = actors[:1]
    return stage.raise_curtain()


@scenario("a holder with tickets is killed where there are no handles on processes")
def killed_without_handles() -> Stage:
    stage = Crowd(sees_exits=False)
    holder = stage.team(works(1.0), once, once)
    stage.lone()
    stage.kills = holder[:1]
    return stage.raise_curtain()
