"""A wait that a signal ends: no ticket stays, and no slot leaks."""

from __future__ import annotations

import signal

import pytest
from holders import HOLD, can_be_had, configure, give_back, hold, ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team


def test_ctrl_c_in_the_queue_leaves_no_ticket(team: Team) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    waiter = team.start(
        """
try:
    leasecap.acquire("p")
except KeyboardInterrupt:
    say("INTERRUPTED")
    hear()
"""
    )
    team.until_waiting(1)
    waiter.send(signal.SIGINT)
    waiter.expect("INTERRUPTED")
    team.until_waiting(0)
    give_back(holder)
    assert can_be_had(team)
    team.assert_idle()


@pytest.mark.parametrize("error", ["TimeoutError", "PermissionError", "StopAsyncIteration", "SystemExit"])
def test_what_a_signal_handler_raises_in_the_queue_comes_out_as_it_is(team: Team, error: str) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    waiter = team.start(
        f"""
import signal
def handler(signum, frame):
    raise {error}("mine")
signal.signal(signal.SIGALRM, handler)
try:
    leasecap.acquire("p")
except BaseException as error:
    say("RAISED", type(error).__name__, error)
hear()
"""
    )
    team.until_waiting(1)
    waiter.send(signal.SIGALRM)
    assert waiter.expect("RAISED") == f"{error} mine"
    team.until_waiting(0)
    give_back(holder)
    assert can_be_had(team)


# Waits with an on_wait that blocks until the test has sent a signal.
ASKS = """
import signal
class Alarm(Exception):
    pass
def handler(signum, frame):
    raise Alarm
signal.signal(signal.SIGALRM, handler)
def on_wait(waiting):
    say("TOLD")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        time.sleep(0.05)  # a signal that comes between a look and a sleep is seen after that
    say("NOT INTERRUPTED")
{acquire}
hear()
"""


SYNC = """
try:
    leasecap.acquire("p", on_wait=on_wait)
except BaseException as error:
    say("RAISED", type(error).__name__)
"""


ASYNC = """
import asyncio
async def main():
    try:
        await leasecap.acquire_async("p", on_wait=on_wait)
    except BaseException as error:
        say("RAISED", type(error).__name__)
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
"""


@pytest.mark.posix("signals")
@pytest.mark.parametrize("acquire", [SYNC, ASYNC], ids=["sync", "async"])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGALRM])
def test_a_signal_is_not_held_back_while_on_wait_runs(team: Team, acquire: str, signum: signal.Signals) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    waiter = team.start(ASKS.format(acquire=acquire))
    waiter.expect("TOLD")
    waiter.send(signum)
    assert waiter.expect("RAISED") == ("KeyboardInterrupt" if signum == signal.SIGINT else "Alarm")
    team.until_waiting(0)
    holder.tell()
    holder.expect("RELEASED")
    assert can_be_had(team)
