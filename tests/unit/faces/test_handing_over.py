"""Between a grant and the caller's having the lease nothing leaks, whatever raises."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from pathlib import Path

import pytest
from commands import PROGRAM, environment
from helper_process import helper

import leasecap
from leasecap._host.directory import Directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.usefixtures("pool")


def in_flight() -> int:
    return leasecap.status("p").pools[0].in_flight


PARTS = [
    "leasecap._file_store.held_lease.hold_of",
    "leasecap._lease.LeaseEvent",
    "leasecap._lease.Origin",
    "leasecap._lease._ancestry.reference",
    "leasecap._lease._ancestry.enter",
    "leasecap._file_store.heartbeats.Heartbeats.add",
    "leasecap._file_store.heartbeats.Heartbeats.follow",
    "leasecap._file_store.heartbeats.Heartbeats.set_alarm",
]


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, OSError, KeyboardInterrupt])
@pytest.mark.parametrize("part", PARTS)
def test_a_lease_that_can_not_be_made_leaves_no_slot_taken(
    monkeypatch: pytest.MonkeyPatch, part: str, error: type[BaseException]
) -> None:
    def fail(*_: object) -> Any:
        raise error

    async def in_a_task() -> None:
        async with leasecap.slot("p", max_hold=60):
            pass

    def in_a_thread() -> None:
        with leasecap.slot("p", max_hold=60):
            pass

    in_a_thread()
    # What the store itself says of a file is told with its path.
    raised = leasecap.StoreError if error is OSError and part.endswith("hold_of") else error
    with monkeypatch.context() as patch:
        patch.setattr(part, fail)
        for acquire in (in_a_thread, lambda: asyncio.run(in_a_task())):
            with pytest.raises(raised):
                acquire()
            assert in_flight() == 0
    leasecap.acquire("p", timeout=0).release()


NO_THREADS = """
import asyncio, sys, threading, leasecap
def none(*_, **__):
    raise RuntimeError("can't start new thread")
for name in ("_start_new_thread", "_start_joinable_thread"):
    if hasattr(threading, name):
        setattr(threading, name, none)
def taken():
    return leasecap.status("p").pools[0].in_flight
async def task():
    async with leasecap.slot("p", on_lost=print):
        return taken()
for _ in range(2):
    with leasecap.slot("p", on_lost=print, max_hold=60):
        print(taken())
    print(taken(), asyncio.run(task()), taken())
"""


def test_where_no_thread_can_be_made_slots_are_had_and_given_back() -> None:
    with helper(NO_THREADS) as process:
        assert process.process.communicate()[0].split() == ["1", "0", "1", "0"] * 2
    assert process.process.returncode == 0


SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
import sys
sys.path[:] = PATH
import leasecap
for _ in range(2):
    with leasecap.slot("p"):
        print(leasecap.status("p").pools[0].in_flight, flush=True)
'''.replace("PATH", repr(sys.path))
try:
    made = [interpreters.create("legacy"), interpreters.create("isolated")]
except TypeError:
    made = [interpreters.create(isolated=False)]
for one in made:
    assert interpreters.run_string(one, code) is None
    interpreters.destroy(one)
"""


def test_a_subinterpreter_takes_a_slot_gives_it_back_and_ends() -> None:
    with helper(SUBINTERPRETER) as process:
        said = process.process.communicate()[0].split()
    assert process.process.returncode == 0 and set(said) == {"1"}
    assert in_flight() == 0


def test_a_lock_directory_is_given_back_where_no_thread_can_be_made(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "config.toml").write_text('[pools.p]\nlimit = 1\nlock = "directory"\n')
    leasecap.acquire("p").release()
    removals = 0
    unlink = Directory.unlink

    def fail_twice(directory: Directory, name: str) -> None:
        nonlocal removals
        removals += name.startswith("lock.d/")
        if removals in (1, 2) and name.startswith("lock.d/"):
            raise OSError(5, "it fails")
        unlink(directory, name)

    def no_thread(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        patch.setattr(Directory, "unlink", fail_twice)
        leasecap.acquire("p").release()
    assert removals > 2
    leasecap.acquire("p", timeout=0).release()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("to", [">/dev/full", ">&-", ""], ids=["full", "closed", "nobody reads"])
def test_a_hook_that_can_not_print_the_lease_gives_it_back(to: str) -> None:
    hook = f"{' '.join(PROGRAM)} acquire -p p --for-pid {os.getpid()} {to}"
    read, write = os.pipe()
    os.close(read)  # nobody reads
    with open(write, "wb") as unread:
        done = subprocess.run(
            ["/bin/sh", "-c", hook], env=environment(), stdout=unread, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 1
    assert "the slot was given back" in done.stderr and "Traceback" not in done.stderr
    assert in_flight() == 0
