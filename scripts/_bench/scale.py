"""Workloads J and K: leasecap alone, with many leases and tickets."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import measures
from .fleet import Fleet, Worker, clean_environment, scratch
from .measures import Hold, median

SLOTS, PROCESSES, HOLD, ROUNDS = 2, 6, 0.01, 20
LEASECAP = Path(sys.executable).with_name("leasecap")


@contextmanager
def crowd(directory: str, pools: int, leases: int, tickets: int, limit: int) -> Iterator[None]:
    with Worker("crowd", directory, pools, leases, tickets, limit) as worker:
        worker.await_stop()
        yield


def growth(sizes: Sequence[int], number: int, base: str) -> dict[str, dict[str, float]]:
    """J: what an acquire + release and a hand-off take with so many leases held, a hand-off with so many waiting."""
    return {
        str(size): {
            "acquire p50 us, leases held": _acquire(size, number, base),
            "hand-off p50 ms, leases held": _hand_off(size, 0, base),
            "hand-off p50 ms, tickets queued": _hand_off(0, size, base),
        }
        for size in sizes
    }


def _acquire(leases: int, number: int, base: str) -> float:
    with Fleet(base, "leasecap", leases + 1) as fleet, crowd(fleet.directory, 1, leases, 0, leases + 1):
        worker = fleet.start(1, "loop")[0]
        for count in (number // 10 + 1, number):
            worker.say(count)
            took = worker.hear()
    return median(took)


def _hand_off(leases: int, tickets: int, base: str) -> float:
    with Fleet(base, "leasecap", leases + SLOTS) as fleet, crowd(fleet.directory, 1, leases, 0, leases + SLOTS):
        holder = fleet.start(1, "hold", SLOTS)[0]
        assert holder.hear() == "held"
        with crowd(fleet.directory, 1, 0, tickets, leases + SLOTS):
            workers = fleet.start(PROCESSES, "rounds", ROUNDS, HOLD)
            fleet.begin(workers, 0.003)
            time.sleep(0.3)  # all of them have queued, before those who wait for nothing
            holder.hang_up()
            holds = [Hold(*hold) for worker in workers for hold in worker.hear()["holds"]]
    return median(measures.hand_offs(holds, SLOTS)) * 1e3


def status(pools: int, leases: int, times: int, base: str) -> dict[str, dict[str, float]]:
    """K: `leasecap status` of many pools, beside a Python that does nothing."""
    commands = {"leasecap status": [str(LEASECAP), "status"], "python -c pass": [sys.executable, "-c", "pass"]}
    took: dict[str, list[float]] = {name: [] for name in commands}
    with scratch(base) as directory, crowd(directory, pools, leases, 0, leases):
        environment = clean_environment(LEASECAP_HOME=os.path.join(directory, "root"))
        for _ in range(times):
            for name, command in commands.items():
                begin = time.perf_counter()
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                took[name].append(time.perf_counter() - begin)
                if name == "leasecap status" and done.stdout.count("lock held") != pools * leases:
                    raise RuntimeError(f"`leasecap status` did not show {pools * leases} leases:\n{done.stdout}")
    return {name: {"wall ms": median(seconds) * 1e3} for name, seconds in took.items()}
