"""Whoever waits sees to it that the dead are reaped, even if those ahead of it can't."""

from __future__ import annotations

import pytest
from holders import HOLD, configure, give_back, hold, queue, ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team


@pytest.mark.parametrize("lock", ["os", "directory"])
def test_a_slot_goes_to_the_only_one_left_when_its_holder_and_all_who_waited_ahead_are_killed(
    team: Team, lock: str
) -> None:
    configure(team, lock)
    holder, first, second, last = (team.start(HOLD, name) for name in ("holder", "first", "second", "last"))
    ready(holder, first, second, last)
    hold(holder)
    queue(team, first, second, last)
    # As a terminal with all of them in it does when it is closed. Waiters first: the holder's end wakes nobody.
    for worker in (first, second, holder):
        worker.kill()
    last.expect("HELD")
    give_back(last)
    team.assert_idle()


@pytest.mark.parametrize("stopped", [2, 3, 4])
def test_a_killed_holders_slot_passes_all_who_are_stopped_ahead(team: Team, stopped: int) -> None:
    configure(team)
    holder, last = team.start(HOLD, "holder"), team.start(HOLD, "last")
    ahead = [team.start(HOLD, number) for number in range(stopped)]
    ready(holder, last, *ahead)
    hold(holder)
    queue(team, *ahead, last)
    for worker in ahead:
        team.stop_outside(worker)
    holder.kill()
    last.expect("HELD")
    give_back(last)
    for worker in ahead:
        worker.go_on()
        worker.expect("HELD")
        give_back(worker)
    team.assert_idle()
