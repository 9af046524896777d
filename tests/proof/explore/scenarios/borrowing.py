"""Agents that call agents: a lender waits while its borrowers use its slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from explore.programs import acquire, once, release
from explore.scenarios.register import scenario
from explore.stage import Stage
from leasecap import _ancestry

if TYPE_CHECKING:
    from explore.scheduler import Actor


def lends(box: list[str], count: int) -> Callable[[Actor], str]:
    """A program: take a slot, let ``count`` others work under it, wait for them, give it back."""

    def program(actor: Actor) -> str:
        lease = acquire(actor)
        actor.idle = True
        box.append(lease.reference)
        children = actor.world.actors[actor.number : actor.number + count]
        actor.at("lends")
        actor.world.perform("wait", lambda: not any(child.alive for child in children))
        actor.idle = False
        release(actor, lease)
        return "done"

    return program


def borrows(box: list[str], then: Callable[[Actor], object] = once, depth: int = 1) -> Callable[[Actor], object]:
    """A program: when it is started by `lends`, do ``then`` under that lease, the ``depth``-th of those lent."""

    def program(actor: Actor) -> object:
        parent = actor.world.actors[actor.number - 2]
        actor.world.perform("wait", lambda: len(box) >= depth or not parent.alive)
        if len(box) < depth:
            return "never started"
        for reference in box:
            _ancestry.enter(reference)
        return then(actor)

    return program


@scenario("an agent calls an agent under a cap of one, and a third one wants the slot")
def nested_two_deep() -> Stage:
    stage = Stage(within=1.0)
    box: list[str] = []
    parent = stage.actor(lends(box, 1))
    child = stage.actor(borrows(box))
    stage.run(parent, "lends")
    other = stage.actor(once)
    stage.kills = [parent, child, other]
    return stage.raise_curtain()


@scenario("an agent calls an agent that calls an agent, under a cap of one")
def nested_three_deep() -> Stage:
    stage = Stage(within=1.0)
    box: list[str] = []
    parent = stage.actor(lends(box, 1))
    child = stage.actor(borrows(box, lends(box, 1)))
    grandchild = stage.actor(borrows(box, depth=2))
    stage.run(parent, "lends")
    stage.kills = [parent, child, grandchild]
    return stage.raise_curtain()


@scenario("two agents borrow one slot, and a third one wants it")
def two_borrowers() -> Stage:
    stage = Stage(within=1.0)
    box: list[str] = []
    parent = stage.actor(lends(box, 2))
    stage.run(parent, "lends")

    def under(actor: Actor) -> str:
        _ancestry.enter(box[0])
        return once(actor)

    both = [stage.actor(under) for _ in range(2)]
    stage.kills = [parent, *both]
    stage.twins = [both]
    return stage.raise_curtain()
