"""Fork while holding: the child holds nothing, gives nothing back, and keeps nothing alive."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from helper_process import helper
from holders import HOLD, can_be_had, configure, hold, ready
from places import PLATFORM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from referee import Team

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
    say("CHILD", lease.held, [path for path in open_files if path.startswith(root)])
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


@pytest.mark.parametrize("how", ["exit", "release", "leave"])
def test_a_forked_child_gives_nothing_back_however_it_ends(team: Team, lock: str, how: str) -> None:
    configure(team, lock)
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


@pytest.mark.usefixtures("signals_blocked")
def test_a_forked_child_that_lives_on_keeps_no_slot_after_the_release(team: Team, lock: str) -> None:
    configure(team, lock)
    parent = team.start(FORK, "live on")
    assert parent.expect("CHILD") == "False []"
    parent.expect("BESIDE")
    assert not can_be_had(team)
    parent.send(signal.SIGUSR1)
    parent.expect("RELEASED")
    assert can_be_had(team)
    parent.tell()
    parent.done()


@pytest.mark.usefixtures("signals_blocked")
def test_a_forked_child_that_lives_on_keeps_no_slot_of_a_killed_parent(team: Team, lock: str) -> None:
    configure(team, lock)
    parent = team.start(FORK, "live on")
    parent.expect("CHILD")
    parent.expect("BESIDE")
    parent.kill()
    parent.wait()
    assert can_be_had(team)
    parent.tell()  # to the child, which lives on


def test_a_forked_child_can_take_a_slot_of_its_own(team: Team, lock: str) -> None:
    configure(team, lock, limit=2)
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


def test_a_fork_in_the_middle_of_other_threads_acquiring_leaves_nothing_locked(team: Team, lock: str) -> None:
    configure(team, lock, limit=3)
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


# One thread imports something in its first acquire, and takes its time, while another thread forks.
IMPORTING = """
import threading
importing, forked = threading.Event(), threading.Event()
class Slow:
    def find_spec(name, path=None, target=None):
        if name == sys.argv[1] and threading.current_thread() is not threading.main_thread():
            importing.set()
            forked.wait(1)
sys.meta_path.insert(0, Slow)
sys.modules.pop(sys.argv[1], None)
def work():
    try:
        leasecap.acquire("p", timeout=5)
    except leasecap.AcquireTimeout:
        pass
thread = threading.Thread(target=work)
thread.start()
if not importing.wait(30):
    say("CHILD", "not even an import")
pid = os.fork()
if pid == 0:
    import signal
    signal.alarm(30)
    try:
        leasecap.acquire("p", timeout=1)
    except leasecap.AcquireTimeout:
        os._exit(0)
    os._exit(1)
forked.set()
say("CHILD", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("module", ["tomllib", "_sha2" if sys.version_info >= (3, 12) else "_sha256", "select"])
def test_a_fork_in_the_middle_of_an_import_leaves_the_child_able_to_acquire(team: Team, module: str) -> None:
    configure(team)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    assert team.start(IMPORTING, module).expect("CHILD") == "0"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing_workers_share_the_cap_with_their_parent(team: Team, method: str) -> None:
    configure(team, limit=3)
    code = "import multi\nif __name__ == '__main__':\n    multi.main(sys.argv[1])\n"
    parent = team.start(code, method)
    parent.done()
    intervals = team.referee.intervals()
    assert sum(interval.holder.startswith("child") for interval in intervals) == 12
    assert team.referee.peak() == 3
    team.assert_idle()


# The parent holds or waits, and forks in the middle of it; the child leaves by an exception.
UNWINDS = """
import asyncio, ctypes
where, how = sys.argv[1:]
class Unwinds(Exception):
    pass
def fork():
    global pid
    if how == "pid 1 of a new namespace":
        assert ctypes.CDLL(None).unshare(0x20000000) == 0  # CLONE_NEWPID
    # PyDLL keeps the GIL: the child of a fork at which the heartbeat has it would wait for ever.
    pid = ctypes.PyDLL(None).fork() if how == "without hooks" else os.fork()
    if pid == 0:
        raise Unwinds
def on_wait(waiting):
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

_NEW_PIDS = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


def under(how: str) -> tuple[str, ...]:
    if how != "pid 1 of a new namespace":
        return ()
    if PLATFORM != "linux":
        pytest.skip("linux: pid namespaces")
    if subprocess.run([*_NEW_PIDS, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs a pid namespace of its own")
    return _NEW_PIDS


FORKS = ["with hooks", "without hooks", "pid 1 of a new namespace"]


@pytest.mark.parametrize("how", FORKS)
@pytest.mark.parametrize("where", ["with", "async with"])
def test_a_forked_child_that_unwinds_out_of_a_block_gives_nothing_back(
    team: Team, lock: str, where: str, how: str
) -> None:
    if PLATFORM == "darwin" and (where, how) == ("async with", "with hooks"):
        pytest.skip("linux: a fork's child inherits no kqueue, so its loop can't go on")
    configure(team, lock)
    parent = team.start(UNWINDS, where, how, under=under(how))
    assert parent.expect("CHILD") == "0", parent.errors()
    assert not can_be_had(team)
    parent.tell()
    parent.expect("RELEASED")
    assert can_be_had(team)
    team.assert_idle()


@pytest.mark.parametrize("how", FORKS)
@pytest.mark.parametrize("where", ["on_wait", "on_wait in a task"])
def test_a_forked_child_that_unwinds_out_of_on_wait_leaves_the_ticket(
    team: Team, lock: str, where: str, how: str
) -> None:
    configure(team, lock)
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
    assert can_be_had(team)
    team.assert_idle()
    assert ticket.alive


def test_a_forked_child_that_returns_from_on_wait_does_not_go_on_with_the_ticket(team: Team, lock: str) -> None:
    configure(team, lock)
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


@pytest.mark.parametrize("how", FORKS)
def test_a_forked_child_says_everywhere_that_it_holds_nothing(team: Team, how: str) -> None:
    configure(team)
    parent = team.start(
        """
import ctypes
how, = sys.argv[1:]
lease = leasecap.acquire("p")
if how == "pid 1 of a new namespace":
    assert ctypes.CDLL(None).unshare(0x20000000) == 0
pid = ctypes.PyDLL(None).fork() if how == "without hooks" else os.fork()
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


@pytest.mark.linux("pid namespaces")
def test_a_child_in_a_new_pid_namespace_records_itself_and_not_its_parent(team: Team) -> None:
    configure(team, limit=3)
    how = "pid 1 of a new namespace"
    parent = team.start(
        """
import ctypes
lease = leasecap.acquire("p")
assert ctypes.CDLL(None).unshare(0x20000000) == 0
pid = os.fork()
from leasecap._host.process import this_process
who = this_process()
own = leasecap.acquire("p", timeout=10, borrow=False)
known = who.start, who.pid_ns
if pid == 0:
    say("CHILD", os.getpid(), own._held._own_entry.record.pid_ns == os.readlink("/proc/self/ns/pid"))
    os._exit(0)
say("PARENT", os.getpid(), own._held._own_entry.record.pid_ns == os.readlink("/proc/self/ns/pid"))
os.waitpid(pid, 0)
hear()
""",
        under=under(how),
    )
    # Both are pid 1.
    assert {parent.line(), parent.line()} == {"CHILD 1 True", "PARENT 1 True"}


IDLE = """
import os, sys, threading, time, warnings
import leasecap
from leasecap._file_store import watched_file
from no_pipes import WAYS

def wait_with(begin):
    first = leasecap.acquire("p")
    waiting = begin()
    while leasecap.status("p").pools[0].waiting < 2:
        time.sleep(0.01)
    first.release()
    waiting()

def threads():
    waiters = [threading.Thread(target=lambda: leasecap.acquire("p").release()) for _ in range(2)]
    for waiter in waiters:
        waiter.start()
    def join():
        for waiter in waiters:
            while os.path.exists(f"/proc/self/task/{waiter.native_id}"):
                waiter.join()
    return join

if sys.argv[1] == "file":
    exec(WAYS["refused"])
    watched_file._START_AFTER = 0.0  # an observer at once
for _ in range(2):  # who has waited twice is ready to wait again
    wait_with(threads)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        pid = os.fork()
        if pid == 0:
            leasecap.acquire("p").release()
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print([str(one.message) for one in told], flush=True)
lease = leasecap.acquire("p")
print(sorted(one.name for one in threading.enumerate())[1:], flush=True)
lease.release()
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python warns of a fork beside threads from 3.12 on")
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_a_fork_while_nothing_is_held_is_beside_no_thread(team: Team, kind: str) -> None:
    configure(team, "os")
    with helper(IDLE, kind) as process:
        assert [process.hear() for _ in range(3)] == ["[]", "[]", "['leasecap-heartbeat']"]
