"""Workloads L and M: what a way adds to each request, and how much memory and processor time it takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from ..fleet import scratch
from ..measures import percentile
from . import payload, ways
from .client import Client

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client import Took
    from .ways import Way

DIRECT, GATE = "direct", "leasecap run --per-request"
LIMIT = 4


class Case:
    """One kind of request, on each way."""

    def __init__(self, name: str, path: str, *, stream: bool) -> None:
        self.name = name
        self.path = path
        self.body = payload.question(stream=stream)

    def on(self, way: Way) -> bytes:
        return payload.request(way.port, self.path, self.body, way.prefix)


@contextlib.contextmanager
def all_ways(directory: str, others: bool = True) -> Iterator[dict[str, Way]]:
    """Those that are there.

    :param others: also products, which take long to start.
    """
    with contextlib.ExitStack() as stack:
        provider = stack.enter_context(ways.provider())
        found = {
            GATE: stack.enter_context(ways.gate(directory, provider, LIMIT)),
            "bare proxy (h11)": stack.enter_context(ways.bare_proxy(provider)),
        }
        if others and ways.LITELLM.exists():
            try:
                found["LiteLLM's proxy"] = stack.enter_context(ways.litellm(directory, provider))
            except (OSError, RuntimeError) as error:
                print(f"left out: LiteLLM's proxy ({error})")
        elif others:
            print("left out: LiteLLM's proxy (docs/benchmarks.md says how it is installed)")
        yield {DIRECT: provider, **found}


def latency(number: int, rounds: int, base: str, *, others: bool) -> dict[str, dict[str, float]]:
    """L: milliseconds that each way adds to a request: the differences of p50 and p99, the best of the rounds.

    The ways take turns in each round.
    """
    cases = [
        Case("free", payload.FREE, stream=False),
        Case("plain", payload.PLAIN, stream=False),
        Case("stream", payload.PLAIN, stream=True),
    ]
    with scratch(base) as directory, all_ways(directory, others) as found:
        figures: dict[str, dict[str, float]] = {name: {} for name in found}
        for case in cases:
            # Only the gate knows what is free; LiteLLM has no such endpoint.
            those = [name for name in found if case.name != "free" or not name.startswith("LiteLLM")]
            took = [
                {name: several(found[name], case, count(name, case, number)) for name in those} for _ in range(rounds)
            ]
            whole = [{name: [each.whole for each in all_of_it] for name, all_of_it in turn.items()} for turn in took]
            first = [{name: [each.first for each in all_of_it] for name, all_of_it in turn.items()} for turn in took]
            for name in those:
                if case.name == "stream":
                    figures[name]["stream, first byte p50 ms"] = least(first, name, 0.5)
                for share, word in ((0.5, "p50"), (0.99, "p99")):
                    figures[name][f"{case.name} {word} ms"] = least(whole, name, share)
        return figures


def count(way: str, case: Case, number: int) -> int:
    """Fewer of what takes long."""
    for slow in (case.name == "stream", way.startswith("LiteLLM")):
        number = max(1, number // 4) if slow else number
    return number


def several(way: Way, case: Case, number: int) -> list[Took]:
    """How long each of so many requests took, on one connection."""
    request = case.on(way)
    with Client(way.port) as client:
        for _ in range(warm_up(number)):
            client.ask(request)
        return [client.ask(request) for _ in range(number)]


def warm_up(number: int) -> int:
    return min(number, 10)


def least(took: Sequence[Mapping[str, list[float]]], name: str, share: float) -> float:
    """The best round's difference to direct; of direct itself, its best."""
    straight = [percentile(each[DIRECT], share) for each in took]
    if name == DIRECT:
        return min(straight) * 1e3
    return min(percentile(each[name], share) - least for each, least in zip(took, straight, strict=True)) * 1e3


def footprint(number: int, base: str, *, others: bool) -> dict[str, dict[str, float]]:
    """M: memory of each way when it is idle and at most, and its processor time for a request."""
    plain, stream = (Case(name, payload.PLAIN, stream=name == "stream") for name in ("plain", "stream"))
    figures: dict[str, dict[str, float]] = {}
    with scratch(base) as directory, all_ways(directory, others) as found:
        for name, way in found.items():
            if name == DIRECT:
                continue
            several(way, plain, 1)
            idle = ways.memory(way.pid)[0]
            used = {}
            for case in (plain, stream):
                times = count(name, case, number)
                begin = ways.cpu_seconds(way.pid)
                several(way, case, times)
                used[case.name] = (ways.cpu_seconds(way.pid) - begin) / (times + warm_up(times))
            figures[name] = {
                "MiB after one request": idle,
                "peak MiB after all": ways.memory(way.pid)[1],
                "CPU ms/request, plain": used["plain"] * 1e3,
                "CPU ms/request, stream": used["stream"] * 1e3,
            }
        words = ways.wrapped(LIMIT, "sh", "-c", ways.SAYS_ITS_GATE, per_request=False)
        with ways.running(words, directory, found[DIRECT]) as (process, _):
            time.sleep(0.2)  # what it does beside its command is done
            idle, peak = ways.memory(process.pid)
            figures["leasecap run"] = {"MiB after one request": idle, "peak MiB after all": peak}
    return figures


def start(times: int, base: str) -> dict[str, dict[str, float]]:
    """N: from the start of a way until its command runs, and until the first request is answered."""
    plain = Case("", payload.PLAIN, stream=False)
    spawned: dict[str, list[float]] = {"leasecap run": [], GATE: []}
    answered: list[float] = []
    with scratch(base) as directory, ways.provider() as provider:
        for turn in range(times + 1):
            for name, began in spawned.items():
                words = ways.wrapped(LIMIT, "sh", "-c", ways.SAYS_ITS_GATE, per_request=name == GATE)
                begin = time.perf_counter()
                with ways.running(words, directory, provider) as (process, url):
                    began.append(time.perf_counter() - begin)
                    if name == GATE:
                        way = ways.way(url, process.pid)
                        with Client(way.port) as client:
                            client.ask(plain.on(way))  # not `several`, which warms up first
                        answered.append(time.perf_counter() - begin)
            if turn == 0:  # fills the caches
                answered.clear()
                for began in spawned.values():
                    began.clear()
    figures = {name: {"ms until the command runs": percentile(began, 0.5) * 1e3} for name, began in spawned.items()}
    figures[GATE]["ms until the first answer"] = percentile(answered, 0.5) * 1e3
    return figures
