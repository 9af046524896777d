"""Fork while holding or waiting: the child holds nothing, gives nothing back, and keeps nothing alive."""

from __future__ import annotations

import itertools
import signal
import time

import pytest
from each_store import WITH_LOCKS
from forks_in_c import FORK_IN_C
from holders import HOLD, can_be_had, configure, hold, ready
from pid_namespaces import under
from places import PLATFORM
from stores import DIRECTORY, FILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from referee import Team

FORKS = ["with hooks", "without hooks", "pid 1 of a new namespace"]
EACH_FORK = pytest.mark.parametrize(
    ("store", "how"),
    [
        *itertools.product((FILES, DIRECTORY), FORKS),
        *(pytest.param("redis", how, marks=pytest.mark.redis) for how in FORKS[:2]),
    ],
    indirect=["store"],
)

# A holder that forks. The child says what it has of the lease, and then does what the argument says.
FORK = """
mode = sys.argv[1]
for _ in range(3):
    leasecap.acquire("p").release()  # what it keeps for the next acquire isn't the child's either
lease = leasecap.acquire("p")
heard, said = os.pipe()
pid = os.fork()
if pid == 0:
    open_files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    root = os.environ["LEASECAP_HOME"]
    say("CHILD", lease.held, [path for path in open_files if path.startswith(root) or "socket:" in path])
    os.close(said)
    if mode == "release":
        lease.release()
    if mode == "leave":
        with lease:
            pass
    if mode == "live on":
        os.close(heard)
        hear()
    os._exit(0)
os.close(said)
os.read(heard, 1)
if mode == "live on":
    say("BESIDE")
    signal = __import__("signal")
    signal.sigwait({signal.SIGUSR1})
    lease.release()
    say("RELEASED")
    os.waitpid(pid, 0)
else:
    os.waitpid(pid, 0)
    say("ALONE", lease.held)
    hear()
    lease.release()
    say("RELEASED")
    hear()
"""


# The parent holds or waits, and forks in the middle of it; the child leaves by an exception.
UNWINDS = (
    FORK_IN_C
    + """
import asyncio
where, how = sys.argv[1:]
class Unwinds(Exception):
    pass
def fork():
    global pid
    if how == "pid 1 of a new namespace":
        assert ctypes.CDLL(None).unshare(0x20000000) == 0  # CLONE_NEWPID
    pid = fork_in_c() if how == "without hooks" else os.fork()
    if pid == 0:
        raise Unwinds
def on_wait(waiting):
    if pid is None:  # a child that closes its loop takes wake-ups from its parent's, which may wait for seconds then
        fork()
        say("FORKED")
async def block():
    async with leasecap.slot("p"):
        fork()
        child_is_over()
        hear()
async def wait():
    (await leasecap.acquire_async("p", on_wait=on_wait)).release()
def child_is_over():
    say("CHILD", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
parent = os.getpid()
pid = None
try:
    if where == "with":
        with leasecap.slot("p"):
            fork()
            child_is_over()
            hear()
    elif where == "async with":
        asyncio.run(block())
    elif where == "on_wait":
        leasecap.acquire("p", on_wait=on_wait).release()
    else:
        asyncio.run(wait())
except Unwinds:
    os._exit(7 if how == "pid 1 of a new namespace" and (os.getpid(), parent) != (1, 1) else 0)
say("RELEASED")
hear()
"""
)


@WITH_LOCKS
@pytest.mark.parametrize("how", ["exit", "release", "leave"])
def test_a_forked_child_gives_nothing_back_however_it_ends(team: Team, how: str) -> None:
    configure(team)
    parent = team.start(FORK, how)
    assert parent.expect("CHILD") == "False []"
    assert parent.expect("ALONE") == "True"
    assert not can_be_had(team)
    parent.tell()
    parent.expect("RELEASED")
    assert can_be_had(team)


@pytest.fixture
def signals_blocked() -> Iterator[None]:
    """For the children: the parent worker takes SIGUSR1 when it waits for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@WITH_LOCKS
@pytest.mark.usefixtures("signals_blocked")
def test_a_forked_child_that_lives_on_keeps_no_slot_after_the_release(team: Team) -> None:
    configure(team)
    parent = team.start(FORK, "live on")
    assert parent.expect("CHILD") == "False []"
    parent.expect("BESIDE")
    assert not can_be_had(team)
    parent.send(signal.SIGUSR1)
    parent.expect("RELEASED")
    assert can_be_had(team)
    parent.tell()
    parent.done()


@WITH_LOCKS
@pytest.mark.usefixtures("signals_blocked")
def test_a_forked_child_that_lives_on_keeps_no_slot_of_a_killed_parent(team: Team) -> None:
    configure(team)
    parent = team.start(FORK, "live on")
    parent.expect("CHILD")
    parent.expect("BESIDE")
    parent.kill()
    parent.wait()
    assert can_be_had(team)
    parent.tell()  # to the child, which lives on


@WITH_LOCKS
def test_a_forked_child_can_take_a_slot_of_its_own(team: Team) -> None:
    configure(team, limit=2)
    parent = team.start(
        """
lease = leasecap.acquire("p")
pid = os.fork()
if pid == 0:
    own = leasecap.acquire("p", timeout=10)
    say("CHILD", own.held)
    hear()
    own.release()
    os._exit(0)
os.waitpid(pid, 0)
say("ALONE", lease.held)
hear()
"""
    )
    assert parent.expect("CHILD") == "True"
    assert team.pool().in_flight == 2
    assert {found.pid for found in team.pool().holders} > {parent.pid}
    assert not can_be_had(team)
    parent.tell()
    assert parent.expect("ALONE") == "True"
    assert team.pool().in_flight == 1
    assert can_be_had(team)


@WITH_LOCKS
def test_a_fork_in_the_middle_of_other_threads_acquiring_leaves_nothing_locked(team: Team) -> None:
    configure(team, limit=3)
    parent = team.start(
        """
import threading
log = Log()
stop = threading.Event()
def work(name):
    number = 0
    while not stop.is_set():
        number += 1
        with leasecap.slot("p"):
            log.start(f"{name}.{number}")
            log.end(f"{name}.{number}")
threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
for thread in threads:
    thread.start()
for number in range(15):
    pid = os.fork()
    if pid == 0:
        with leasecap.slot("p", timeout=30):
            log.start(f"child.{number}")
            log.end(f"child.{number}")
        os._exit(0)
    if os.waitpid(pid, 0)[1]:
        say("FAILED")
        os._exit(1)
stop.set()
for thread in threads:
    thread.join()
say("DONE")
hear()
"""
    )
    parent.expect("DONE")
    assert team.referee.peak() <= 3
    team.assert_idle()


@WITH_LOCKS
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_workers_share_the_cap_with_their_parent(team: Team, method: str) -> None:
    configure(team, limit=3)
    code = "import multi\nif __name__ == '__main__':\n    multi.main(sys.argv[1])\n"
    parent = team.start(code, method)
    parent.done()
    intervals = team.referee.intervals()
    assert sum(interval.holder.startswith("child") for interval in intervals) == 12
    assert 1 < team.referee.peak() <= 3
    team.assert_idle()


@EACH_FORK
@pytest.mark.parametrize("where", ["with", "async with"])
def test_a_forked_child_that_unwinds_out_of_a_block_gives_nothing_back(team: Team, where: str, how: str) -> None:
    if PLATFORM == "darwin" and (where, how) == ("async with", "with hooks"):
        pytest.skip("linux: a fork's child inherits no kqueue, so its loop can't go on")
    configure(team)
    parent = team.start(UNWINDS, where, how, under=under(how))
    assert parent.expect("CHILD") == "0", parent.errors()
    assert not can_be_had(team)
    parent.tell()
    parent.expect("RELEASED")
    team.assert_idle()
    assert can_be_had(team)


@EACH_FORK
@pytest.mark.parametrize("where", ["on_wait", "on_wait in a task"])
def test_a_forked_child_that_unwinds_out_of_on_wait_leaves_the_ticket(team: Team, where: str, how: str) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    parent = team.start(UNWINDS, where, how, under=under(how))
    parent.expect("FORKED")
    time.sleep(0.1)  # nothing says that the child has unwound
    (ticket,) = team.pool().waiters
    holder.tell()
    holder.expect("RELEASED")
    parent.expect("RELEASED")
    team.assert_idle()
    assert can_be_had(team)
    assert ticket.alive


@WITH_LOCKS
def test_a_forked_child_that_returns_from_on_wait_does_not_go_on_with_the_ticket(team: Team) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    parent = team.start(
        """
pid = None
def on_wait(waiting):
    global pid
    if pid is None:
        pid = os.fork()
        if pid:
            say("CHILD", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
try:
    lease = leasecap.acquire("p", on_wait=on_wait)
except leasecap.LeasecapError as error:
    os._exit(5 if "forked from it" in str(error) and "Acquire a slot of its own" in str(error) else 6)
say("HELD")
hear()
lease.release()
say("RELEASED")
"""
    )
    assert parent.expect("CHILD") == "5"
    assert team.pool().waiting == 1
    holder.tell()
    holder.expect("RELEASED")
    parent.expect("HELD")
    assert not can_be_had(team)
    parent.tell()
    parent.expect("RELEASED")
    assert can_be_had(team)


@EACH_FORK
def test_a_forked_child_says_everywhere_that_it_holds_nothing(team: Team, how: str) -> None:
    configure(team)
    parent = team.start(
        FORK_IN_C
        + """
how, = sys.argv[1:]
lease = leasecap.acquire("p")
if how == "pid 1 of a new namespace":
    assert ctypes.CDLL(None).unshare(0x20000000) == 0
pid = fork_in_c() if how == "without hooks" else os.fork()
if pid == 0:
    try:
        lease.check()
    except leasecap.LeaseLost as error:
        say("SAYS", lease.held, repr(lease).replace(lease.id, "ID"), "|", error.parent, error)
    try:
        lease.hand_to(1, 1)
    except leasecap.LeaseLost:
        say("REFUSED")
    os._exit(0)
os.waitpid(pid, 0)
lease.check()
say("PARENT", lease.held, os.getpid(), lease.id)
hear()
""",
        how,
        under=under(how),
    )
    says = parent.expect("SAYS")
    parent.expect("REFUSED")
    held, pid, token = parent.expect("PARENT").split()
    assert held == "True"
    assert says == (
        f"False <Lease ID of pool 'p', held by the parent of this process, pid {pid}> | {pid} "
        f"lease {token} of pool 'p' is held by pid {pid}, and not by this process, which was forked from it. "
        "Acquire a slot of its own."
    )
    assert not can_be_had(team)
