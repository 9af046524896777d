"""The pool's own lock: held by a process that is stopped, by one that is killed, by one after the other."""

from __future__ import annotations

from holders import HOLD, INSIDE, can_be_had, configure, give_back, hold, ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team


def test_a_process_stopped_inside_the_pools_lock_is_named_in_the_error(team: Team, lock: str) -> None:
    configure(team, lock)
    stopped = team.start(INSIDE)
    stopped.expect("INSIDE")
    trier = team.start(
        """
try:
    leasecap.acquire("p", timeout=0)
except leasecap.StoreError as error:
    say("ERROR", error.path, str(error).replace("\\n", " "))
"""
    )
    error = trier.expect("ERROR")
    assert team.pool().path in error
    assert f"pid {stopped.pid}" in error
    assert f"kill -CONT {stopped.pid}" in error or "kill -CONT PID" in error
    trier.done()
    stopped.tell()
    stopped.expect("HELD")
    stopped.done()
    assert can_be_had(team)


def test_a_process_killed_inside_the_pools_lock_keeps_nobody_out(team: Team, lock: str) -> None:
    configure(team, lock)
    dead = team.start(INSIDE)
    dead.expect("INSIDE")
    dead.kill()
    assert can_be_had(team)


# Never gets into the pool's own lock, for one second, since every time it looks somebody else is inside.
CROWDED = """
import itertools
from leasecap._file_store import lock_directory, os_lock, section
section.SECTION_PATIENCE = 0.3
until = time.monotonic() + 1
inside = itertools.count(1)
for kind in (os_lock.OsLock, lock_directory.LockDirectory):
    kind.occupant = lambda self: section.Occupant("pid 1", f"its stay {next(inside)}")
    kind.try_enter = lambda self, enter=kind.try_enter: time.monotonic() > until and enter(self)
"""


def test_a_pools_lock_that_many_pass_through_is_not_taken_for_one_that_a_stopped_process_holds(
    team: Team, lock: str
) -> None:
    configure(team, lock)
    crowded = team.start(CROWDED + HOLD, "crowded")
    ready(crowded)
    hold(crowded)
    give_back(crowded)


def test_no_time_to_get_through_a_crowd_is_a_timeout(team: Team, lock: str) -> None:
    configure(team, lock)
    crowded = team.start(CROWDED.replace("+ 1", "+ 60") + HOLD, "crowded", 0.5)
    ready(crowded)
    crowded.tell()
    crowded.expect("TIMEOUT")
