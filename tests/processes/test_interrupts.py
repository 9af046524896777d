"""A wait that ends early, by time or by Ctrl-C: in whatever moment, no ticket stays and no slot leaks."""

from __future__ import annotations

import pytest
from holders import HOLD, can_be_had, configure, give_back, hold, queue, ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team


# A waiter whose time is up stops for a word with the test before it withdraws, and if it is told "slowly" once more:
# when it has found that its ticket isn't in the queue any more, before it takes up the grant.
LATE = """
from leasecap._file_store.entries import Entries
from leasecap._file_store.store import Store
withdraw, acknowledge = Store.withdraw, Entries.acknowledge
slowly = False
def late_withdraw(self, own_entry):
    global slowly
    say("LATE")
    slowly = hear() == "slowly"
    return withdraw(self, own_entry)
def slow_acknowledge(self, own_entry):
    if slowly:
        say("BETWEEN")
        hear()
    return acknowledge(self, own_entry)
Store.withdraw, Entries.acknowledge = late_withdraw, slow_acknowledge
try:
    lease = leasecap.acquire("p", timeout=0.3)
except leasecap.AcquireTimeout:
    say("TIMEOUT")
else:
    say("HELD")
    hear()
    lease.release()
    say("RELEASED")
hear()
"""


def test_a_ticket_granted_in_the_moment_of_its_timeout_is_a_success(team: Team, lock: str) -> None:
    configure(team, lock)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    late = team.start(LATE)
    late.expect("LATE")
    give_back(holder)
    late.tell()
    late.expect("HELD")
    assert not can_be_had(team)
    late.tell()
    late.expect("RELEASED")
    assert can_be_had(team)
    team.assert_idle()


def test_a_ticket_withdrawn_just_before_its_grant_leaves_the_slot_to_the_next(team: Team, lock: str) -> None:
    configure(team, lock)
    holder, next_one = (team.start(HOLD, name) for name in ("holder", "next"))
    ready(holder, next_one)
    hold(holder)
    late = team.start(LATE)
    late.expect("LATE")
    queue(team, next_one, behind=1)
    late.tell()
    late.expect("TIMEOUT")
    give_back(holder)
    next_one.expect("HELD")
    give_back(next_one)
    team.assert_idle()


def test_a_grant_taken_back_in_the_middle_of_withdrawing_leaves_nothing_behind(team: Team, lock: str) -> None:
    configure(team, lock)
    holder, next_one = (team.start(HOLD, name) for name in ("holder", "next"))
    ready(holder, next_one)
    hold(holder)
    late = team.start(LATE)
    late.expect("LATE")
    give_back(holder)
    late.tell("slowly")
    late.expect("BETWEEN")
    next_one.tell()
    next_one.expect("HELD")  # it has dawdled for so long that its grant was taken back
    late.tell()
    late.expect("TIMEOUT")
    assert not can_be_had(team)
    give_back(next_one)
    assert can_be_had(team)
    team.assert_idle()


# Ctrl-C in a moment in which KeyboardInterrupt would do harm: inside the pool's lock, before anybody knows of the
# grant, in the middle of the release. The process lives on, as a notebook does.
INTERRUPTED = """
import signal
from leasecap import _lease
from leasecap._file_store import lock_directory, os_lock
from leasecap._file_store import heartbeats
def interrupted(function, after):
    def wrapper(*arguments):
        if not after:
            signal.raise_signal(signal.SIGINT)
        result = function(*arguments)
        if after:
            signal.raise_signal(signal.SIGINT)
        return result
    return wrapper
if sys.argv[1] == "in the lock":
    for kind in (os_lock.OsLock, lock_directory.LockDirectory):
        kind.try_enter = interrupted(kind.try_enter, after=True)
elif sys.argv[1] == "after the grant":
    _lease.Lease.__init__ = interrupted(_lease.Lease.__init__, after=False)
else:
    heartbeats.Heartbeats.remove = interrupted(heartbeats.Heartbeats.remove, after=True)
try:
    leasecap.acquire("p").release()
except KeyboardInterrupt:
    say("INTERRUPTED")
hear()
"""


@pytest.mark.parametrize("moment", ["in the lock", "after the grant", "in the release"])
def test_ctrl_c_at_a_bad_moment_keeps_nobody_out(team: Team, lock: str, moment: str) -> None:
    configure(team, lock)
    notebook = team.start(INTERRUPTED, moment)
    notebook.expect("INTERRUPTED")
    assert can_be_had(team)
    team.assert_idle()
