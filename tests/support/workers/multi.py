"""A parent that holds a slot, and its multiprocessing workers."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.synchronize import Barrier

from worker import Log

import leasecap


def work(name: int, barrier: Barrier) -> None:
    log = Log()
    barrier.wait(60)
    for number in range(3):
        with leasecap.slot("p", timeout=60):
            log.start(f"child.{name}.{number}")
            time.sleep(0.02)
            log.end(f"child.{name}.{number}")


def main(method: str) -> None:
    context = multiprocessing.get_context(method)
    log = Log()
    lease = leasecap.acquire("p")
    log.start("parent")
    barrier = context.Barrier(4)
    children = [context.Process(target=work, args=(name, barrier)) for name in range(4)]  # type: ignore[attr-defined]
    for child in children:
        child.start()
    for child in children:
        child.join()
    log.end("parent")
    lease.release()
    os._exit(max(child.exitcode for child in children))
