"""What is loaded late, while other threads fork: nothing waits for a fork that waits for it, or is copied half done."""

from __future__ import annotations

import sys

import pytest
from helper_process import helper
from holders import configure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team

# A thread is in the middle of a late import, which needs logging's lock, when the process forks.
FORKS = """
import os, sys, threading, time
from pathlib import Path
import leasecap
from leasecap._loading import loading
from leasecap._runtime import runtime
assert "logging" not in sys.modules, "it has to be registered after leasecap's own lock"
inside, forking = threading.Event(), threading.Event()
def load():
    with loading(runtime.own.lock):
        import logging
        inside.set()
        forking.wait()
        main = Path(f"/proc/self/task/{os.getpid()}/stat")
        asleep = 0
        while asleep < 20:  # it waits for a lock, and not for its turn
            time.sleep(0.005)
            asleep = asleep + 1 if main.read_text().rpartition(")")[2].split()[0] == "S" else 0
        free = logging._lock.acquire(timeout=10)
        print(free, flush=True)
        if free:
            logging._lock.release()
loads = threading.Thread(target=load)
loads.start()
inside.wait()
os.register_at_fork(before=forking.set)  # hooks run in the reverse order of their registration
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
loads.join()
print("over", flush=True)
"""

# What a fork does before it takes the locks of late imports: the threads that it waits for may be in the middle of one.
ORDER = """
import os
from leasecap import _loading
from leasecap._threads import start_thread
from leasecap._runtime import runtime
with _loading.loading(runtime.own.lock):
    import logging
start_thread("test", lambda: None).join()
taken = []
runtime._rest = lambda: taken.append([lock.locked() if hasattr(lock, "locked") else lock._is_owned()
                                      for lock in (_loading._lock, logging._lock, runtime.own.lock)])
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
print(taken[0], flush=True)
"""

# A fork has begun, and waits for leasecap's own lock, when the first late import has the lock of these made.
BEGUN = """
import os, threading
import leasecap
from leasecap._loading import _late
from leasecap._runtime import runtime
locked, forking, forked = threading.Event(), threading.Event(), threading.Event()
def load():
    with runtime.own.lock:
        locked.set()
        forking.wait()
        late = _late(runtime.own.lock)
        late.acquire()
    forked.wait()
    print(late.locked(), flush=True)
    late.release()
loads = threading.Thread(target=load)
loads.start()
locked.wait()
os.register_at_fork(before=forking.set)  # hooks run in the reverse order of their registration
pid = os.fork()
if pid == 0:
    os._exit(0)
forked.set()
os.waitpid(pid, 0)
loads.join()
print("over", flush=True)
"""

# A fork begins just when the first call on a server loads what talks to it.
LOADS = """
import os, sys, threading
import leasecap
from leasecap import _loading, _runtime
begin, begun = threading.Event(), threading.Event()
os.register_at_fork(before=begun.set)  # hooks run in the reverse order of their registration
with _loading.loading(_runtime.runtime.own.lock):
    import logging
def load(fork_lock):
    late = _loading.loading(fork_lock)
    begin.set()
    begun.wait()
    return late
_runtime.loading = load
def call():
    try:
        if sys.argv[1] == "acquire":
            leasecap.acquire("p", timeout=0)
        else:
            leasecap.set_usage("p", lambda: 0)
    except leasecap.StoreError:
        pass
    print("called", flush=True)
calls = threading.Thread(target=call)
calls.start()
begin.wait()
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
calls.join()
print("over", flush=True)
"""

# What leasecap's first thread, or the first connection to a server, imports.
FIRST = """
import socket, sys
from leasecap._runtime import runtime
from leasecap._threads import start_thread
runtime.servers()
before = set(sys.modules)
if sys.argv[1] == "thread":
    start_thread("test", lambda: None).join()
else:
    socket.getaddrinfo("127.0.0.1", 1)
print(sorted(sys.modules.keys() - before), flush=True)
"""


@pytest.mark.linux("/proc tells that the fork waits")
def test_fork_has_no_lock_that_a_late_import_needs(team: Team) -> None:
    configure(team)
    with helper(FORKS) as process:
        assert [process.hear(), process.hear()] == ["True", "over"]


def test_fork_that_began_before_the_lock_of_late_imports_was_made_gives_it_not_back(team: Team) -> None:
    """A thread that had it then failed, in the middle of its first call on a server."""
    configure(team)
    with helper(BEGUN) as process:
        assert [process.hear(), process.hear()] == ["True", "over"]


@pytest.mark.posix("forks")
@pytest.mark.parametrize("call", ["acquire", "set_usage"])
def test_fork_and_the_first_call_on_a_server_wait_for_each_other_never(team: Team, call: str) -> None:
    team.configure('[pools.p]\nstore = "redis://127.0.0.1:1"\n')
    with helper(LOADS, call) as process:
        assert {process.hear(), process.hear()} == {"called", "over"}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python warns of a fork beside threads from 3.12 on")
def test_a_fork_ends_threads_before_it_takes_a_lock_that_they_may_need(team: Team) -> None:
    configure(team)
    with helper(ORDER) as process:
        assert process.hear() == "[False, False, False]"


@pytest.mark.parametrize("what", ["thread", "connection"])
def test_first_use_imports_nothing_that_a_fork_could_copy_half_done(team: Team, what: str) -> None:
    configure(team)
    with helper(FIRST, what) as process:
        assert process.hear() == "[]"
