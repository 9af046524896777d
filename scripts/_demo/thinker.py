"""An agent that works between its requests, as agents do: it reads files, runs tests. It knows nothing of leasecap."""

from __future__ import annotations

import os
import sys
import time

REQUESTS = 3
THINKS = 0.5  # seconds between two of them, in which its provider does nothing for it

if __name__ == "__main__":
    from agent import TRIES, ask  # type: ignore[import-not-found]  # run as a script, it finds its neighbour

    for number in range(REQUESTS):
        time.sleep(THINKS)
        answer = ask(os.environ["OPENAI_BASE_URL"], f"Question {number + 1}?")
        if not answer:
            sys.exit(f"agent: no answer after {TRIES} tries")
        print(answer)
