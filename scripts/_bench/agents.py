"""Workload S: agents of several turns each that come one after another, ordered by arrival and by task."""

from __future__ import annotations

import os
from statistics import mean
from typing import NamedTuple

from .fleet import Worker, scratch
from .measures import median, percentile


class Crew(NamedTuple):
    """``agents`` processes of ``turns`` requests each, which take ``hold`` seconds, at a cap of ``cap``.

    :ivar apart: seconds between the prompts of two agents.
    """

    agents: int
    turns: int
    cap: int
    hold: float
    apart: float
    repeats: int


def measure(crew: Crew, base: str) -> dict[str, dict[str, float]]:
    """How long the agents took, each from its prompt to its last answer; the medians of alternating runs."""
    runs: dict[str, list[dict[str, float]]] = {"arrival": [], "task": []}
    for _ in range(crew.repeats):
        for order, found in runs.items():
            found.append(_run(crew, order, base))
    return {
        f"by {order}": {name: median([run[name] for run in found]) for name in found[0]}
        for order, found in runs.items()
    }


def _run(crew: Crew, order: str, base: str) -> dict[str, float]:
    with scratch(base) as directory:
        root = os.path.join(directory, "root")
        os.mkdir(root, 0o700)
        with open(os.path.join(root, "config.toml"), "w", encoding="utf-8") as file:
            file.write(f'[pools.bench]\nlimit = {crew.cap}\norder = "{order}"\n')
        workers: list[Worker] = []
        try:
            workers += [Worker("agent", root, crew.turns, crew.hold) for _ in range(crew.agents)]
            for worker in workers:
                assert worker.hear() == "ready"
            for number, worker in enumerate(workers):
                worker.say(number * crew.apart)
            spans = [worker.hear() for worker in workers]
        finally:
            for worker in workers:
                with worker:
                    pass
    took = [end - begin for begin, end in spans]
    return {
        "mean s": mean(took),
        "p50 s": median(took),
        "p90 s": percentile(took, 0.9),
        "longest s": max(took),
        "all s": max(end for _, end in spans) - min(begin for begin, _ in spans),
    }
