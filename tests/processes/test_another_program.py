"""A process that becomes another program (``exec``) keeps its pid and start, and nothing that the former one held."""

from __future__ import annotations

import os

import pytest
from holders import HOLD, can_be_had, configure, give_back, hold, queue, ready
from referee import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team, Worker

pytestmark = pytest.mark.posix("there exec makes another process")

BECOME = """
def become(code, **more):
    prelude = "import os, sys, time, leasecap\\nfrom worker import Log, hear, say\\n"
    os.execve(sys.executable, [sys.executable, "-c", prelude + code, *sys.argv[1:]], {**os.environ, **more})
"""

# Takes a slot, and becomes the program of its first argument.
HOLDER = (
    BECOME
    + """
lease = leasecap.acquire("p")
say("HELD")
hear()
become(sys.argv[1])
"""
)

# As `holders.HOLD`, which it says that it has become.
ACQUIRES = f"""
sys.argv = ["", "as another program", *sys.argv[2:]]
{HOLD}
"""

# Tries once for each word, with or without borrowing.
TRIES = """
say("BECAME")
while True:
    lease = leasecap.try_acquire("p", borrow=hear() == "borrow")
    if lease is not None:
        lease.release()
    say("GOT", lease is not None)
"""


def tries(worker: Worker, how: str) -> bool:
    worker.tell(how)
    return worker.expect("GOT") == "True"


def become(worker: Worker, word: str = "READY") -> None:
    worker.tell()
    worker.expect(word)


def test_it_is_granted_the_slot_that_it_held_before(team: Team) -> None:
    configure(team)
    holder = team.start(HOLDER, ACQUIRES)
    holder.expect("HELD")
    become(holder)
    hold(holder)
    assert len(team.pool().holders) == 1
    give_back(holder)
    team.assert_idle()


def test_it_gets_the_slot_at_once_if_it_tries_once(team: Team) -> None:
    configure(team)
    holder = team.start(HOLDER, TRIES)
    holder.expect("HELD")
    become(holder, "BECAME")
    assert tries(holder, "borrow")
    team.assert_idle()


def test_whoever_waits_ahead_of_it_gets_the_slot_first(team: Team) -> None:
    configure(team)
    holder, *others = team.start(HOLDER, ACQUIRES), *(team.start(HOLD, name) for name in ("one", "two", "three"))
    holder.expect("HELD")
    ready(*others)
    queue(team, *others)
    become(holder)
    holder.tell()
    for other in others:
        other.expect("HELD")
        give_back(other)
    holder.expect("HELD")
    give_back(holder)
    assert team.referee.order() == ["one", "two", "three", "as another program"]
    team.assert_idle()


def test_a_call_that_finds_room_gives_back_what_it_held_before(team: Team) -> None:
    configure(team, limit=2)
    holder, other, waiting = team.start(HOLDER, ACQUIRES), team.start(HOLD, "other"), team.start(HOLD, "waiting")
    holder.expect("HELD")
    become(holder)
    ready(other, waiting)
    assert len(team.pool().holders) == 1
    hold(holder)
    until(lambda: len(team.pool().holders) == 1, "one held slot")
    hold(other)
    queue(team, waiting)
    give_back(holder)
    waiting.expect("HELD")


def test_its_former_tickets_are_removed(team: Team) -> None:
    configure(team)
    first = team.start(HOLD, "first")
    ready(first)
    hold(first)
    code = """
import threading
for _ in range(3):
    threading.Thread(target=leasecap.acquire, args=["p"], daemon=True).start()
say("READY")
hear()
become(sys.argv[1])
"""
    waiter, behind = team.start(BECOME + code, ACQUIRES), team.start(HOLD, "behind")
    ready(waiter, behind)
    team.until_waiting(3)
    behind.tell()
    team.until_waiting(4)
    become(waiter)
    waiter.tell()
    team.until_waiting(2)
    give_back(first)
    behind.expect("HELD")
    give_back(behind)
    waiter.expect("HELD")
    give_back(waiter)
    team.assert_idle()


def test_a_lease_that_it_runs_under_stays_its_own(team: Team) -> None:
    configure(team)
    code = """
lease = leasecap.acquire("p")
say("HELD")
hear()
become(sys.argv[1], **lease.env())
"""
    holder = team.start(BECOME + code, TRIES)
    holder.expect("HELD")
    become(holder, "BECAME")
    assert not tries(holder, "own")
    assert tries(holder, "borrow")
    assert not tries(holder, "own")
    assert not can_be_had(team)
    assert [one.pid for one in team.pool().holders] == [holder.pid]


def test_a_lease_that_was_made_for_its_pid_stays_its_own(team: Team) -> None:
    configure(team)
    code = """
import subprocess
subprocess.run([sys.executable, "-m", "leasecap", "acquire", "-p", "p", "--for-pid", str(os.getpid())], check=True,
               stdout=subprocess.DEVNULL)
say("HELD")
hear()
become(sys.argv[1])
"""
    holder = team.start(BECOME + code, TRIES)
    holder.expect("HELD")
    become(holder, "BECAME")
    assert not tries(holder, "own")
    assert [one.pid for one in team.pool().holders] == [holder.pid]


def test_the_slot_of_a_command_stays_when_that_becomes_another_program(team: Team) -> None:
    configure(team)
    wrapped = team.start(
        f"""
command = [sys.executable, "-c", {f"import os, sys{BECOME}become(sys.argv[1])"!r}, sys.argv[1]]
os.execv(sys.executable, [sys.executable, "-m", "leasecap", "run", "-p", "p", "--", *command])
""",
        TRIES,
    )
    wrapped.expect("BECAME")
    assert not tries(wrapped, "own")
    assert tries(wrapped, "borrow")
    assert not can_be_had(team)


@pytest.mark.parametrize("descriptors", ["kept", "closed"])
def test_another_copy_of_the_library_in_the_same_process_keeps_its_lease(team: Team, descriptors: str) -> None:
    """As in another interpreter of one process: pid and start are the same, and the id isn't."""
    configure(team)
    code = f"""
first = leasecap
for name in [name for name in sys.modules if name.partition(".")[0] == "leasecap"]:
    del sys.modules[name]
import leasecap
kept = first.acquire("p")
if sys.argv[1] == "closed":
    os.closerange(3, 100)
{TRIES}
"""
    worker = team.start(code, descriptors)
    worker.expect("BECAME")
    assert not tries(worker, "own")
    assert not can_be_had(team)
    assert [one.pid for one in team.pool().holders] == [worker.pid]


def test_without_os_locks_nothing_says_that_the_former_program_is_gone(team: Team) -> None:
    configure(team, lock="directory")
    holder = team.start(HOLDER, TRIES)
    holder.expect("HELD")
    become(holder, "BECAME")
    assert not tries(holder, "own")
    assert os.listdir(os.path.join(team.pool().path, "leases"))
