"""One process with an event loop full of tasks: python -m _bench.tasks LIMITER DIRECTORY CAP TASKS ROUNDS HOLD."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import leasecap

from .worker import cpu_seconds, say

TICK = 0.001


async def main(limiter: str, directory: str, cap: int, tasks: int, rounds: int, hold: float) -> None:
    os.environ["LEASECAP_HOME"] = os.path.join(directory, "root")
    semaphore = asyncio.Semaphore(cap)
    holds: list[tuple[float, float, float]] = []
    lags: list[float] = []

    def slot() -> AbstractAsyncContextManager[Any]:
        return leasecap.slot("bench", limit=cap) if limiter == "leasecap" else semaphore

    async def task() -> None:
        for _ in range(rounds):
            asked = time.monotonic()
            async with slot():
                granted = time.monotonic()
                await asyncio.sleep(hold)
                holds.append((asked, granted, time.monotonic()))

    async def watch_lag() -> None:
        while True:
            begin = time.monotonic()
            await asyncio.sleep(TICK)
            lags.append(time.monotonic() - begin - TICK)

    async with slot():  # what is loaded on first use isn't measured here
        pass
    cpu = cpu_seconds()
    watcher = asyncio.create_task(watch_lag())
    await asyncio.gather(*(task() for _ in range(tasks)))
    watcher.cancel()
    say({"holds": holds, "lags": lags, "cpu": cpu_seconds() - cpu})


if __name__ == "__main__":
    name, place, *numbers, seconds = sys.argv[1:]
    cap, tasks, rounds = map(int, numbers)
    asyncio.run(main(name, place, cap, tasks, rounds, float(seconds)))
