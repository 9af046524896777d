"""One agent, which works on one prompt: so many requests, one after another.

Usage: python -m _bench.agent ROOT TURNS HOLD

Says that it is ready; hears in how many seconds its prompt comes; says when that was, and when it had its last answer.
"""

from __future__ import annotations

import json
import os
import sys
import time

import leasecap


def main(root: str, turns: int, hold: float) -> None:
    os.environ["LEASECAP_HOME"] = root
    print(json.dumps("ready"), flush=True)
    time.sleep(float(sys.stdin.readline()))
    began, begin = time.time(), time.monotonic()
    for _ in range(turns):
        with leasecap.slot("bench", task_since=began):
            time.sleep(hold)
    print(json.dumps([begin, time.monotonic()]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
