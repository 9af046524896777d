"""Greenlets in the place of threads: one that waits must not stop the others."""

from __future__ import annotations

import pytest
from helper_process import helper

pytestmark = [pytest.mark.usefixtures("pool"), pytest.mark.linux("gevent is built for one platform")]
pytest.importorskip("gevent")

PROGRAM = """
from gevent import monkey
monkey.patch_all()
import gc, sys
import gevent
import leasecap
def pool():
    return leasecap.status("p").pools[0]
def until(what):
    with gevent.Timeout(60):
        while not what():
            gevent.sleep(0.01)
"""

CASES = {
    "greenlets take turns": """
now = most = 0
def work():
    global now, most
    with leasecap.slot("p"):
        now += 1
        most = max(most, now)
        gevent.sleep(0.01)
        now -= 1
for number in (2, 8, 8):
    greenlets = [gevent.spawn(work) for _ in range(number)]
    with gevent.Timeout(60):
        gevent.joinall(greenlets, raise_error=True)
assert most == 1
""",
    "one that waits stops no other": """
ticks = 0
def tick():
    global ticks
    while True:
        gevent.sleep(0.01)
        ticks += 1
gevent.spawn(tick)
lease = leasecap.acquire("p")
waiter = gevent.spawn(leasecap.acquire, "p", borrow=False)
until(lambda: pool().waiting == 1)
before = ticks
until(lambda: ticks > before + 10)
lease.release()
waiter.get(timeout=60).release()
""",
    "a wait can be given up": """
lease = leasecap.acquire("p")
for waiter in [gevent.spawn(leasecap.acquire, "p", borrow=False, timeout=0.1) for _ in range(2)]:
    try:
        waiter.get(timeout=60)
    except leasecap.AcquireTimeout:
        continue
    raise AssertionError
killed = gevent.spawn(leasecap.acquire, "p", borrow=False)
until(lambda: pool().waiting == 1)
killed.kill(timeout=60)
assert pool().waiting == 0
lease.release()
""",
    "a lease that is dropped comes back": """
lease = leasecap.acquire("p")
del lease
gc.collect()
until(lambda: pool().in_flight == 0)
""",
    "a killed holder's slot is found": """
import signal, subprocess
code = "import leasecap; lease = leasecap.acquire('p'); print('held', flush=True); input()"
holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
assert holder.stdout.readline() == b"held\\n"
waiters = [gevent.spawn(leasecap.acquire, "p", borrow=False) for _ in range(2)]
until(lambda: pool().waiting == 2)
holder.kill()
for waiter in gevent.iwait(waiters, timeout=60):
    waiter.get().release()
holder.wait()
""",
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_under_gevent(case: str) -> None:
    with helper(PROGRAM + case + "\nprint('done')\n") as process:
        said = process.process.communicate()[0]
    assert said == "done\n" and process.process.returncode == 0
