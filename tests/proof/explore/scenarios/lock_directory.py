"""The lock directory: its holder is killed inside, or taken for dead by another kernel."""

from __future__ import annotations

from explore.programs import beats, once, works
from explore.scenarios.register import scenario
from explore.stage import Stage


@scenario("lock directory: two acquire; one may be killed, also inside")
def directory_two_acquire() -> Stage:
    stage = Stage(kind="directory")
    both = [stage.actor(once) for _ in range(2)]
    stage.kills = both
    stage.twins = [both]
    return stage.raise_curtain()


@scenario("lock directory: a holder on another kernel is stopped, taken for dead by its heartbeat, and continued")
def judged_by_another_kernel() -> Stage:
    stage = two_kernels(within=16.0, stop_for=6)
    holder = stage.holder(works(1.0, 4), kernel="away")
    stage.actor(beats(1.0), holder.process)
    stage.waiter()
    stage.stops = [holder]
    return stage.raise_curtain()


def two_kernels(within: float = 25.0, stop_for: int = 7) -> Stage:
    """Kernels that share a root see of each other's processes nothing but heartbeats."""
    return Stage(
        kind="directory",
        within=within,
        tick=1.0,
        stop_for=stop_for,
        stale_after=3.0,
        heartbeat=1.0,
        patience=9.0,
        steals=True,
    )


def robbed(others: int) -> Stage:
    stage = two_kernels()
    robbed = stage.inside(works(1.0, 2), kernel="away")
    thieves = [stage.actor(works(1.0, 4)) for _ in range(others)]
    stage.twins = [thieves]
    stage.stops = [robbed]
    return stage.raise_curtain()


@scenario("lock directory: robbed holder and thief go on side by side, right after the theft")
def robbed_and_thief() -> Stage:
    stage = two_kernels()
    robbed = stage.inside(works(1.0, 2), kernel="away")
    stage.world.stop(robbed.process)
    thief = stage.actor(works(1.0, 2))
    stage.play([thief], lambda: bool(stage.world.fs.children("stolen")))
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
    others = [stage.actor(works(7.0)), stage.actor(once)]
    stage.play(others, lambda: staged[0] not in stage.world.fs.names)
    stage.world.go_on(stopped.process)
    return stage.raise_curtain()


@scenario("lock directory: who is inside is on another kernel, stopped and robbed, and goes on inside")
def robbed_inside() -> Stage:
    return robbed(1)


@scenario("lock directory: the same, and two come")
def robbed_inside_by_one_of_two() -> Stage:
    return robbed(2)
