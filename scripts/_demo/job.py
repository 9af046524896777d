"""Work for a moment, and note when it began and ended. Arguments: the file for that, and seconds."""

from __future__ import annotations

import os
import sys
import time


def note(path: str, what: str) -> None:
    """A line in one write, so that none of others gets into it."""
    with open(path, "ab", buffering=0) as file:
        file.write(f"{what} {time.monotonic_ns()} {os.uname().nodename} {os.environ['MACHINE']}\n".encode())


if __name__ == "__main__":
    _, path, seconds = sys.argv
    note(path, "begin")
    time.sleep(float(seconds))
    note(path, "end")
