"""Workloads B to E: many processes want a few slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from . import measures, single
from .fleet import Fleet
from .measures import Hold, median, percentile

START_APART = 0.003
"""Seconds between the first calls of two processes, so that there is an order to keep."""


class Contention(NamedTuple):
    """``processes`` times ``rounds`` acquires of one of ``cap`` slots, each held for ``hold`` seconds."""

    processes: int
    cap: int
    hold: float
    rounds: int
    repeats: int


class Run(NamedTuple):
    """What the workers of one run reported.

    :ivar served: CPU seconds that the server took meanwhile, if there is one.
    """

    holds: list[Hold]
    cpu: float
    peaks: list[float]
    served: float | None = None


def run(work: Contention, base: str, name: str, server: int | None = None) -> Run:
    with Fleet(base, name, work.cap) as fleet:
        workers = fleet.start(work.processes, "rounds", work.rounds, work.hold)
        before = served(server)
        fleet.begin(workers, START_APART if work.hold else 0)
        said = [worker.hear() for worker in workers]
        after = served(server)
    holds = [Hold(*hold) for each in said for hold in each["holds"]]
    most = measures.most_at_once(holds)
    if most > work.cap:
        raise RuntimeError(f"{name} let {most} hold at once, with a cap of {work.cap}")
    return Run(
        holds,
        sum(each["cpu"] for each in said),
        [each["peak"] for each in said],
        None if server is None else after - before,
    )


def served(server: int | None) -> float:
    return 0.0 if server is None else single.used(server).cpu


def measure(
    work: Contention, base: str, names: Sequence[str], server: int | None = None
) -> dict[str, dict[str, float]]:
    """The median of the repeats; limiters take turns.

    :param server: the process that serves them, if one does.
    """
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(work.repeats):
        for name in names:
            found[name].append(figures(work, run(work, base, name, server)))
    return {name: {key: median([one[key] for one in runs]) for key in runs[0]} for name, runs in found.items()}


def figures(work: Contention, found: Run) -> dict[str, float]:
    holds = found.holds
    if not work.hold:
        return {"ops/s": len(holds) / measures.wall(holds), "CPU ms/op": found.cpu / len(holds) * 1e3}
    waits = measures.hand_offs(holds, work.cap)
    of_server = {} if found.served is None else {"server CPU ms/op": found.served / len(holds) * 1e3}
    return {
        "utilisation": measures.utilisation(holds, work.cap, work.hold),
        "hand-off p50 ms": median(waits) * 1e3,
        "hand-off p99 ms": percentile(waits, 0.99) * 1e3,
        "CPU ms/op": found.cpu / len(holds) * 1e3,
        **of_server,
        "overtakings": measures.overtakings(holds),
        "peak MiB/process": median(found.peaks),
    }
