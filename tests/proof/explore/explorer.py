"""The search: all schedules of a scenario up to a bound, with equal states merged.

Stateless with a memory: an execution is a list of choices and is always run from the start, but is cut where it comes
to a state that another one has been in. A state is the file system, the clocks, and what each actor has observed since
it last paused together with what it is while it pauses; actors are deterministic, so equal states have equal futures.
Before a choice is tried, the state it leads to is computed from the effect alone, which saves most of the executions.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from explore.fingerprint import fingerprint
from explore.scheduler import Actor, Violation
from explore.stage import Option, Scenario, Stage, follows

_TOLD = frozenset({"rename", "lock", "unlock", "unlink", "exit"})
"""Operations after which more has changed than the file system."""

Path = tuple["Path", str] | None
"""Choices so far, the last one first."""


class Bound(NamedTuple):
    """
    :ivar switches: how often a process may be interrupted by another one in the middle of something; None: any number.
    :ivar faults: how many processes may be killed or stopped.
    :ivar seconds: of processor time, after which to give up.
    """

    switches: int | None
    faults: int
    seconds: float


class Figures(NamedTuple):
    """What was explored. ``complete``: all of it within the bound, not cut short by time."""

    scenario: str
    bound: Bound
    schedules: int
    states: int
    seconds: float
    complete: bool


class Failure(AssertionError):
    """A schedule that violates an invariant; ``schedule`` replays it."""

    def __init__(self, scenario: str, choices: list[str], what: str) -> None:
        self.schedule = f"{scenario}: {squeeze(choices)}"
        super().__init__(f"{what}\n  replay({self.schedule!r})")


class Explorer:
    """One exploration."""

    def __init__(self, scenario: Scenario, bound: Bound, looks_for: str = "") -> None:
        """
        :param looks_for: a pattern; what goes wrong in another way only ends the schedule.
        """
        self._looks_for = looks_for
        self.scenario = scenario
        self.bound = bound
        self._states: set[int] = set()
        self.schedules = 0
        self._seen: dict[int, int] = {}
        self._pasts: dict[int, int] = {}
        self._moves: dict[int, int | None] = {}
        self._ends: set[int] = set()
        self._work: list[deque[tuple[Path, int, int]]] = [deque()]

    def run(self) -> Figures:
        """Explore; raises `Failure` with the first schedule that goes wrong, of those with the fewest interruptions."""
        began = time.process_time()
        complete = True
        self._work[0].append((None, 0, 0))
        for cost in range(1_000_000):
            if cost >= len(self._work):
                break
            work = self._work[cost]
            while work and complete:
                self._execute(*work.pop(), cost)
                complete = time.process_time() - began < self.bound.seconds
        seconds = time.process_time() - began
        return Figures(self.scenario.name, self.bound, self.schedules, len(self._states), seconds, complete)

    def _stage(self) -> Stage:
        stage = self.scenario.stage()
        stage.world.forget = self._forget
        stage.world.sum_up = self._sum_up
        return stage

    def _forget(self, actor: Actor) -> None:
        past = hash((actor.seen, actor.world.now))
        known = self._pasts.get(past)
        if known is None:
            known = self._pasts[past] = present(actor)
        actor.seen = known

    def _sum_up(self, actor: Actor, before: int, result: object) -> None:
        past = hash((actor.seen, actor.world.now, "summed up"))
        known = self._pasts.get(past)
        if known is None:
            known = self._pasts[past] = hash((before, actor.tokens, fingerprint(result, actor.process.kit)))
        actor.seen = known

    def _execute(self, path: Path, faults: int, claimed: int, cost: int) -> None:
        stage = self._stage()
        choices = list(unwind(path))
        try:
            current = ""
            for choice in choices:
                stage.do(choice, checked=choice is choices[-1])
                current = follows(current, choice)
            if choices and not self._is_new(stage, current, faults, claimed, cost):
                return
            while options := stage.options(current, self.bound.faults - faults):
                for option in options[1:]:
                    self._push(stage, path, current, option, faults, cost)
                option = options[0]
                choices.append(option.choice)
                path = (path, option.choice)
                faults += option.fault
                claimed = self._ahead(stage, current, option.choice, faults)
                current = follows(current, option.choice)
                if self._seen.get(claimed, cost + 1) <= cost:
                    return
                self._seen[claimed] = cost
                self._move(stage, option.choice)
                if not self._is_new(stage, current, faults, claimed, cost):
                    return
            end = stage.world.fs.key()
            if end not in self._ends:
                self._ends.add(end)
                stage.newcomer()
        except Violation as violation:
            if not re.search(self._looks_for, str(violation)):
                return
            raise Failure(self.scenario.name, choices, str(violation)) from violation
        finally:
            self.schedules += 1
            stage.world.close()

    def _is_new(self, stage: Stage, current: str, faults: int, claimed: int, cost: int) -> bool:
        key = self._key(stage.world.key(), current, faults)
        if key != claimed and self._seen.get(key, cost + 1) <= cost:
            return False
        self._seen[key] = cost
        self._states.add(key)
        return True

    def _key(self, state: int, current: str, faults: int) -> int:
        return hash((state, faults, "" if self.bound.switches is None else current))

    def _ahead(self, stage: Stage, current: str, choice: str, faults: int) -> int:
        """The key of the state that the choice leads to, or one from which that state follows."""
        world = stage.world
        current = follows(current, choice)
        if not choice.isalpha():
            return hash((choice if choice[0] != "!" else "", self._key(stage.ahead(choice), current, faults)))
        actor = stage.by_name[choice]
        if not actor.started:
            return hash(("begins", self._key(world.key(None, actor, 0), current, faults)))
        fs = world.fs.copy()
        outcome = world.effect(actor, fs)
        moved = hash((actor.seen, outcome, world.now))
        if moved in self._moves:
            return self._key(world.key(fs, actor, self._moves[moved]), current, faults)
        return hash(("seen", self._key(world.key(fs, actor, moved), current, faults)))

    def _move(self, stage: Stage, choice: str) -> None:
        """Do a step that was never done, and keep in mind what it makes of the actor."""
        actor = stage.by_name.get(choice)
        if actor is None or not actor.started or actor.process.threads or (actor.pending or " ")[0] in _TOLD:
            stage.do(choice)
            return
        before, asked = actor.seen, stage.world.asked
        stage.do(choice)
        if stage.world.asked == asked:
            self._moves[hash((before, stage.world.outcome, stage.world.now))] = actor.seen if actor.alive else None

    def _push(self, stage: Stage, path: Path, current: str, option: Option, faults: int, cost: int) -> None:
        cost += option.cost
        faults += option.fault
        if self.bound.switches is not None and cost > self.bound.switches:
            return
        key = self._ahead(stage, current, option.choice, faults)
        if self._seen.get(key, cost + 1) <= cost:
            return
        self._seen[key] = cost
        while len(self._work) <= cost:
            self._work.append(deque())
        self._work[cost].append(((path, option.choice), faults, key))


def present(actor: Actor) -> int:
    """What a pausing actor is: nothing else of its past matters."""
    return hash((actor.number, actor.label, actor.tokens, fingerprint(*actor.memory())))


def unwind(path: Path) -> Iterator[str]:
    """The choices, first one first."""
    found = []
    while path is not None:
        path, choice = path
        found.append(choice)
    return reversed(found)


def squeeze(choices: list[str]) -> str:
    """``a a a b`` as ``a3 b``."""
    words: list[tuple[str, int]] = []
    for choice in choices:
        if words and words[-1][0] == choice:
            words[-1] = (choice, words[-1][1] + 1)
        else:
            words.append((choice, 1))
    return " ".join(f"{choice}{times if times > 1 else ''}" for choice, times in words)


def stretch(line: str) -> list[str]:
    """The choices that `squeeze` wrote."""
    found: list[str] = []
    for word in line.split():
        choice = word.rstrip("0123456789")
        found += [choice] * int(word[len(choice) :] or 1)
    return found
