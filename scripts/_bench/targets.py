"""Where leasecap must stand, as ratios within one run, and whether it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

Results = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Workload, limiter, figure."""


class Verdict(NamedTuple):
    """One target.

    :ivar allowed: the worst that is good enough.
    :ivar stretch: what would be better still, or None.
    """

    workload: str
    what: str
    measured: float
    allowed: float
    stretch: float | None
    more_is_better: bool

    @property
    def met(self) -> bool:
        return self._reaches(self.allowed)

    @property
    def word(self) -> str:
        if not self.met:
            return "missed"
        return "stretch met" if self.stretch is not None and self._reaches(self.stretch) else "met"

    def _reaches(self, bound: float) -> bool:
        return self.measured >= bound if self.more_is_better else self.measured <= bound


def verdicts(results: Results) -> Iterator[Verdict]:
    """Every target for which this run has the figures."""
    for workload, what, measure, allowed, stretch, more in _TARGETS:
        try:
            measured = measure(results[workload])
        except KeyError:
            continue  # not measured in this run, or against a peer that isn't installed
        yield Verdict(workload, what, measured, allowed, stretch, more)


_Figures = Mapping[str, Mapping[str, float]]


def _ratio(figure: str, over: str, ours: str = "leasecap") -> Callable[[_Figures], float]:
    return lambda of: of[ours][figure] / of[over][figure]


def _ours(figure: str, ours: str = "leasecap") -> Callable[[_Figures], float]:
    return lambda of: of[ours][figure]


def _behind(floor: str, ours: str = "leasecap") -> Callable[[_Figures], float]:
    return lambda of: of[floor]["utilisation"] - of[ours]["utilisation"]


def _cpu_over_floor(of: _Figures) -> float:
    floor = of["posix_ipc"]["CPU ms/op"]
    return (of["leasecap"]["CPU ms/op"] - floor) / (of["portalocker"]["CPU ms/op"] - floor)


def _growth(figure: str) -> Callable[[_Figures], float]:
    return lambda of: of["1000"][figure] / of["10"][figure]


def _over_python(of: _Figures) -> float:
    return of["leasecap status"]["wall ms"] - of["python -c pass"]["wall ms"]


_GATE = "leasecap run --per-request"
_SERVER = "leasecap_redis"
_RUNS, _ANSWERS = "ms until the command runs", "ms until the first answer"


def _more_than_run(figure: str, base: str | None = None) -> Callable[[_Figures], float]:
    return lambda of: of[_GATE][figure] - of["leasecap run"][base or figure]


_TARGETS: list[tuple[str, str, Callable[[_Figures], float], float, float | None, bool]] = [
    ("A", "p50 over the old protocol's", _ratio("p50 us", "mkdir_poll"), 0.3, 0.1, False),
    ("A", "p50 over SoftFileLease's", _ratio("p50 us", "filelock_lease"), 1.0, None, False),
    ("A", "p50 with all of feedback over without", _ratio("p50 us", "leasecap", "leasecap_feedback"), 1.3, None, False),
    ("B", "utilisation", _ours("utilisation"), 0.92, None, True),
    ("B", "utilisation behind posix_ipc's", _behind("posix_ipc"), 0.04, None, False),
    ("C", "utilisation", _ours("utilisation"), 0.97, None, True),
    ("C", "hand-off p50, ms", _ours("hand-off p50 ms"), 1.5, None, False),
    ("C", "hand-off p99, ms", _ours("hand-off p99 ms"), 6.0, None, False),
    ("C", "overtakings, mean", _ours("overtakings"), 0.5, None, False),
    ("C", "CPU per op over posix_ipc's, to portalocker's", _cpu_over_floor, 0.5, None, False),
    ("D", "utilisation", _ours("utilisation"), 0.93, None, True),
    ("F", "% of a core for all", _ours("% of a core"), 1.0, None, False),
    ("G", "p99, ms", _ours("p99 ms"), 300.0, None, False),
    ("G", "p50, ms", _ours("p50 ms"), 300.0, 20.0, False),
    ("H", "warm, over `sem --fg`", _ratio("warm ms", "sem --fg", "leasecap run"), 0.8, 0.4, False),
    ("I", "utilisation", _ours("utilisation"), 0.9, None, True),
    ("I", "loop lag p99, ms", _ours("loop lag p99 ms"), 5.0, None, False),
    ("J", "acquire at 1000 leases over 10", _growth("acquire p50 us, leases held"), 3.0, None, False),
    ("J", "hand-off at 1000 leases over 10", _growth("hand-off p50 ms, leases held"), 3.0, None, False),
    ("J", "hand-off at 1000 tickets over 10", _growth("hand-off p50 ms, tickets queued"), 3.0, None, False),
    ("K", "ms over `python -c pass`", _over_python, 150.0, None, False),
    ("L", "free, p50 ms added", _ours("free p50 ms", _GATE), 0.7, None, False),
    ("L", "plain with a slot, p50 ms added", _ours("plain p50 ms", _GATE), 2.0, None, False),
    ("L", "stream with a slot, first byte, p50 ms added", _ours("stream, first byte p50 ms", _GATE), 2.0, None, False),
    ("L", "stream with a slot, p50 ms added", _ours("stream p50 ms", _GATE), 2.0, None, False),
    ("M", "peak MiB", _ours("peak MiB after all", _GATE), 45.0, None, False),
    ("N", "ms before the command runs, over `leasecap run`", _more_than_run(_RUNS), 20.0, None, False),
    ("N", "ms until it answers, over `leasecap run`", _more_than_run(_ANSWERS, _RUNS), 200.0, None, False),
    ("P", "use of the cap, %", _ours("use of the cap, %", _GATE), 95.0, None, True),
    ("P", "refused", _ours("refused", _GATE), 0.0, None, False),
    ("Q", "use of the cap, %", _ours("use of the cap, %", _GATE), 70.0, None, True),
    ("Q", "refused", _ours("refused", _GATE), 0.0, None, False),
    ("T", "p50 over that of two round trips", _ratio("p50 us", "redis_pings", _SERVER), 1.5, None, False),
    ("V", "utilisation", _ours("utilisation", _SERVER), 0.88, None, True),
    ("V", "utilisation behind that of files", _behind("leasecap", _SERVER), 0.06, None, False),
    ("V", "hand-off p50 over that of files", _ratio("hand-off p50 ms", "leasecap", _SERVER), 2.0, None, False),
    ("W", "utilisation", _ours("utilisation", _SERVER), 0.78, None, True),
    ("X", "utilisation", _ours("utilisation", _SERVER), 0.97, None, True),
    ("X", "hand-off p50 over that of files", _ratio("hand-off p50 ms", "leasecap", _SERVER), 2.0, None, False),
    ("Z", "% of a core for all who wait", _ours("% of a core", _SERVER), 1.0, None, False),
    ("Z", "% of a core for the server", _ours("server, % of a core", _SERVER), 1.0, None, False),
]
