"""Fork while holding: the child holds nothing, gives nothing back, and keeps nothing alive."""

from __future__ import annotations

import _thread
import os
import queue
import sys
import threading
import time

import pytest
from helper_process import helper
from holders import HOLD, configure, hold, ready
from pid_namespaces import under

from leasecap import _threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team

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


@pytest.mark.linux("/proc")
def test_before_a_fork_a_thread_is_waited_for_that_ended_a_moment_ago_and_none_of_the_programs_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stays, numbers = threading.Lock(), queue.SimpleQueue[int]()
    stays.acquire()

    def ends() -> None:
        numbers.put(threading.get_native_id())
        time.sleep(0.2)  # as long as the kernel may take, on a machine that is very busy

    _thread.start_new_thread(stays.acquire, ())  # Python's list of threads has neither
    _threads.start_thread("test", lambda: None).join()
    _threads.end_before_fork(lambda: None)  # and now it is known that this one stays
    _thread.start_new_thread(ends, ())
    number = numbers.get()
    monkeypatch.setattr(_threads, "_GONE_WITHIN", 60.0)
    _threads.start_thread("test", lambda: None).join()
    _threads.end_before_fork(lambda: None)
    assert not os.path.exists(f"/proc/self/task/{number}")
    monkeypatch.setattr(_threads, "_may_run", False)
    _threads.end_before_fork(lambda: pytest.fail("there is nothing that could end"))
    stays.release()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python warns of a fork beside threads from 3.12 on")
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_a_fork_while_nothing_is_held_is_beside_no_thread(team: Team, kind: str) -> None:
    configure(team, "os")
    with helper(IDLE, kind) as process:
        assert [process.hear() for _ in range(3)] == ["[]", "[]", "['leasecap-heartbeat']"]
