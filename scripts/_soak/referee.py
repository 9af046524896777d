"""Judges a journal: was any slot worked under by one too many, and how long did one stand empty while somebody waited?

It is unjust in one direction only. A grant is judged by the highest limit since its asking, and who works is counted
from after the grant to before the release: what it calls an overlap was one. The time that a slot stood empty runs
until the next one says that it works, so it is never too short.

A pool has to be full again in time after its last fault: a kill, stop or block of somebody who held or waited there, or
a change of its limit. That time doesn't run while nobody waits who could take a slot, or while a process is stopped
inside the pool's own lock, and begins anew when that one goes on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, TypeAlias

    Kind: TypeAlias = Literal["killed", "disturbed", "calm"]

REFILL_WITHIN = 5_000_000_000
"""Nanoseconds for which a slot may stand empty after the last fault while somebody waits who can take it. Promised are
0.3 s after a kill and 2.3 s after a stop or block. The rest is for a machine that has too few processors, and for who
was granted its slot and is stopped or blocked for up to 4 s before it can say so."""


class Event(NamedTuple):
    """A line. See `Journal`; ``what`` names the method of `Referee` that says what it means."""

    time: int
    what: str
    pool: str
    who: str
    process: str
    pid: int
    under: str


def parse(lines: Iterable[str]) -> list[Event]:
    """The events, in the order of their times."""
    events = (
        Event(int(time), what, pool, who, process, int(pid), under)
        for time, what, pool, who, process, pid, under in map(str.split, lines)
    )
    return sorted(events, key=lambda event: event.time)


@dataclass
class Gap:
    """A time in which fewer work in a pool than may.

    :ivar disturbed: somebody was stopped or blocked who may have had a grant or the pool's own lock.
    :ivar wait: the longest that one and the same process waited and ran, after the last fault.
    :ivar waited: who that was.
    """

    began: int
    disturbed: bool = False
    wait: int = 0
    waited: str = ""


@dataclass
class Pool:
    """What is going on in one pool while the journal is read.

    :ivar limits: (since, until or None, limit); while it is being changed the old and the new one hold.
    :ivar declared: limits of those who wait or hold.
    :ivar inside: processes that are stopped inside the pool's own lock.
    :ivar fault_at: when the last fault was.
    :ivar killed: somebody was killed who worked or waited, in this gap or since the one before it.
    """

    limits: list[tuple[int, int | None, int]] = field(default_factory=list)
    working: dict[str, Event] = field(default_factory=dict)
    lending: dict[str, Event] = field(default_factory=dict)
    waiting: dict[str, Event] = field(default_factory=dict)
    declared: dict[str, int] = field(default_factory=dict)
    inside: set[str] = field(default_factory=set)
    fault_at: int = 0
    killed: bool = False
    gap: Gap | None = None

    def highest_limit(self, who: str, since: int) -> int:
        """The highest that may have held for ``who``, which was granted a slot at some time since then."""
        held = self.lending | self.working
        # What another one declared held for sure if that one had its slot all the while.
        sure = [limit for by, limit in self.declared.items() if by == who or (by in held and held[by].time <= since)]
        return min([*sure, max(limit for _, end, limit in self.limits if end is None or end >= since)])

    def is_full(self) -> bool:
        """Whether nobody can be granted anything; a lender and its borrowers use one slot."""
        held = self.lending | self.working
        used = {_root(who, held) for who in held}
        limits = [limit for _, end, limit in self.limits if end is None]
        return len(used) >= min(limits + list(self.declared.values()))

    def has(self, process: str) -> bool:
        """Whether it works, lends or waits there."""
        return any(its.process == process for group in self.groups for its in group.values())

    @property
    def groups(self) -> tuple[dict[str, Event], ...]:
        return self.working, self.lending, self.waiting


def _root(who: str, held: dict[str, Event]) -> str:
    while held[who].under in held:
        who = held[who].under
    return who


@dataclass
class Verdict:
    """What came of it. Times are nanoseconds.

    :ivar late: slots that stood empty for longer than they may while somebody waited.
    :ivar told_lost: leases whose holders were told that they lost them.
    :ivar refills: how long somebody waited beside an empty slot, for each gap, by what happened in it.
    """

    operations: int = 0
    by_tasks: int = 0
    by_commands: int = 0
    borrowed: int = 0
    withdrawn: int = 0
    barred: int = 0
    barred_by_nobody: int = 0
    killed_holding: int = 0
    killed_waiting: int = 0
    overlaps: list[str] = field(default_factory=list)
    declared: int = 0
    late: list[str] = field(default_factory=list)
    told_lost: list[str] = field(default_factory=list)
    refills: dict[Kind, list[int]] = field(default_factory=lambda: {"killed": [], "disturbed": [], "calm": []})


class Referee:
    """Reads events in the order of their times."""

    def __init__(self, refill_within: int = REFILL_WITHIN) -> None:
        """:param refill_within: see `REFILL_WITHIN`."""
        self._refill_within = refill_within
        self.verdict = Verdict()
        self._pools: defaultdict[str, Pool] = defaultdict(Pool)
        self._asked: dict[str, int] = {}
        self._stopped: set[str] = set()  # or blocked
        self._continued: dict[str, int] = {}
        self._killed: set[str] = set()
        self._last_pool: dict[str, str] = {}

    def judge(self, events: Iterable[Event]) -> Verdict:
        now = 0
        for event in events:
            now = event.time
            if event.process in self._killed:
                continue  # written between the line that says so and the kill itself
            self._time_gaps(now)
            getattr(self, f"_on_{event.what}")(event)
            if event.pool != "-":
                self._last_pool[event.process] = event.pool
            self._see_gaps(event)
        self._time_gaps(now)
        for name, pool in self._pools.items():
            self._end_gap(name, pool, now)
        return self.verdict

    # -- what the lines mean ----------------------------------------------------------------------------------------

    def _on_limiting(self, event: Event) -> None:
        pool = self._pools[event.pool]
        pool.fault_at = event.time
        pool.limits.append((event.time, None, int(event.who)))

    def _on_limit(self, event: Event) -> None:
        pool = self._pools[event.pool]
        pool.fault_at = event.time
        pool.limits = [(start, event.time if end is None else end, limit) for start, end, limit in pool.limits]
        pool.limits.append((event.time, None, int(event.who)))

    def _on_declare(self, event: Event) -> None:
        self._pools[event.pool].declared[event.who] = int(event.under)
        self.verdict.declared += 1

    def _on_ask(self, event: Event) -> None:
        self._pools[event.pool].waiting[event.who] = event
        # Whoever borrows was granted nothing that counts: its lender was, or the lender's lender.
        self._asked[event.who] = min(event.time, self._asked.get(event.under, event.time))

    def _on_quit(self, event: Event) -> None:
        self._pools[event.pool].declared.pop(event.who, None)
        if self._pools[event.pool].waiting.pop(event.who, None) is not None:
            self.verdict.withdrawn += 1

    def _on_start(self, event: Event) -> None:
        pool, verdict = self._pools[event.pool], self.verdict
        pool.waiting.pop(event.who, None)
        if pool.lending.pop(event.who, None) is None:
            verdict.operations += 1
            verdict.by_tasks += event.process.startswith(("async", "crowd"))
            verdict.by_commands += event.process.startswith("run")
            verdict.borrowed += event.under != "-"
        pool.working[event.who] = event
        asked = min(self._asked.get(who, event.time) for who in (event.who, event.under))
        limit = pool.highest_limit(event.who, asked)
        if len(pool.working) > limit:
            verdict.overlaps.append(
                f"{event.pool}: {len(pool.working)} worked under a limit of {limit}, "
                f"the last one since {event.time}: {', '.join(pool.working)}"
            )

    def _on_lend(self, event: Event) -> None:
        pool = self._pools[event.pool]
        pool.lending[event.who] = pool.working.pop(event.who)

    def _on_end(self, event: Event) -> None:
        pool = self._pools[event.pool]
        pool.working.pop(event.who, None)
        pool.lending.pop(event.who, None)
        pool.declared.pop(event.who, None)

    def _on_lost(self, event: Event) -> None:
        self.verdict.told_lost.append(f"{event.who} was told that it lost its lease of {event.pool}")

    def _on_barred(self, event: Event) -> None:
        self.verdict.barred += 1
        self.verdict.barred_by_nobody += not any(pool.inside for pool in self._pools.values())

    def _on_stop(self, event: Event) -> None:
        self._stopped.add(event.process)
        self._fault(event)

    def _on_inside(self, event: Event) -> None:
        self._pools[event.pool].inside.add(event.process)

    def _on_continue(self, event: Event) -> None:
        self._stopped.discard(event.process)
        self._continued[event.process] = event.time
        self._leave(event)

    _on_block = _on_stop
    _on_unblock = _on_continue

    def _on_kill(self, event: Event) -> None:
        self._killed.add(event.process)
        self._stopped.discard(event.process)
        self._fault(event)
        self._leave(event)
        held = waited = 0
        for pool in self._pools.values():
            pool.killed = pool.killed or pool.has(event.process)
            for who in [who for who in pool.declared if who.startswith(f"{event.process}.")]:
                del pool.declared[who]  # it may not have asked yet
            for group in pool.groups:
                for who in [who for who, its in group.items() if its.process == event.process]:
                    del group[who]
                    held, waited = held + (group is not pool.waiting), waited + (group is pool.waiting)
        self.verdict.killed_holding += held > 0
        self.verdict.killed_waiting += waited > 0

    def _fault(self, event: Event) -> None:
        for name, pool in self._pools.items():
            if pool.has(event.process) or self._last_pool.get(event.process) == name:
                pool.fault_at = event.time

    def _leave(self, event: Event) -> None:
        """Whatever pool's own lock it was stopped in."""
        for pool in self._pools.values():
            if event.process in pool.inside:
                pool.inside.remove(event.process)
                pool.fault_at = event.time

    def _on_over(self, event: Event) -> None:
        """The last line, so that a slot that nobody ever gets has stood empty until then."""

    # -- slots that stand empty -------------------------------------------------------------------------------------

    def _time_gaps(self, now: int) -> None:
        """How long has each that waits done so beside an empty slot? Those count that run, and whose start is known."""
        for pool in self._pools.values():
            if (gap := pool.gap) is None or pool.inside:
                continue
            for who, its in pool.waiting.items():
                if its.process not in self._stopped and not its.process.startswith("run"):
                    since = max(gap.began, its.time, self._continued.get(its.process, 0), pool.fault_at)
                    if now - since > gap.wait:
                        gap.wait, gap.waited = now - since, who

    def _see_gaps(self, event: Event) -> None:
        for name, pool in self._pools.items():
            if pool.is_full():
                self._end_gap(name, pool, event.time)
                continue
            if pool.gap is None:
                pool.gap = Gap(event.time)
            pool.gap.disturbed = pool.gap.disturbed or any(self._may_keep(process, name) for process in self._stopped)

    def _may_keep(self, process: str, name: str) -> bool:
        pool = self._pools[name]
        if any(its.process == process for its in pool.waiting.values()):
            return True
        return self._last_pool.get(process) == name and all(its.process != process for its in pool.working.values())

    def _end_gap(self, name: str, pool: Pool, now: int) -> None:
        gap, pool.gap = pool.gap, None
        if gap is None:
            return
        killed, pool.killed = pool.killed, False
        if not gap.wait:
            return
        self.verdict.refills["disturbed" if gap.disturbed else "killed" if killed else "calm"].append(gap.wait)
        if gap.wait > self._refill_within:
            self.verdict.late.append(
                f"{name}: a slot stood empty for {gap.wait / 1e9:.1f} s after the last fault, until {now}, "
                f"while {gap.waited} waited"
            )
