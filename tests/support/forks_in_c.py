"""A fork in C, which runs no hooks, for the code of a worker."""

from __future__ import annotations

# Such a fork copies the interpreter's own locks too. One that another thread has in that moment stays taken in the
# child, which hangs (seen with CPython alone, beside a thread that dozes). So the others have to be asleep. PyDLL keeps
# the GIL.
FORK_IN_C = """
import ctypes, threading, time
def others():
    found = []
    for task in set(os.listdir("/proc/self/task")) - {str(threading.get_native_id())}:
        with open(f"/proc/self/task/{task}/status") as status:
            found.append([task, *(line for line in status if line.startswith(("State", "voluntary")))])
    return found
def fork_in_c():
    before = None
    for _ in range(50):
        try:
            now = others()
        except OSError:
            now = None  # one has ended just now; or there is no /proc
        if now == before and not any("(running)" in line for each in now or () for line in each):
            break
        before = now
        time.sleep(0.02)
    return ctypes.PyDLL(None).fork()
"""
