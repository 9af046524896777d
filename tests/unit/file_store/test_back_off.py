"""How often it is tried to enter a section that is taken."""

from __future__ import annotations

from pathlib import Path

from fake_machines import Call, Process, request
from fake_world import World
from staged_world import KIND


def test_a_newcomer_that_can_not_enter_tries_often_at_first_and_then_every_50_ms(root: Path) -> None:
    # 200 of them that tried every 5 ms kept both cores from whoever was inside; a second between two tries would leave
    # a section unused that comes free.
    root.mkdir(mode=0o700)
    world = World(root, kind=KIND)
    world.set_limit(1)
    inside, newcomer = world.processes = [Process(world, world.kernels[0]) for _ in range(2)]
    section = inside.ask(request()).store.section
    assert section.try_enter()
    call = Call(newcomer, request(), None)
    newcomer.calls.append(call)
    tries: list[float] = []
    began = newcomer.kernel.host.monotonic
    while (waited := newcomer.kernel.host.monotonic - began) < 2.0:
        tries.append(waited)
        newcomer.kernel.host.monotonic += next(call._steps)
    assert len([moment for moment in tries if moment < 0.05]) >= 5
    assert 20 <= len([moment for moment in tries if moment >= 1.0]) <= 21
    section.leave()
    call.step()
    assert call.waits and call.name is not None and world.listing("queue") == [call.name]
    for process in (inside, newcomer):
        process.kill()
