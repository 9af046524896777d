"""A limit that changes while slots are held and waited for."""

from __future__ import annotations

import pytest
from holders import HOLD, configure, give_back, hold, queue, ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pace import Pace
    from referee import Team


@pytest.mark.parametrize("lock", ["os", "directory"])
def test_a_holder_that_read_a_higher_limit_hands_nothing_on_above_the_one_set_since(team: Team, lock: str) -> None:
    configure(team, lock, limit=2)
    first, second, waiter = (team.start(HOLD, name) for name in ("first", "second", "waiter"))
    ready(first, second, waiter)
    hold(first)
    hold(second)
    queue(team, waiter)
    configure(team, lock, limit=1)
    give_back(first)
    # Its hand-off is over by now, and the waiter still waits for the second one.
    assert (team.pool().in_flight, team.pool().waiting) == (1, 1)
    give_back(second)
    waiter.expect("HELD")
    give_back(waiter)
    assert team.referee.order() == ["first", "second", "waiter"]
    team.assert_idle()


# An event loop that takes slots one after the other, each at a word of the test.
TAKES_IN_A_LOOP = """
import asyncio
async def main():
    while True:
        await asyncio.to_thread(hear)
        async with leasecap.slot("p"):
            say("HELD", time.monotonic_ns())
            await asyncio.to_thread(hear)
        say("RELEASED", False)
say("READY")
asyncio.run(main())
"""


def test_a_limit_that_changes_while_a_process_waits_for_nothing_leaves_its_next_wait_as_it_is(
    team: Team, pace: Pace
) -> None:
    configure(team, limit=2)
    first, second = (team.start(HOLD, name) for name in ("first", "second"))
    waiter = team.start(TAKES_IN_A_LOOP)
    ready(first, second, waiter)
    hold(first)
    hold(second)
    for _ in range(2):  # who has waited twice goes on to listen
        queue(team, waiter)
        give_back(second)
        waiter.expect("HELD")
        give_back(waiter)
        second.tell()
        second.done()
        second = team.start(HOLD, "second")
        ready(second)
        hold(second)
    configure(team, limit=1)
    give_back(second)
    queue(team, waiter)
    moment = first.kill()
    assert pace.seconds(moment, int(waiter.expect("HELD"))) < 0.6
    give_back(waiter)
