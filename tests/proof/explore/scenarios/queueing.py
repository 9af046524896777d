"""Those who want a slot, among the living: who waits, gives up, is stopped, or comes at the wrong moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insides import own_entry_of

from explore.programs import acquire, once, release, works
from explore.scenarios.register import scenario
from explore.stage import Stage

if TYPE_CHECKING:
    from explore.scheduler import Actor
    from leasecap._lease import Lease


@scenario("two acquire one slot and give it back; one may be killed")
def two_acquire() -> Stage:
    stage = Stage()
    both = [stage.actor(once) for _ in range(2)]
    stage.kills = both
    stage.twins = [both]
    return stage.raise_curtain()


@scenario("three acquire one slot and give it back")
def three_acquire() -> Stage:
    stage = Stage()
    stage.kills = [stage.actor(once) for _ in range(3)]
    stage.twins = [stage.kills]
    return stage.raise_curtain()


@scenario("one gives its slot back while another one's time is up")
def timeout_meets_release() -> Stage:
    stage = Stage(within=1.5)
    holder = stage.holder(works(0.1))
    waiter = stage.waiter(lambda actor: once(actor, timeout=0.1))
    stage.kills = [holder, waiter]
    return stage.raise_curtain()


@scenario("a waiter's time is up while another one queues behind it")
def timeout_with_another_behind() -> Stage:
    stage = Stage(within=1.5)
    holder = stage.holder(works(0.1))
    waiter = stage.waiter(lambda actor: once(actor, timeout=0.1))
    other = stage.waiter()
    stage.kills = [holder, waiter, other]
    return stage.raise_curtain()


@scenario("a waiter is interrupted (Ctrl-C, a cancelled task) while the holder gives its slot back")
def interrupt_meets_release() -> Stage:
    stage = Stage(within=1.5)
    stage.holder(works(0.1))
    stage.waiter(lambda actor: once(actor, interrupt_at=actor.world.now + 0.05))
    stage.waiter()
    return stage.raise_curtain()


@scenario("a waiter is stopped before it acknowledges, with another one behind it; it is continued at any time")
def stopped_before_it_acknowledges() -> Stage:
    stage = Stage(within=5.0, tick=0.5, stop_for=12)
    stage.holder()
    waiter = stage.waiter()
    stage.waiter()
    stage.stops = [waiter]
    return stage.raise_curtain()


@scenario("any one of two is stopped anywhere, also inside the critical section")
def stopped_anywhere() -> Stage:
    stage = Stage(within=12.0, tick=1.0, stop_for=4, errors=True)
    both = [stage.actor(once) for _ in range(2)]
    stage.stops = both
    stage.twins = [both]
    return stage.raise_curtain()


@scenario("one is stopped inside the critical section while another one has half a second")
def short_of_time_behind_a_stopped_one() -> Stage:
    stage = Stage(within=3.0, tick=0.5, stop_for=30, errors=True)
    stopped = stage.inside()
    stage.world.stop(stopped.process)
    stage.stops = [stopped]
    stage.actor(lambda actor: once(actor, timeout=0.5))
    return stage.raise_curtain()


@scenario("a waiter takes up its grant while another one comes")
def grant_meets_newcomer() -> Stage:
    stage = Stage(within=1.0)
    holder, waiter = stage.holder(), stage.waiter()
    while not holder.ended:
        stage.world.step(holder)
    other = stage.actor(once)
    stage.kills = [waiter, other]
    return stage.raise_curtain()


@scenario("a holder gives its slot back while one waits and another one comes")
def release_meets_newcomer() -> Stage:
    stage = Stage(within=1.0)
    holder, waiter = stage.holder(), stage.waiter()
    other = stage.actor(once)
    stage.kills = [holder, waiter, other]
    return stage.raise_curtain()


@scenario("a person releases a lease while its holder does, and somebody waits")
def released_by_a_person() -> Stage:
    stage = Stage(within=1.0, steals=True)
    holder = stage.holder()
    stage.waiter()
    name = own_entry_of(holder.held[0]).name
    stage.actor(lambda actor: actor.process.kit.store.end(name))
    return stage.raise_curtain()


@scenario("two threads of one process")
def two_threads() -> Stage:
    stage = Stage()
    process = stage.process()
    both = [stage.actor(once, process) for _ in range(2)]
    stage.twins = [both]
    return stage.raise_curtain()


@scenario("one acquires again and again, and keeps its entry for the next time; another one comes; one is killed")
def kept_for_the_next_time() -> Stage:
    stage = Stage()

    def thrice(actor: Actor) -> str:
        for number in range(4):
            actor.at(f"round {number}")
            actor.world.perform("work")
            once(actor)
        return "done"

    often = stage.actor(thrice)
    stage.run(often, "round 2")
    other = stage.actor(once)
    stage.kills = [often, other]
    return stage.raise_curtain()


@scenario("two wait and hints alone wake them, while the holder gives its slot back")
def hints_alone() -> Stage:
    stage = Stage(within=1.0)
    holder, waiter = stage.actor(once), stage.actor(once)
    for process in stage.world.processes:
        process.kit.hints = True
    stage.run(holder, "works")
    assert waiter.alive
    return stage.raise_curtain()


@scenario("held too long: a sweeper and the holder itself give the slot away, and the holder releases it just then")
def held_too_long() -> Stage:
    stage = Stage(tick=0.5, within=3.0, steals=True)
    process = stage.process()
    process.kit.store.policy.force = True
    leases: list[Lease] = []

    def holder(actor: Actor) -> str:
        lease = acquire(actor, max_hold=0.5)
        assert lease.hold is not None
        leases.append(lease)
        actor.at("works")
        actor.rests(lease.hold.give_away_at - actor.world.now, None, None)
        actor.world.perform("work")  # a step, here and below: either may be the first
        release(actor, lease)
        return "lost" if lease.lost else "done"

    def alarm(actor: Actor) -> None:
        hold = leases[0].hold
        assert hold is not None
        actor.rests(hold.give_away_at - actor.world.now, None, None)
        actor.world.perform("work")
        leases[0]._give_away()

    stage.run(stage.actor(holder, process), "works")
    stage.actor(alarm, process)
    waiter = stage.actor(once)
    waiter.process.kit.store.policy.force = True
    stage.run(waiter)
    return stage.raise_curtain()
