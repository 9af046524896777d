"""What really happened, one line each, appended by whoever did it: not one look at leasecap's own files.

A line is: nanoseconds of the boot clock, event, pool, who (an id of one acquire), process (a name, never used again),
pid, under (the who of the lease it runs under); "-" where one doesn't apply. A ``start`` is written after the slot was
got and an ``end`` before it is given back, so what stands here is never more than what was held, and an overlap in it
was real. A lender writes ``lend`` while it waits for its borrower, and ``start`` again when it goes on. Who declares a
limit writes ``declare`` before it asks, with that limit in place of ``under``.

Faults stand there as well. Whoever makes them writes ``kill``, ``stop`` and ``continue``, and ``inside`` for the pool
whose own lock a stopped process has. A process whose event loop blocks writes ``block`` and ``unblock`` itself.
"""

from __future__ import annotations

import os
import time

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Journal:
    """Writes lines, each in one write."""

    def __init__(self, path: str, process: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.process = process

    def write(self, what: str, pool: str = "-", who: str = "-", under: str = "-", process: str = "") -> None:
        """:param process: whom it is about, if not this process."""
        moment = time.clock_gettime_ns(_CLOCK)
        line = f"{moment} {what} {pool} {who} {process or self.process} {os.getpid()} {under}\n"
        os.write(self._fd, line.encode())
