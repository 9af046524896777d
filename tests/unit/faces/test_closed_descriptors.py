"""A program that closes all descriptors (`os.closerange`) gets numbers that were leasecap's: they are its own then."""

from __future__ import annotations

import pytest
from helper_process import helper

pytestmark = pytest.mark.usefixtures("pool")

PROGRAM = """
import asyncio, os, sys, tempfile, threading, time
import leasecap
place = tempfile.mkdtemp()
mine = []
def close_all():
    "Close all, and open files of the program under as many numbers."
    os.closerange(3, 256)
    mine[:] = [os.open(os.path.join(place, str(one)), os.O_RDWR | os.O_CREAT | os.O_TRUNC) for one in range(60)]
def untouched():
    for one, fd in enumerate(mine):
        found, there = os.fstat(fd), os.stat(os.path.join(place, str(one)))
        assert (found.st_ino, found.st_size) == (there.st_ino, 0), one
    return True
def pool():
    return leasecap.status("p").pools[0]
def until(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)
def quiet():
    "Return when no other thread runs: in the middle of a step it would close what has its number by then."
    def lines(task):
        with open(f"/proc/self/task/{task}/status") as file:
            return [line for line in file if "ctxt" in line or "State:" in line]
    def switches():
        return [lines(task) for task in os.listdir("/proc/self/task") if int(task) != threading.get_native_id()]
    before = []
    def rest():
        before[:] = before[-1:] + [switches()]
        return len(before) == 2 and before[0] == before[1] and all("S (" in found[0] for found in before[1])
    if os.path.isdir("/proc/self/task"):
        until(rest)
for _ in range(2):  # the second leaves a spare
    leasecap.acquire("p").release()
"""

CASES = {
    "a lease is released": """
lease = leasecap.acquire("p")
close_all()
lease.release()
assert not lease.lost and untouched() and pool().in_flight == 0
""",
    "a lease is kept alive": """
lease = leasecap.acquire("p")
close_all()
first = pool().holders[0].heartbeat_age
until(lambda: (age := pool().holders[0].heartbeat_age) is not None and age < 0.04)
lease.release()
""",
    "a lease is dropped": """
lease = leasecap.acquire("p")
close_all()
del lease
until(lambda: pool().in_flight == 0)
""",
    "a spare is used again": """
close_all()
for _ in range(3):
    with leasecap.slot("p"):
        assert untouched() and pool().in_flight == 1
""",
    "threads wait": """
lease = leasecap.acquire("p")
done = []
def wait():
    with leasecap.slot("p", borrow=False):
        done.append(untouched())
threads = [threading.Thread(target=wait) for _ in range(3)]
for thread in threads:
    thread.start()
until(lambda: pool().waiting == 3)
quiet()
close_all()
lease.release()
for thread in threads:
    thread.join(60)
assert done == [True] * 3
""",
    "a loop's tasks wait": """
async def wait():
    async with leasecap.slot("p", borrow=False):
        return untouched()
async def main():
    lease = leasecap.acquire("p")
    tasks = [asyncio.create_task(wait()) for _ in range(3)]
    while pool().waiting < 3:
        await asyncio.sleep(0.01)
    quiet()
    loop = asyncio.get_running_loop()
    keep = {loop._selector.fileno(), loop._csock.fileno(), loop._ssock.fileno()}
    for fd in range(3, 256):
        if fd not in keep:
            try:
                os.close(fd)
            except OSError:
                pass
    mine[:] = [os.open(os.path.join(place, str(one)), os.O_RDWR | os.O_CREAT | os.O_TRUNC) for one in range(60)]
    lease.release()
    assert await asyncio.wait_for(asyncio.gather(*tasks), 60) == [True] * 3
asyncio.run(main())
""",
}


@pytest.mark.posix("locks and pipes that are descriptors")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_the_program_opened_meanwhile_is_neither_written_nor_closed(case: str) -> None:
    end = "\nassert untouched()\nleasecap._runtime.runtime.at_exit()\nassert untouched()\nprint('done')\n"
    with helper(PROGRAM + case + end) as process:
        said = process.process.communicate()[0]
    assert said == "done\n" and process.process.returncode == 0


DAEMON = """
import os, sys
import leasecap
lease = leasecap.acquire("p")
if os.fork():
    os.wait()
    print("parent", lease.held, leasecap.status("p").pools[0].in_flight, flush=True)
    lease.release()
    sys.exit()
os.setsid()
if os.fork():
    os._exit(0)
os.closerange(3, 256)
try:
    lease.check()
except leasecap.LeaseLost:
    pass
with leasecap.slot("p"):  # once the parent has let go
    print("daemon", not lease.held, leasecap.status("p").pools[0].in_flight, flush=True)
"""


@pytest.mark.posix("forks")
def test_a_daemon_that_forked_twice_holds_nothing_and_takes_a_slot_of_its_own() -> None:
    with helper(DAEMON) as process:
        said = process.process.communicate()[0].splitlines()
    assert said == ["parent True 1", "daemon True 1"]
