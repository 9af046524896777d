"""A process of the proof: it takes the one slot, holds it and gives it back, again and again, and reports the times."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

import leasecap
from leasecap._host.effects import Effects

ROUNDS = 25  # of each, once both have held the slot
HOLD = 0.002  # seconds: long enough to be overlapped
SECONDS = 10.0


def main() -> None:
    """Say that it is ready, wait for a word, fight, and print the holds (boot clock, ns) or the error as JSON."""
    print("ready", flush=True)
    os.read(0, 1)
    try:
        report: object = _holds()
    except leasecap.LeasecapError as error:
        report = {"error": str(error).replace("\n", "; ")}
    print(json.dumps(report))


def _holds() -> list[tuple[int, int]]:
    clock = Effects().boot_clock
    holds: list[tuple[int, int]] = []
    both = threading.Event()
    threading.Thread(target=_wait_for_both, args=(both,), daemon=True).start()
    deadline = time.monotonic() + SECONDS
    rounds = 0
    while rounds < ROUNDS and (left := deadline - time.monotonic()) > 0:
        rounds += both.is_set()
        try:
            lease = leasecap.acquire(sys.argv[1], timeout=left)
        except leasecap.AcquireTimeout:
            break  # the other process was so slow; the report has the holds until here
        with lease:
            begin = clock()
            time.sleep(HOLD)
            holds.append((begin, clock()))
        if len(holds) == 1:
            print("held", flush=True)
    return holds


def _wait_for_both(both: threading.Event) -> None:
    os.read(0, 1)  # not of sys.stdin, whose lock would be asked for when the interpreter ends
    both.set()


if __name__ == "__main__":
    main()
