"""An agent that asks under a slot, and tells the pool what the provider answered. It never waits by itself."""

from __future__ import annotations

import os

from agent import QUESTIONS, send  # type: ignore[import-not-found]  # run as a script, it finds its neighbour

import leasecap

if __name__ == "__main__":
    for question in QUESTIONS * 2:
        status = 0
        while status != 200:
            with leasecap.slot("demo") as lease:
                status, retry_after, answer = send(os.environ["OPENAI_BASE_URL"], question)
                lease.report(status, retry_after=retry_after)
        print(answer)
