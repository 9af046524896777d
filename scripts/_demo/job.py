"""Work for so many seconds, and note in $JOURNAL when that began and ended."""

from __future__ import annotations

import os
import sys
import time


def note(what: str) -> None:
    """A line in one write, so that none of others gets into it."""
    with open(os.environ["JOURNAL"], "ab", buffering=0) as file:
        file.write(f"{what} {time.monotonic_ns()} {os.environ['MACHINE']}\n".encode())


if __name__ == "__main__":
    note("begin")
    time.sleep(float(sys.argv[1]))
    note("end")
