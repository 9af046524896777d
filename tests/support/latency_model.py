"""An hour with a provider that slows down and never refuses: whether cutting by the time to first byte pays.

20 workers send one request after another, and a pool of 20 slots goes by the shipped decisions. Run it for the table
that stands in docs/benchmarks.md::

    PYTHONPATH=.:tests/support python tests/support/latency_model.py
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from leasecap._feedback import adaptive
from leasecap._feedback.adaptive import Report
from leasecap._feedback.histogram import EMPTY, histogram, merged, percentile
from leasecap._feedback.rules import Rules
from leasecap._feedback.state import NOTHING, Latency, State
from leasecap._provider.first_bytes import FirstBytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.25
WORKERS = LIMIT = 20
FIRST_BYTE_TIMEOUT = 120.0
SECONDS = 3600.0


@dataclass(slots=True)
class Work:
    """A request.

    :ivar size: of its prompt, in thousands of tokens.
    :ivar base: seconds until its first byte at a provider that has time for it.
    :ivar rest: seconds that its answer takes after that.
    """

    model: str
    size: float
    base: float
    rest: float
    sent: float = 0.0
    left: float = field(default=0.0)
    began: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """What is asked, and of whom.

    :ivar capacity: how many requests the provider works on at once, by the time in seconds; the others wait there.
    :ivar thrash: how much slower it works for each that waits, over its capacity.
    """

    work: Callable[[random.Random, float], Work]
    capacity: Callable[[float], int]
    thrash: float = 0.0


def _prompt(chance: random.Random, model: str, size: float) -> Work:
    slow = {"fast": 0.3, "slow": 4.0}[model]
    base = (slow + 0.08 * size) * chance.lognormvariate(0, 0.3)
    return Work(model, size, base, chance.uniform(3, 25))


def _short(chance: random.Random, now: float) -> Work:
    return _prompt(chance, "fast", chance.lognormvariate(1, 0.5))


def _both_sizes(chance: random.Random, now: float) -> Work:
    return _prompt(chance, "fast", 120.0 if chance.random() < 0.3 else chance.lognormvariate(1, 0.5))


def _long_in_turns(chance: random.Random, now: float) -> Work:
    """For ten minutes of every twenty the agents read long files."""
    return _prompt(chance, "fast", chance.uniform(80, 160) if now % 1200 > 600 else chance.lognormvariate(1, 0.5))


def _models_in_turns(chance: random.Random, now: float) -> Work:
    return _prompt(chance, "slow" if now % 1200 > 600 else "fast", chance.lognormvariate(1, 0.5))


def _ample(now: float) -> int:
    return 1000


def _low(now: float) -> int:
    return 6


def _falls(now: float) -> int:
    """For twenty minutes it has a tenth of its places."""
    return 2 if 1200 < now < 2400 else LIMIT


SCENES = {
    "ample, prompts short and long": Scene(_both_sizes, _ample),
    "ample, long prompts in turns": Scene(_long_in_turns, _ample),
    "ample, two models in turns": Scene(_models_in_turns, _ample),
    "6 places, others wait there": Scene(_short, _low),
    "6 places, slower for each that waits": Scene(_short, _low, thrash=0.3),
    "falls to 2 places for 20 minutes": Scene(_short, _falls),
    "the same, slower for each that waits": Scene(_short, _falls, thrash=0.1),
}


# -- guards: what each makes of a first byte --------------------------------------------------------------------------


def kind_of(work: Work) -> tuple[str, int]:
    """Its model, and the size of its prompt to a factor of two."""
    return work.model, round(math.log2(work.size + 1))


class Off:
    """No guard."""

    rules = Rules()

    def __init__(self) -> None:
        self._first_bytes = FirstBytes()

    def told(self, state: State, work: Work, took: float, now: float) -> tuple[State, float | None]:
        """The state, and the ``ttfb`` of a report; None: nothing is reported."""
        return state, self._first_bytes.note("p", took, now)


class Pool(Off):
    """``latency_guard = true``: over twice the usual of the pool."""

    rules = Rules(latency_guard=True)


class ByKind(Pool):
    """The same, of each first byte over what is usual for its model and the size of its prompt."""

    def __init__(self) -> None:
        super().__init__()
        self._usual: dict[tuple[str, int], float] = {}

    def told(self, state: State, work: Work, took: float, now: float) -> tuple[State, float | None]:
        kind = kind_of(work)
        usual = self._usual.setdefault(kind, took)
        self._usual[kind] = usual + 0.03 * (took - usual)
        return state, took / usual


class Knowing(Pool):
    """The best that any guard could know: over twice what each request would have taken without load. It begins anew
    after each cut."""

    def __init__(self) -> None:
        super().__init__()
        self._cut: float | None = None

    def told(self, state: State, work: Work, took: float, now: float) -> tuple[State, float | None]:
        known = state.latency
        if known is None or state.last_cut != self._cut:
            self._cut, known = state.last_cut, Latency(1.0, 1.0, 20, now)
        return state._replace(latency=known._replace(long=1.0, samples=20)), took / self._without_load(work, took)

    def _without_load(self, work: Work, took: float) -> float:
        return work.base


class ByLeast(Knowing):
    """What can be learned of that: for each model and size of the prompt what a tenth of the requests stay under, and
    half as much again."""

    def __init__(self) -> None:
        super().__init__()
        self._low: dict[tuple[str, int], float] = {}

    def _without_load(self, work: Work, took: float) -> float:
        kind = kind_of(work)
        low = self._low.setdefault(kind, took)
        self._low[kind] = low + (0.02 if took > low else 0.18) * (took - low)
        return 1.5 * low


GUARDS: dict[str, type[Off]] = {
    "off": Off,
    "pool": Pool,
    "usual by kind": ByKind,
    "least by kind": ByLeast,
    "all-knowing": Knowing,
}


# -- the hour ---------------------------------------------------------------------------------------------------------


class Hour:
    """
    :ivar answers: how many were whole.
    :ivar late: how many requests had no first byte in time, and are sent again.
    :ivar first: how long all took to begin.
    :ivar limit: the effective limit, on average.
    :ivar cuts: how many there were.
    """

    def __init__(self, scene: Scene, guard: Off, seed: int) -> None:
        self._scene, self._guard, self._chance = scene, guard, random.Random(seed)
        self._state: State = NOTHING
        self._sent: list[Work] = []  # in the order in which they came to the provider
        self._granted: dict[int, float] = {}
        self._again: list[Work] = []
        self.answers = self.late = self.cuts = 0
        self.first = EMPTY
        self.limit = 0.0

    def run(self) -> None:
        steps = int(SECONDS / TICK)
        for step in range(steps):
            now = step * TICK
            self._send(now)
            self._work(now)
            self.limit += self._effective() / steps

    def _effective(self) -> int:
        cut = self._state.cut
        return LIMIT if cut is None else min(cut.limit, LIMIT)

    def _send(self, now: float) -> None:
        rules = self._guard.rules
        if len(self._sent) < WORKERS and len(self._sent) >= self._effective():
            self._state = adaptive.pressed(self._state, rules, now + 1000, LIMIT)
        number = min(WORKERS, self._effective()) - len(self._sent)
        for _ in range(number):
            work = self._again.pop() if self._again else self._scene.work(self._chance, now)
            work.sent, work.left, work.began = now, work.base, False
            self._sent.append(work)
        self._state = adaptive.granted(self._state, now + 1000, None, False, max(number, 0))

    def _work(self, now: float) -> None:
        places = self._scene.capacity(now)
        waiting = max(len(self._sent) - places, 0)
        speed = 1 / (1 + self._scene.thrash * waiting / places)
        gone: list[Work] = []
        for at, work in enumerate(self._sent):
            if at < places:
                work.left -= TICK * speed
            took = now + TICK - work.sent
            if not work.began and work.left <= 0:
                work.began, work.left = True, work.rest
                self.first = merged(self.first, histogram([took]))
                self._state, ttfb = self._guard.told(self._state, work, took, now)
                if ttfb is not None:
                    self._report(Report("neutral", "slow", ttfb=ttfb, granted=work.sent + 1000), now)
            elif work.began and work.left <= 0:
                gone.append(work)
                self.answers += 1
            elif not work.began and took >= FIRST_BYTE_TIMEOUT:
                gone.append(work)
                self._again.append(work)
                self.late += 1
                self.first = merged(self.first, histogram([took]))
                # As the gate reports it.
                self._report(Report("concurrency", "a time-out", granted=work.sent + 1000), now)
        for work in gone:
            self._sent.remove(work)

    def _report(self, report: Report, now: float) -> None:
        before = self._state.last_cut
        load, level = len(self._sent), self._effective()
        self._state = adaptive.reported(self._state, self._guard.rules, now + 1000, report, level, load)
        self.cuts += self._state.last_cut != before


def played(scene: str, guard: str, seed: int) -> Hour:
    """That hour."""
    hour = Hour(SCENES[scene], GUARDS[guard](), seed)
    hour.run()
    return hour


def main(seeds: tuple[int, ...] = (1, 2, 3)) -> None:
    """Print the table."""
    print("| provider | guard | answers | late of 1000 | first byte p50, p99 | limit | cuts |")
    print("|---|---|---|---|---|---|---|")
    for scene in SCENES:
        for guard in GUARDS:
            hours = [played(scene, guard, seed) for seed in seeds]
            first = EMPTY
            for hour in hours:
                first = merged(first, hour.first)
            mean = [sum(each) / len(seeds) for each in zip(*((h.answers, h.limit, h.cuts) for h in hours), strict=True)]
            late = 1000 * sum(hour.late for hour in hours) / first.n
            p50, p99 = percentile(first, 50), percentile(first, 99)
            print(
                f"| {scene} | {guard} | {mean[0]:.0f} | {late:.1f} | {p50:.1f} s, {p99:.0f} s | {mean[1]:.1f} | "
                f"{mean[2]:.0f} |"
            )


if __name__ == "__main__":
    main()
