"""How soon a free slot reaches the first in the queue that lives and runs, and who sees to that.

Told from the truth: who lives and runs, what is in the pool, until when who hears rests, and what it would be woken by.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from explore.checks import load
from explore.scheduler import Process, Violation, World
from leasecap._decisions import polling
from leasecap._decisions.entry import parse_entry
from leasecap._decisions.places import GRANTED, LEASES, QUEUE

if TYPE_CHECKING:
    from explore.checks import Checks
    from leasecap._decisions.entry import Entry

ROUNDING = 1e-6


class Bounds:
    """Seconds in which a free slot reaches the first that lives and runs.

    :ivar kill: after a kill.
    :ivar stop: after a stop that can be seen; the later of the two counts. Who is stopped already is passed over at
        once, and a grant that was made before is taken back.
    :ivar unseen: of the slot being free, while somebody is stopped where it can't be seen, or blocked, or a wake-up was
        lost.
    """

    def __init__(self, kill: float = 0.3, stop: float = 0.3, unseen: float = 2.3) -> None:
        self.kill, self.stop, self.unseen = kill, stop, unseen


class Promptness:
    """Watches one execution.

    :ivar until: until when a slot may stay free, since something has happened.
    :ivar free_since: since when one is free beside somebody who could have it; None while there is none.
    """

    def __init__(self, world: World, checks: Checks, limit: int, bounds: Bounds, *, guarded: bool) -> None:
        """:param guarded: `_is_looked_after` must hold."""
        self.until = -math.inf
        self.free_since: float | None = None
        self.lost = False
        self._world = world
        self._checks = checks
        self._limit = limit
        self._bounds = bounds
        self._guarded = guarded

    def key(self) -> Hashable:
        """What is remembered here is a part of the state."""
        return (self.until if self.until > self._world.now else 0.0, self.free_since, self.lost)

    def happens(self, what: str) -> None:
        """A process is killed ("!") or stopped ("~"), continued ("+"), or a wake-up is lost ("?")."""
        now = self._world.now
        if what in "!+":
            self.until = max(self.until, now + self._bounds.kill)
        elif what == "~":
            self.until = max(self.until, now + self._bounds.stop)
        elif what == "?":
            self.lost = True

    # -- the slot ---------------------------------------------------------------------------------------------------

    def before_time_passes(self) -> None:
        """No slot stays free for too long."""
        if self.free_since is None:
            return
        end = self.until
        if self.lost or any(actor.blocked or self._is_unseen(actor.process) for actor in self._world.actors):
            end = max(end, self.free_since + self._bounds.unseen)
        then = self._world.next_time()
        if then > end + ROUNDING:
            late = f"{then - self.free_since:.2f} s, {then - end:.2f} s too long,"
            raise Violation(f"a slot stays free for {late} beside one that lives and runs")

    def _is_unseen(self, process: Process) -> bool:
        return process.state == "stopped" and not self._world.sees_stops

    def note(self) -> None:
        """After each step: since when is a slot free?"""
        if self._is_free() and not self._is_locked():
            if self.free_since is None:
                self.free_since = self._world.now
        else:
            self.free_since = None

    def after_step(self) -> None:
        """Somebody sees to what becomes free."""
        if self._guarded and not self.lost and not self._is_locked():
            self._is_looked_after()

    def _is_locked(self) -> bool:
        """Whether a stopped process is inside the pool's own lock."""
        return any(a.number in self._checks.inside and a.process.state == "stopped" for a in self._world.actors)

    def _owner(self, entry: Entry) -> Any:
        return self._world.actor_of(entry)

    def _is_free(self) -> bool:
        fs = self._world.fs
        held = [parse_entry(name) for name in fs.children(LEASES)]
        held = [entry for entry in held if self._owner(entry).process.state != "dead"]
        waiting = [parse_entry(name) for where in (QUEUE, GRANTED) for name in fs.children(where)]
        for entry in sorted(waiting):
            owner = self._owner(entry)
            if owner.alive and owner.process.state == "runs" and not owner.blocked:
                limits = [limit for limit in (self._limit, entry.limit) if limit is not None]
                return load([*held, entry]) <= min(limits)
        return False

    # -- who looks after it -----------------------------------------------------------------------------------------

    def _is_looked_after(self) -> None:
        """The first that lives and runs is to look in time, or is about to be woken by an end that it watches."""
        world = self._world
        first: dict[int, Process] = {}
        for name in world.queued():
            owner = self._owner(parse_entry(name))
            first.setdefault(owner.process.number, owner.process)
        ahead: list[Process] = []
        for process in first.values():
            if process.state == "runs":
                break
            ahead.append(process)
        else:
            return
        if any(actor.ready() and actor.pending is not None for actor in world.actors):
            return  # in the middle of something, and may be about to tell it
        actors = [actor for actor in world.actors if actor.process is process and not actor.ended]
        watching = process.kit.watching
        receiver = watching._receiver
        receives = [actor for actor in actors if actor.receives] or [actor for actor in actors if not actor.blocked]
        if (
            receiver is None
            or not receives
            or receiver.has_something(process.number)
            or any(actor.ready() for actor in actors)
        ):
            return  # about to look
        due = min(actor.due - world.now for actor in receives if actor.due is not None)
        allowed = polling.COVERED_SWEEP if self._watches_all(process) else polling.SWEEP_EVERY
        if any(other.state == "stopped" for other in ahead):
            rank = len(ahead) + 1
            if rank > 2:
                allowed = max(allowed, polling.process_look(rank, on_duty=False, covered=False, watched=True))
        allowed = max(allowed, polling.ATTACH_AFTER) + world.tick
        if due > allowed + ROUNDING:
            others = ", ".join(f"{other.number} {other.state}" for other in ahead) or "nobody"
            raise Violation(
                f"process {process.number} is the first that runs ({others} ahead), and looks in {due:.2f} s"
            )

    def _watches_all(self, process: Process) -> bool:
        """Whether it has a handle on each process that holds."""
        fs = self._world.fs
        if fs.children(GRANTED):
            return False
        holders = {self._owner(parse_entry(name)).process.number for name in fs.children(LEASES)}
        return all(fs.handles(process.number, frozenset({number})) for number in holders)
