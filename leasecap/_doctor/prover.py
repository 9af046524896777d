"""A process of the proof: it takes the one slot, holds it and gives it back, again and again, and reports the times."""

from __future__ import annotations

import json
import sys
import time

import leasecap
from leasecap._host.effects import Effects

ROUNDS = 25
HOLD = 0.002  # seconds: long enough to be overlapped
SECONDS = 3.0


def main() -> None:
    """Say that it is ready, wait for a line, fight, and print the holds (boot clock, ns) or the error as JSON."""
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        report: object = _holds()
    except leasecap.LeasecapError as error:
        report = {"error": str(error).replace("\n", "; ")}
    print(json.dumps(report))


def _holds() -> list[tuple[int, int]]:
    clock = Effects().boot_clock
    holds: list[tuple[int, int]] = []
    deadline = time.monotonic() + SECONDS
    while len(holds) < ROUNDS and (left := deadline - time.monotonic()) > 0:
        try:
            lease = leasecap.acquire(sys.argv[1], timeout=left)
        except leasecap.AcquireTimeout:
            break  # the other process was so slow; the report has the holds until here
        with lease:
            begin = clock()
            time.sleep(HOLD)
            holds.append((begin, clock()))
    return holds


if __name__ == "__main__":
    main()
