"""Workloads A, F, G and I: one caller, those who only wait, a holder that is killed, and tasks of one event loop."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from . import measures
from .fleet import Fleet, Worker, scratch
from .limiters import load
from .measures import Hold, median, percentile

_CPU_CLOCK = 2  # the kind of a process's CPU clock, below its id (clock_getcpuclockid of Linux)


def uncontended(number: int, base: str, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """A: acquire and release, warm, in one process per limiter; they take turns in parts of a tenth."""
    part = max(number // 10, 1)
    took: dict[str, list[float]] = {name: [] for name in names}
    fleets = {name: Fleet(base, name, load(name).highest or 4) for name in names}
    try:
        workers = {name: fleet.start(1, "loop")[0] for name, fleet in fleets.items()}
        for turn in range(11):
            for name, worker in workers.items():
                worker.say(part)
                told = worker.hear()
                if turn:  # the first part warms up
                    took[name] += told
    finally:
        for fleet in fleets.values():
            fleet.__exit__()
    return {
        name: {"p50 us": median(all_of_it), "p99 us": percentile(all_of_it, 0.99)} for name, all_of_it in took.items()
    }


def idle(
    waiters: int, seconds: float, base: str, names: Sequence[str], server: int | None = None
) -> dict[str, dict[str, float]]:
    """F: all slots are held, and nothing happens for a while.

    :param server: the process that serves all of them, if one does.
    """
    found = {}
    for name in names:
        with Fleet(base, name, 4) as fleet:
            holder = fleet.start(1, "hold", 4)[0]
            assert holder.hear() == "held"
            workers = fleet.start(waiters, "rounds", 1, 0)
            fleet.begin(workers, 0.003)
            time.sleep(2 + 0.01 * waiters)  # until all have queued and come to rest
            pids = [*(worker.pid for worker in workers), *(() if server is None else (server,))]
            before = [used(pid) for pid in pids]
            time.sleep(seconds)
            spent = [used(pid).since(then) for pid, then in zip(pids, before, strict=True)]
        cpu, wakes = (sum(of_waiter) for of_waiter in zip(*spent[:waiters], strict=True))
        found[name] = {
            "CPU s": cpu,
            "% of a core": cpu / seconds * 100,
            "wake-ups/s": wakes / seconds,
        }
        if server is not None:
            found[name]["server, % of a core"] = spent[-1][0] / seconds * 100
    return found


class Used(NamedTuple):
    """What a process has used since it began.

    :ivar cpu: seconds, of threads that have ended too.
    :ivar wakes: how often each thread that lives was scheduled, by its id.
    """

    cpu: float
    wakes: Mapping[str, int]

    def since(self, then: Used) -> tuple[float, float]:
        """CPU seconds and wake-ups since ``then``, but for wake-ups of threads that have ended meanwhile."""
        return self.cpu - then.cpu, sum(count - then.wakes.get(thread, 0) for thread, count in self.wakes.items())


def used(pid: int) -> Used:
    """What a process has used (Linux)."""
    wakes = {
        thread.name: int((thread / "schedstat").read_text().split()[2])
        for thread in Path(f"/proc/{pid}/task").iterdir()
    }
    return Used(time.clock_gettime(~pid << 3 | _CPU_CLOCK), wakes)


def killed(times: int, base: str, names: Sequence[str], patience: float = 3.0) -> dict[str, dict[str, float]]:
    """G: from the SIGKILL of the holder to the grant of the one who waits; inf where it never came."""
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(times):
        for name in names:
            if math.inf not in found[name]:
                # It has waited for 0.2 to 1.5 s by then, so that no moment of a poll is met each time.
                found[name].append(_kill_once(base, name, 0.2 + 1.3 * turn / times, patience))
    return {
        name: {"p50 ms": median(waits) * 1e3, "p99 ms": percentile(waits, 0.99) * 1e3} for name, waits in found.items()
    }


def _kill_once(base: str, name: str, after: float, patience: float) -> float:
    with Fleet(base, name, 1) as fleet:
        holder, waiter = fleet.start(1, "hold", 1)[0], fleet.start(1, "rounds", 1, 0)[0]
        assert holder.hear() == "held"
        fleet.begin([waiter], 0)
        time.sleep(0.1 + after)
        killed_at = time.monotonic()
        os.kill(holder.pid, signal.SIGKILL)
        if not waiter.says_within(patience):
            return math.inf
        _, granted, _ = waiter.hear()["holds"][0]
        return max(float(granted) - killed_at, 0.0)


def tasks(number: int, rounds: int, repeats: int, base: str) -> dict[str, dict[str, float]]:
    """I: tasks of one event loop, beside asyncio.Semaphore, which knows nothing of other processes."""
    cap, hold = 16, 0.005
    found: dict[str, list[dict[str, float]]] = {"leasecap": [], "asyncio.Semaphore": []}
    for _ in range(repeats):
        for name, runs in found.items():
            with scratch(base) as directory, Worker("tasks", name, directory, cap, number, rounds, hold) as worker:
                told = worker.hear()
            holds = [Hold(*hold) for hold in told["holds"]]
            runs.append(
                {
                    "ops/s": len(holds) / measures.wall(holds),
                    "utilisation": measures.utilisation(holds, cap, hold),
                    "CPU ms/op": told["cpu"] / len(holds) * 1e3,
                    "loop lag p50 ms": percentile(told["lags"], 0.5) * 1e3,
                    "loop lag p99 ms": percentile(told["lags"], 0.99) * 1e3,
                }
            )
    return {name: {key: median([one[key] for one in runs]) for key in runs[0]} for name, runs in found.items()}
