"""The workloads, at full size and at a size that only shows that they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import agents, commands, contention, requests, scale, single
from .agents import Crew
from .contention import Contention
from .gate import added, queue, usage
from .limiters import load
from .server import work

Figures = dict[str, dict[str, float]]


SHORT_HOLDS, MANY_WAITERS = Contention(16, 4, 0.02, 10, 7), Contention(48, 4, 0.1, 4, 3)


class Workload(NamedTuple):
    """``run`` takes a directory and the names of limiters."""

    title: str
    run: Callable[[str, Sequence[str]], Figures]


def _contended(title: str, asked: Contention) -> Workload:
    def measure(base: str, names: Sequence[str]) -> Figures:
        several = [name for name in names if load(name).highest is None]
        return contention.measure(asked, base, _pipes_refused_too(several) if asked.hold else several)

    return Workload(f"{title} ({_counts(asked)})", measure)


def _counts(asked: Contention) -> str:
    return f"{asked.processes} processes, cap {asked.cap}, {asked.rounds} rounds, hold {asked.hold * 1e3:g} ms"


def _pipes_refused_too(names: Sequence[str]) -> list[str]:
    """Those, and leasecap once more without named pipes, if it is one of them."""
    return [each for name in names for each in ((name, "leasecap_no_pipes") if name == "leasecap" else (name,))]


def _agents(crew: Crew) -> Workload:
    title = (
        f"{crew.agents} agents of {crew.turns} turns, cap {crew.cap}, a turn {crew.hold * 1e3:g} ms, prompts "
        f"{crew.apart * 1e3:g} ms apart: until an agent is done, by `order`"
    )
    return Workload(title, lambda base, _: agents.measure(crew, base))


def workloads(tiny: bool) -> dict[str, Workload]:
    def size(full: int, small: int) -> int:
        return small if tiny else full

    several = ("leasecap", "portalocker", "mkdir_poll", "posix_ipc")
    number, waiters, times, sizes = size(3000, 20), size(100, 2), size(30, 1), (2, 3) if tiny else (10, 100, 1000)
    return {
        "A": Workload(
            "uncontended acquire + release",
            lambda base, names: single.uncontended(number, base, [*names, "leasecap_feedback"]),
        ),
        "B": _contended("short holds", Contention(3, 2, 0.005, 2, 1) if tiny else SHORT_HOLDS),
        "C": _contended("many waiters", Contention(3, 2, 0.005, 1, 1) if tiny else MANY_WAITERS),
        "D": _contended(
            "more waiters than inotify instances",
            Contention(3, 2, 0.005, 1, 1) if tiny else Contention(200, 8, 0.2, 2, 1),
        ),
        "E": _contended("no hold", Contention(2, 1, 0, 3, 1) if tiny else Contention(8, 4, 0, 100, 3)),
        "F": Workload(
            f"{waiters} waiters, idle",
            lambda base, names: single.idle(
                waiters, size(20, 1), base, _pipes_refused_too([name for name in names if name in several])
            ),
        ),
        "G": Workload(
            "from the SIGKILL of the holder to the next grant",
            lambda base, names: single.killed(times, base, names, patience=0.5 if tiny else 3.0),
        ),
        "H": Workload("wrapping `true`", lambda base, _: commands.measure(size(20, 1), base)),
        "I": Workload(
            "tasks of one event loop (cap 16, hold 5 ms)",
            lambda base, _: single.tasks(size(200, 20), size(5, 1), size(5, 1), base),
        ),
        "J": Workload("many leases and tickets", lambda base, _: scale.growth(sizes, size(500, 5), base)),
        "K": Workload(
            "status of many pools", lambda base, _: scale.status(size(50, 2), size(20, 2), size(10, 1), base)
        ),
        "R": Workload(
            "a request with a slot, beside the bare transport", lambda base, _: requests.measure(size(1000, 10), base)
        ),
        "S": _agents(Crew(3, 2, 2, 0.01, 0.01, 1) if tiny else Crew(12, 8, 2, 0.2, 0.4, 5)),
    }


def gate_workloads(tiny: bool) -> dict[str, Workload]:
    """Of the gate. At the small size without what takes long to start."""

    def size(full: int, small: int) -> int:
        return small if tiny else full

    others, number, queued, lag = not tiny, size(500, 5), size(200, 8), 0.01 if tiny else 0.1
    found = {
        "L": Workload(
            "added to a request of 76 kB (free; with a slot; with a slot and an answer of 450 events), over direct",
            lambda base, _: added.latency(number, size(3, 1), base, others=others),
        ),
        "M": Workload(
            "memory and processor time of each way", lambda base, _: added.footprint(number, base, others=others)
        ),
        "N": Workload("from the start of the wrapper", lambda base, _: added.start(size(10, 1), base)),
        "O": Workload(
            f"{queued} requests at once, limit 4, each {lag * 1e3:g} ms",
            lambda base, _: queue.drain(queued, 4, lag, base),
        ),
        "P": Workload(
            f"six sessions of Claude Code, cap {usage.CAP}, requests of {usage.SHORTEST:g} to {usage.LONGEST:g} s",
            lambda base, _: usage.claude(6, base),
        ),
        "Q": Workload(
            "the same with two of Claude Code, two of Codex, and two SDKs", lambda base, _: usage.mixed(base)
        ),
    }
    return {name: found[name] for name in found if others or name not in "PQ"}


def server_workloads(tiny: bool) -> dict[str, Workload]:
    """Of pools on a server. At the small size one of each kind."""
    few, waiters = Contention(3, 2, 0.005, 2, 1), 2 if tiny else 100

    def contended(title: str, full: Contention, round_trip: float = 0.0) -> Workload:
        asked = few._replace(cap=min(few.cap, full.cap)) if tiny else full
        return Workload(
            f"{title} ({_counts(asked)})", lambda base, names: work.contended(asked, base, names, round_trip)
        )

    def uncontended(title: str, number: int, round_trip: float = 0.0) -> Workload:
        times = 20 if tiny else number
        return Workload(title, lambda base, names: work.uncontended(times, base, names, round_trip))

    network = f"by a network of {work.ROUND_TRIP * 1e3:g} ms there and back"
    found = {
        "T": uncontended("uncontended acquire + release", 3000),
        "U": uncontended(f"the same {network}", 500, work.ROUND_TRIP),
        "V": contended("short holds, as in B", SHORT_HOLDS),
        "W": contended(f"short holds {network}", SHORT_HOLDS._replace(repeats=5), work.ROUND_TRIP),
        "X": contended("many waiters, as in C", MANY_WAITERS),
        "Y": contended("one slot", Contention(8, 1, 0.02, 8, 3)),
        "Z": Workload(
            f"{waiters} waiters, idle", lambda base, names: work.idle(waiters, 1 if tiny else 20, base, names)
        ),
    }
    return {name: found[name] for name in found if not tiny or name in "TWYZ"}
