"""A limit that changes while slots are held and waited for."""

from __future__ import annotations

import pytest
from holders import ABOUT_TO_LOOK, HOLD, TRY, configure, give_back, hold, queue, ready

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


REPORTS = HOLD.replace("lease.release()", "lease.report(429, retry_after=600); lease.release()")


@pytest.mark.parametrize(
    ("before", "holder", "after"),
    [
        pytest.param("limit = 2", HOLD, "limit = 1", id="a lower limit"),
        pytest.param("limit = 2", REPORTS, "", id="a report"),
        pytest.param('limit = 2\ncooldown = "600s"', HOLD, "", id="a cool-down"),
        pytest.param("limit = 2", HOLD, 'limit = 2\ncooldown = "600s"', id="a cool-down set just now"),
    ],
)
def test_what_holds_before_a_slot_is_released_holds_for_whoever_finds_it_free(
    team: Team, lock: str, before: str, holder: str, after: str
) -> None:
    rest = f'\nlock = "{lock}"\n'
    team.configure(f"[pools.p]\n{before}{rest}")
    first, second = team.start(holder, "first"), team.start(HOLD, "second")
    newcomer = team.start(ABOUT_TO_LOOK + TRY)
    ready(first, second, newcomer)
    hold(first)
    hold(second)
    newcomer.tell()
    newcomer.expect("INSIDE")
    if after:
        team.configure(f"[pools.p]\n{after}{rest}")
    give_back(first)
    newcomer.tell()
    assert newcomer.expect("GOT") == "False"


# Two threads: one has read config.toml and holds still before it tells the open pools, and then the other one releases.
RELEASES_BESIDE_A_READER = """
import threading
from leasecap._file_store.open_root import OpenRoot
lease = leasecap.acquire("p")
releaser = threading.Thread(target=lease.release)
configure_all = OpenRoot._configure_all
def slow_configure_all(self):
    OpenRoot._configure_all = configure_all
    releaser.start()
    releaser.join(0.5)  # it waits for this thread
    return configure_all(self)
OpenRoot._configure_all = slow_configure_all
say("HELD")
hear()
leasecap.try_acquire("p")
releaser.join()
say("RELEASED", lease.lost)
hear()
"""


def test_a_lower_limit_that_one_thread_has_read_holds_for_what_another_one_hands_off(team: Team, lock: str) -> None:
    configure(team, lock, limit=3)
    threads = team.start(RELEASES_BESIDE_A_READER)
    threads.expect("HELD")
    first, second, waiter = (team.start(HOLD, name) for name in ("first", "second", "waiter"))
    ready(first, second, waiter)
    hold(first)
    hold(second)
    queue(team, waiter)
    configure(team, lock, limit=2)
    threads.tell()
    threads.expect("RELEASED")
    assert len(team.pool().holders) == 2


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
