"""One process that uses a limiter. Led through its standard input, so that all begin together.

Usage: python -m _bench.worker LIMITER DIRECTORY LIMIT MODE [ARGUMENT...]; says "ready", then, by mode:

- ``rounds N HOLD``: at the time read from stdin acquires, holds for HOLD seconds and releases, N times; says the times
- ``loop``: for each number read from stdin, that many acquires and releases; says the microseconds that each took
- ``hold N``: takes N slots, says "held", and keeps them until stdin ends
"""

from __future__ import annotations

import json
import resource
import sys
import time

from .limiters import Limiter, load


def main() -> None:
    name, directory, limit, mode, *arguments = sys.argv[1:]
    chosen = load(name)
    handles = [chosen(directory, int(limit)) for _ in range(int(arguments[0]) if mode == "hold" else 1)]
    say("ready")
    if mode == "rounds":
        rounds(handles[0], int(arguments[0]), float(arguments[1]))
    elif mode == "loop":
        loop(handles[0])
    else:
        for handle in handles:
            handle.acquire()
        say("held")
        sys.stdin.read()
        for handle in handles:
            handle.release()


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


def rounds(limiter: Limiter, number: int, seconds: float) -> None:
    begin = float(sys.stdin.readline())
    time.sleep(max(begin - time.monotonic(), 0))
    cpu = cpu_seconds()
    holds = []
    for _ in range(number):
        asked = time.monotonic()
        limiter.acquire()
        granted = time.monotonic()
        if seconds:
            time.sleep(seconds)
        ended = time.monotonic()
        limiter.release()
        holds.append((asked, granted, ended))
    say({"holds": holds, "cpu": cpu_seconds() - cpu, "peak": peak_memory()})


def loop(limiter: Limiter) -> None:
    for line in sys.stdin:
        took = []
        for _ in range(int(line)):
            begin = time.perf_counter_ns()
            limiter.acquire()
            limiter.release()
            took.append((time.perf_counter_ns() - begin) / 1000)
        say(took)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_memory() -> float:
    """MiB. What getrusage says would include the process that started this one."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


if __name__ == "__main__":
    main()
