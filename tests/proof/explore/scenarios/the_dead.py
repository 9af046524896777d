"""What the dead left, who counts as dead, and who removes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insides import own_entry_of

from explore.programs import acquire, once, release, works
from explore.scenarios.register import scenario
from explore.stage import Program, Stage
from leasecap._liveness.record import PENDING, Child

if TYPE_CHECKING:
    from explore.scheduler import Actor


def must_have(answer: str) -> str:
    """That there was a slot."""
    assert answer == "done", answer
    return answer


@scenario("a holder was killed; two come, sweep, and one is killed too")
def reapers() -> Stage:
    stage = Stage(within=1.0)
    stage.dead_holder()
    both = [stage.actor(once) for _ in range(2)]
    stage.kills = both
    stage.twins = [both]
    return stage.raise_curtain()


@scenario("a holder was killed; one has judged its lease and is about to remove it while another one comes")
def late_reaper() -> Stage:
    return reaped_late(once)


@scenario("the same, and both try once: neither stands in the queue")
def late_reaper_while_one_tries_once() -> Stage:
    return reaped_late(lambda actor: once(actor, timeout=0))


def reaped_late(program: Program) -> Stage:
    stage = Stage(within=1.0)
    dead = stage.dead_holder()
    successor, reaper = stage.actor(program), stage.actor(program)
    removal = ("rename", f"leases/{own_entry_of(dead.held[0]).name}")
    while reaper.pending is None or (reaper.pending[0], *reaper.pending[1])[:2] != removal:
        stage.world.step(reaper)
    stage.kills = [successor, reaper]
    return stage.raise_curtain()


@scenario("two try once, beside two dead holders of two slots in another pid namespace")
def try_once_beside_the_dead() -> Stage:
    stage = Stage(limit=2)
    for _ in range(2):
        stage.dead_holder(pid_ns="container")
    both = [stage.actor(lambda actor: must_have(once(actor, timeout=0))) for _ in range(2)]
    stage.twins = [both]
    return stage.raise_curtain()


@scenario("somebody looks at a dead holder's lease while another one tries once")
def looked_at_while_one_tries() -> Stage:
    stage = Stage()
    name = own_entry_of(stage.dead_holder(pid_ns="container").held[0]).name
    stage.actor(lambda actor: must_have(once(actor, timeout=0)))
    stage.actor(lambda actor: actor.process.kit.store.observer.judge("leases", name))
    return stage.raise_curtain()


@scenario("a holder is killed while one waits")
def waiter_behind_the_dead() -> Stage:
    stage = Stage(within=0.4)
    holder = stage.holder()
    stage.waiter()
    stage.bury(holder)
    return stage.raise_curtain()


@scenario("a holder whose exit nobody can watch is killed when one has waited for long")
def waiter_that_swept_behind_the_dead() -> Stage:
    stage = Stage(within=0.4)
    holder = stage.holder(works(5.0), pid_ns="container")
    waiter, since = stage.waiter(), stage.world.now
    # It has done the sweep that each process on duty owes: only the stamp tells it of the next one.
    stage.play([waiter], until=lambda: stage.world.now > since + 1.0)
    stage.bury(holder)
    return stage.raise_curtain()


@scenario("a holder in another pid namespace, and one that comes")
def another_pid_namespace() -> Stage:
    stage = Stage(within=1.0)
    holder = stage.holder(works(0.2), pid_ns="container", pid=102, start=12)
    stage.actor(once)
    stage.kills = [holder]
    return stage.raise_curtain()


@scenario("the pid of a dead holder is used again, by one that comes")
def pid_used_again() -> Stage:
    stage = Stage()
    stage.dead_holder(pid=500, start=10)
    stage.actor(lambda actor: must_have(once(actor, timeout=0)), stage.process(pid=500, start=99))
    return stage.raise_curtain()


@scenario("after a reboot a live process happens to have the pid and the start ticks of a dead holder")
def after_a_reboot() -> Stage:
    stage = Stage()
    stage.dead_holder(boot="before", pid=500, start=10)
    stage.actor(lambda actor: must_have(once(actor, timeout=0)), stage.process(pid=500, start=10))
    return stage.raise_curtain()


@scenario("a wrapper starts a command, and either is killed; the slot is taken until both are gone")
def command_outlives_its_wrapper() -> Stage:
    stage = Stage(within=1.5)
    command_process = stage.process()

    def command(actor: Actor) -> str:
        wrapper = actor.world.actors[0]
        actor.world.perform("wait", lambda: bool(wrapper.box) or not wrapper.alive)
        if not wrapper.box:
            return "never started"
        actor.holds(wrapper.box[0])
        actor.at("works")
        actor.world.perform("work")
        actor.lets_go(wrapper.box[0])
        actor.world.perform("exit")
        actor.process.state = "dead"
        return "done"

    def wrapper(actor: Actor) -> str:
        lease = acquire(actor)
        lease.note_child(PENDING)
        assert lease.liveness_fd is not None
        actor.world.perform("inherit", lease.liveness_fd, command_process.number)
        actor.box.append(lease)
        actor.lets_go(lease)
        identity = command_process.identity
        lease.note_child(Child(identity.pid, identity.start or 0))
        actor.at("waits for it")
        actor.world.perform("wait", lambda: command_process.state == "dead")
        release(actor, lease)
        return "done"

    first = stage.actor(wrapper)
    second = stage.actor(command, command_process)
    stage.actor(once)
    stage.run(first, "waits for it")
    stage.kills = [first, second]
    return stage.raise_curtain()


@scenario("one builds its entry while another one sweeps")
def swept_while_it_is_made() -> Stage:
    stage = Stage()
    made = stage.actor(once)
    stage.actor(lambda actor: actor.process.kit.store.sweeper.sweep())
    stage.kills = [made]
    return stage.raise_curtain()
