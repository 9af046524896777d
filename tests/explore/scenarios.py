"""The scenarios: who does what, and what may happen to whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from explore.programs import acquire, beats, once, release, works
from explore.stage import Scenario, Stage
from leasecap import _chain
from leasecap._record import PENDING, Child

if TYPE_CHECKING:
    from explore.scheduler import Actor

SCENARIOS: dict[str, Scenario] = {}


def scenario(about: str) -> Callable[[Callable[[], Stage]], Callable[[], Stage]]:
    def register(stage: Callable[[], Stage]) -> Callable[[], Stage]:
        SCENARIOS[stage.__name__] = Scenario(stage.__name__, about, stage)
        return stage

    return register


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
    holder = stage.actor(works(0.1))
    waiter = stage.actor(lambda actor: once(actor, timeout=0.1))
    stage.run(holder, "works")
    stage.run(holder)
    stage.run(waiter)
    stage.kills = [holder, waiter]
    return stage.raise_curtain()


@scenario("a waiter's time is up while another one queues behind it")
def timeout_with_another_behind() -> Stage:
    stage = Stage(within=1.5)
    holder = stage.actor(works(0.1))
    waiter = stage.actor(lambda actor: once(actor, timeout=0.1))
    other = stage.actor(once)
    stage.run(holder, "works")
    stage.run(holder)
    stage.run(waiter)
    stage.run(other)
    stage.kills = [holder, waiter, other]
    return stage.raise_curtain()


@scenario("a waiter is interrupted (Ctrl-C, a cancelled task) while the holder gives its slot back")
def interrupt_meets_release() -> Stage:
    stage = Stage(within=1.5)
    holder = stage.actor(works(0.1))
    waiter = stage.actor(lambda actor: once(actor, interrupt_at=actor.world.now + 0.05))
    other = stage.actor(once)
    stage.run(holder, "works")
    stage.run(holder)
    stage.run(waiter)
    stage.run(other)
    return stage.raise_curtain()


@scenario("a waiter is stopped before it acknowledges, with another one behind it; it is continued at any time")
def stopped_before_it_acknowledges() -> Stage:
    stage = Stage(within=5.0, tick=0.5, stop_for=12)
    holder, waiter, other = stage.actor(once), stage.actor(once), stage.actor(once)
    stage.run(holder, "works")
    stage.run(waiter)
    stage.run(other)
    stage.stops = [waiter]
    return stage.raise_curtain()


@scenario("any one of two is stopped anywhere, also inside the critical section")
def stopped_anywhere() -> Stage:
    stage = Stage(within=12.0, tick=1.0, stop_for=4, errors=True)
    both = [stage.actor(once) for _ in range(2)]
    stage.stops = both
    stage.twins = [both]
    return stage.raise_curtain()


@scenario("a holder was killed; two come, sweep, and one is killed too")
def reapers() -> Stage:
    stage = Stage(within=1.0)
    dead = stage.actor(once)
    stage.run(dead, "works")
    stage.bury(dead)
    both = [stage.actor(once) for _ in range(2)]
    stage.kills = both
    stage.twins = [both]
    return stage.raise_curtain()


@scenario("a holder was killed; one has judged its lease and is about to remove it while another one comes")
def late_reaper() -> Stage:
    stage = Stage(within=1.0)
    dead = stage.actor(once)
    stage.run(dead, "works")
    stage.bury(dead)
    successor = stage.actor(once)
    reaper = stage.actor(once)
    removal = ("rename", f"leases/{dead.held[0]._claim.name}")
    while reaper.pending is None or (reaper.pending[0], *reaper.pending[1])[:2] != removal:
        stage.world.step(reaper)
    stage.kills = [successor, reaper]
    return stage.raise_curtain()


@scenario("two try once, beside two dead holders of two slots in another pid namespace")
def try_once_beside_the_dead() -> Stage:
    stage = Stage(limit=2)
    for _ in range(2):
        dead = stage.actor(once, stage.process(pid_ns="container"))
        stage.run(dead, "works")
        stage.bury(dead)
    both = [stage.actor(lambda actor: must_have(once(actor, timeout=0))) for _ in range(2)]
    stage.twins = [both]
    return stage.raise_curtain()


def must_have(answer: str) -> str:
    """That there was a slot."""
    assert answer == "done", answer
    return answer


@scenario("a person releases a lease while its holder does, and somebody waits")
def released_by_a_person() -> Stage:
    stage = Stage(within=1.0, steals=True)
    holder, waiter = stage.actor(once), stage.actor(once)
    stage.run(holder, "works")
    stage.run(waiter)
    name = holder.held[0]._claim.name
    stage.actor(lambda actor: actor.process.kit.store.end(name))
    return stage.raise_curtain()


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


def borrows(box: list[str], then: Callable[[Actor], object] = once) -> Callable[[Actor], object]:
    """A program: when it is started by `lends`, do ``then`` under its lease."""

    def program(actor: Actor) -> object:
        parent = actor.world.actors[actor.number - 2]
        actor.world.perform("wait", lambda: bool(box) or not parent.alive)
        if not box:
            return "never started"
        for reference in box:
            _chain.enter(reference)
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
    outer: list[str] = []
    inner: list[str] = outer
    parent = stage.actor(lends(outer, 1))
    child = stage.actor(borrows(outer, lends(inner, 1)))
    grandchild = stage.actor(grandchild_program(inner))
    stage.run(parent, "lends")
    stage.kills = [parent, child, grandchild]
    return stage.raise_curtain()


def grandchild_program(box: list[str]) -> Callable[[Actor], object]:
    def program(actor: Actor) -> object:
        parent = actor.world.actors[actor.number - 2]
        actor.world.perform("wait", lambda: len(box) > 1 or not parent.alive)
        if len(box) < 2:
            return "never started"
        for reference in box:
            _chain.enter(reference)
        return once(actor)

    return program


@scenario("two agents borrow one slot, and a third one wants it")
def two_borrowers() -> Stage:
    stage = Stage(within=1.0)
    box: list[str] = []
    parent = stage.actor(lends(box, 2))
    stage.run(parent, "lends")

    def under(actor: Actor) -> str:
        _chain.enter(box[0])
        return once(actor)

    both = [stage.actor(under) for _ in range(2)]
    stage.kills = [parent, *both]
    stage.twins = [both]
    return stage.raise_curtain()


@scenario("two threads of one process")
def two_threads() -> Stage:
    stage = Stage()
    process = stage.process()
    both = [stage.actor(once, process) for _ in range(2)]
    stage.twins = [both]
    return stage.raise_curtain()


@scenario("a holder in another pid namespace, and one that comes")
def another_pid_namespace() -> Stage:
    stage = Stage(within=1.0)
    holder = stage.actor(works(0.2), stage.process(pid_ns="container", pid=102, start=12))
    stage.actor(once)
    stage.run(holder, "works")
    stage.kills = [holder]
    return stage.raise_curtain()


@scenario("lock directory: two acquire; one may be killed, also inside")
def directory_two_acquire() -> Stage:
    stage = Stage(kind="directory")
    both = [stage.actor(once) for _ in range(2)]
    stage.kills = both
    stage.twins = [both]
    return stage.raise_curtain()


@scenario("lock directory: a holder on another kernel is stopped, taken for dead by its heartbeat, and continued")
def judged_by_another_kernel() -> Stage:
    stage = Stage(
        kind="directory", within=16.0, tick=1.0, stop_for=6, stale_after=3.0, heartbeat=1.0, patience=9.0, steals=True
    )
    away = stage.process(kernel="away")
    holder = stage.actor(works(1.0, 4), away)
    stage.actor(beats(1.0), away)
    waiter = stage.actor(once)
    stage.run(holder, "works")
    stage.run(holder)
    stage.run(waiter)
    stage.stops = [holder]
    return stage.raise_curtain()


def two_kernels() -> Stage:
    return Stage(
        kind="directory", within=25.0, tick=1.0, stop_for=7, stale_after=3.0, heartbeat=1.0, patience=9.0, steals=True
    )


def robbed(others: int) -> Stage:
    stage = two_kernels()
    robbed = stage.actor(works(1.0, 2), stage.process(kernel="away"))
    while robbed.number not in stage.checks.inside:
        stage.world.step(robbed)
    thieves = [stage.actor(works(1.0, 4)) for _ in range(others)]
    stage.twins = [thieves]
    stage.stops = [robbed]
    return stage.raise_curtain()


@scenario("lock directory: robbed holder and thief go on side by side, right after the theft")
def robbed_and_thief() -> Stage:
    stage = two_kernels()
    robbed = stage.actor(works(1.0, 2), stage.process(kernel="away"))
    while robbed.number not in stage.checks.inside:
        stage.world.step(robbed)
    stage.world.stop(robbed.process)
    thief = stage.actor(works(1.0, 2))
    while not stage.world.fs.children("stolen"):
        if thief.ready():
            stage.world.step(thief)
        else:
            stage.world.pass_time()
    stage.world.go_on(robbed.process)
    return stage.raise_curtain()


@scenario("lock directory: who is inside is stopped for so long that its half-made entry is swept away")
def swept_inside() -> Stage:
    stage = two_kernels()
    stopped = stage.actor(once, stage.process(kernel="away"))
    staged: list[str] = []
    while not staged or stopped.number not in stage.checks.inside:
        stage.world.step(stopped)
        staged = [name for name in stage.world.fs.names if name.startswith("staging/5") and name.count("/") == 1]
    stage.world.stop(stopped.process)
    others = [stage.actor(works(1.0, 12)), stage.actor(once)]
    while staged[0] in stage.world.fs.names:
        ready = [actor for actor in others if actor.ready()]
        if ready:
            stage.world.step(ready[0])
        else:
            stage.world.pass_time()
    stage.world.go_on(stopped.process)
    return stage.raise_curtain()


@scenario("lock directory: who is inside is on another kernel, stopped and robbed, and goes on inside")
def robbed_inside() -> Stage:
    return robbed(1)


@scenario("lock directory: the same, and two come")
def robbed_inside_by_one_of_two() -> Stage:
    return robbed(2)


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
    stage.actor(lambda actor: actor.process.kit.store.sweep())
    stage.kills = [made]
    return stage.raise_curtain()


@scenario("a waiter takes up its grant while another one comes")
def grant_meets_newcomer() -> Stage:
    stage = Stage(within=1.0)
    holder, waiter = stage.actor(once), stage.actor(once)
    stage.run(holder, "works")
    stage.run(waiter)
    while not holder.ended:
        stage.world.step(holder)
    other = stage.actor(once)
    stage.kills = [waiter, other]
    return stage.raise_curtain()


@scenario("a holder gives its slot back while one waits and another one comes")
def release_meets_newcomer() -> Stage:
    stage = Stage(within=1.0)
    holder, waiter = stage.actor(once), stage.actor(once)
    stage.run(holder, "works")
    stage.run(waiter)
    other = stage.actor(once)
    stage.kills = [holder, waiter, other]
    return stage.raise_curtain()


@scenario("a holder is killed while one waits")
def waiter_behind_the_dead() -> Stage:
    stage = Stage(within=0.4)
    holder, waiter = stage.actor(once), stage.actor(once)
    stage.run(holder, "works")
    stage.run(waiter)
    stage.bury(holder)
    return stage.raise_curtain()


@scenario("one is stopped inside the critical section while another one has half a second")
def short_of_time_behind_a_stopped_one() -> Stage:
    stage = Stage(within=3.0, tick=0.5, stop_for=30, errors=True)
    stopped = stage.actor(once)
    while stopped.number not in stage.checks.inside:
        stage.world.step(stopped)
    stage.world.stop(stopped.process)
    stage.stops = [stopped]
    stage.actor(lambda actor: once(actor, timeout=0.5))
    return stage.raise_curtain()


@scenario("the pid of a dead holder is used again, by one that comes")
def pid_used_again() -> Stage:
    stage = Stage()
    dead = stage.actor(once, stage.process(pid=500, start=10))
    stage.run(dead, "works")
    stage.bury(dead)
    stage.actor(lambda actor: must_have(once(actor, timeout=0)), stage.process(pid=500, start=99))
    return stage.raise_curtain()


@scenario("after a reboot a live process happens to have the pid and the start ticks of a dead holder")
def after_a_reboot() -> Stage:
    stage = Stage()
    dead = stage.actor(once, stage.process(boot="before", pid=500, start=10))
    stage.run(dead, "works")
    stage.bury(dead)
    stage.actor(lambda actor: must_have(once(actor, timeout=0)), stage.process(pid=500, start=10))
    return stage.raise_curtain()


@scenario("two wait and hints alone wake them, while the holder gives its slot back")
def hints_alone() -> Stage:
    stage = Stage(within=1.0)
    holder, waiter = stage.actor(once), stage.actor(once)
    for process in stage.world.processes:
        process.kit.hints = True
    stage.run(holder, "works")
    stage.kills = []
    assert waiter.alive
    return stage.raise_curtain()


@scenario("somebody looks at a dead holder's lease while another one tries once")
def looked_at_while_one_tries() -> Stage:
    stage = Stage()
    dead = stage.actor(once, stage.process(pid_ns="container"))
    stage.run(dead, "works")
    name = dead.held[0]._claim.name
    stage.bury(dead)
    stage.actor(lambda actor: must_have(once(actor, timeout=0)))
    stage.actor(lambda actor: actor.process.kit.store.observer.judge("leases", name))
    return stage.raise_curtain()
