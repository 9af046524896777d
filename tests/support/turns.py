"""In which order calls are granted the one slot of the pool "p"."""

from __future__ import annotations

import time
from contextlib import ExitStack
from itertools import cycle

from commands import status, until
from helper_process import Helper, helper

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOUR = 3600.0

CALL = """
import os, sys
root, since, priority = sys.argv[1:]
os.environ["LEASECAP_HOME"] = root or os.environ["LEASECAP_HOME"]
import leasecap
with leasecap.acquire("p", timeout=60, priority=int(priority), task_since=float(since) if since else None):
    print("held")
    input()
"""


def turns(*calls: tuple[float | None, int], roots: Sequence[Path | str] = ("",)) -> list[int]:
    """In which order these calls are granted the slot, which ask in this one.

    :param calls: for each the seconds since its task began, and its priority.
    :param roots: of the callers, in turns, where it isn't this process's own.
    """
    callers: list[Helper] = []
    with ExitStack() as stack:
        with leasecap.slot("p"):
            for number, ((age, priority), root) in enumerate(zip(calls, cycle(roots), strict=False), 1):
                since = "" if age is None else time.time() - age
                callers.append(stack.enter_context(helper(CALL, root, since, priority)))
                until(lambda number=number: status().waiting == number)  # type: ignore[misc]
        served: list[int] = []
        for _ in calls:
            until(lambda: [holder.pid for holder in status().holders if holder.pid not in served])
            [pid] = [holder.pid for holder in status().holders]
            caller = next(caller for caller in callers if caller.pid == pid)
            assert caller.hear() == "held"
            served.append(caller.pid)
            caller.say()
            caller.process.wait(60)
    return [[caller.pid for caller in callers].index(pid) for pid in served]
