"""A limit that changes while slots are held and waited for."""

from __future__ import annotations

import pytest
from holders import HOLD, configure, give_back, hold, queue, ready

TYPE_CHECKING = False
if TYPE_CHECKING:
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
