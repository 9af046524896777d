"""A provider and 20 workers in one made-up hour: the pure decisions, a clock of our own, and nobody who waits."""

from __future__ import annotations

import random
from collections.abc import Callable

from staged_world import entry, pool_at

from leasecap._decisions import grants, limits
from leasecap._feedback import adaptive
from leasecap._feedback.adaptive import Report
from leasecap._feedback.state import NOTHING, State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry
    from leasecap._feedback.rules import Rules

TICK = 0.1
REFUSAL = 0.1


class Hour:
    """Workers that send request after request, and a provider that refuses what is above its own limit.

    It may also refuse a share of them for a reason that has nothing to do with load.

    :ivar sent, refused: requests and refusals, each with its time.
    :ivar cuts: how many there were.
    :ivar used: slots of the provider's limit in use, and that limit, summed over time.
    """

    def __init__(
        self, *, true_limit: Callable[[float], int], configured: int, rules: Rules, seed: int, unrelated: float = 0.0
    ) -> None:
        """:param unrelated: the share of requests that are refused for another reason than load."""
        self.rules = rules
        self.state: State = NOTHING
        self.now = 1000.0
        self.sent: list[float] = []
        self.refused: list[float] = []
        self.limits: list[tuple[float, int]] = []
        self.used = self.room = 0.0
        self.first_cut: float | None = None
        self.cuts = 0
        self._true_limit = true_limit
        self._configured = configured
        self._unrelated = unrelated
        self._random = random.Random(seed)
        self._counted: list[float] = []  # until when the provider counts each request: it finds out late
        self._held: dict[Entry, float] = {}  # until
        self._cooling: dict[Entry, float] = {}
        self._order = 0
        self._queue: list[Entry] = []

    def run(self, seconds: float, *, workers: int, lag: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self._cooling = {lease: until for lease, until in self._cooling.items() if until > self.now}
            for lease in [lease for lease, until in self._held.items() if until <= self.now]:
                self._cooling[lease] = self._held.pop(lease) + self.rules.cooldown
            while len(self._queue) + len(self._held) < workers:
                self._order += 1
                self._queue.append(entry(self._order, order=self._order))
            self._grant(lag)
            self._counted = [until for until in self._counted if until > self.now]
            limit = self._true_limit(self.now)
            self.used += min(len(self._counted), limit)
            self.room += limit
            self.now += TICK

    def _grant(self, lag: float) -> None:
        while True:
            admission = adaptive.admission(self.state, self.rules, self.now, gated=False)
            snapshot = pool_at(
                self._configured,
                tuple(self._queue),
                leases=tuple(self._held),
                cooling=tuple(self._cooling) if self.rules.cooldown else (),
                admission=admission,
            )
            plan = grants.decide(snapshot, self.now)
            if plan.pressed:
                grown = adaptive.pressed(self.state, self.rules, self.now, self._configured)
                if grown != self.state:
                    self.state = grown
                    continue
            break
        self.state = adaptive.granted(self.state, self.now, plan.high, plan.spent, len(plan.grant))
        limit = limits.effective_limit(snapshot)
        assert limit is not None
        self.limits.append((self.now, limit))
        for ticket in plan.grant:
            self._queue.remove(ticket)
            self._send(ticket, limit, lag)

    def _send(self, lease: Entry, limit: int, lag: float) -> None:
        self.sent.append(self.now)
        self._counted = [until for until in self._counted if until > self.now]
        unrelated = self._unrelated and self._random.random() < self._unrelated
        if len(self._counted) < self._true_limit(self.now) and not unrelated:
            takes = self._random.uniform(0.5, 4.0)
            self._counted.append(self.now + takes + lag)
            self._held[lease] = self.now + takes
            return
        self.refused.append(self.now)
        self._held[lease] = self.now + REFUSAL
        report = Report("concurrency", "a 429", granted=self.now)
        before = self.state.cut
        self.state = adaptive.reported(self.state, self.rules, self.now, report, limit, len(self._held))
        if self.state.cut != before:
            self.cuts += 1
            self.first_cut = self.now if self.first_cut is None else self.first_cut

    @property
    def refused_after_first_cut(self) -> float:
        """Of all requests."""
        assert self.first_cut is not None
        return sum(at > self.first_cut for at in self.refused) / len(self.sent)

    @property
    def mean_limit(self) -> float:
        """The effective limit, over time."""
        return sum(limit for _, limit in self.limits) / len(self.limits)
