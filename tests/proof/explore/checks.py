"""What must hold after each step and at the end, told from the truth and not from what the code believes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from insides import own_entry_of

from explore.memory_fs import Failed
from explore.scheduler import Actor, Process, Violation, World
from leasecap._decisions.entry import parse_entry
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING, TRASH
from leasecap._errors import StoreError
from leasecap._file_store.marks import DEAF

if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry

_HELD = (GRANTED, LEASES)
_PLACES = (QUEUE, PARKED, GRANTED, LEASES, STAGING, TRASH)


def load(held: Iterable[Entry]) -> int:
    """The load as the design defines it, by brute force."""
    leases = {entry.token: entry for entry in held}
    lender = {
        token: next((above for above in entry.ancestors if above in leases), None) for token, entry in leases.items()
    }

    def of(token: str) -> int:
        return max(1, sum(of(other) for other, above in lender.items() if above == token))

    return sum(of(token) for token, above in lender.items() if above is None)


class Checks:
    """Watches one execution.

    :ivar inside: for each actor in the critical section, who was dead and what was queued when it entered.
    :ivar passed: for each of them, whose tickets it may pass over, since they don't run.
    :ivar taken: leases that were taken from live processes.
    :ivar robbed: the critical section was stolen from a live process.
    :ivar disturbed: somebody was killed or stopped.
    :ivar began: since when everybody has been waiting for its turn.
    :ivar over: all have ended but the newcomer.
    """

    def __init__(
        self,
        world: World,
        *,
        limit: int,
        steals: bool = False,
        within: float = 1.0,
        stop_for: float = 0.0,
        errors: bool = False,
    ) -> None:
        """
        :param steals: a live holder may be taken for dead, if it is told.
        :param within: seconds in which everybody must have had its turn.
        :param stop_for: seconds for which one may be stopped.
        :param errors: a `StoreError` about the pool's own lock is an answer: somebody was stopped inside.
        """
        self.world = world
        self.limit = limit
        self.steals = steals
        self.within = within
        self.stop_for = stop_for
        self.errors = errors
        self.inside: dict[int, tuple[frozenset[int], frozenset[str]]] = {}
        self.passed: dict[int, frozenset[int]] = {}
        self.taken: set[str] = set()
        self.robbed = False
        self.disturbed = False
        self.answered: set[int] = set()
        self.began = world.now
        self.over = False
        world.watchers.append(self.after_effect)
        world.facts = self.key

    def key(self) -> Hashable:
        """What is remembered here is a part of the state."""
        inside = [(number, self.passed.get(number), seen) for number, seen in sorted(self.inside.items())]
        return (tuple(inside), frozenset(self.taken), self.robbed, self.disturbed, self.began)

    # -- after each effect ------------------------------------------------------------------------------------------

    def after_effect(self, actor: Actor, operation: str, args: tuple[Any, ...], outcome: Any) -> None:
        if isinstance(outcome, Failed):
            return
        if operation == "rename":
            self._renamed(actor, *args)
        elif operation == "lock" and outcome is True and len(args) == 1:
            fs = self.world.fs
            if fs.opened[fs.fds[actor.process.number, args[0]]] == fs.names["lock"]:
                self._enters(actor)
        elif operation == "unlock" or (operation == "unlink" and args[0].startswith("lock.d/")):
            self.inside.pop(actor.number, None)

    def _enters(self, actor: Actor) -> None:
        dead = frozenset(process.number for process in self.world.processes if process.state == "dead")
        self.inside[actor.number] = (dead, frozenset(self.world.fs.children(QUEUE)))
        self.passed[actor.number] = frozenset(
            process.number for process in self.world.processes if self._may_be_passed(process)
        )

    def _may_be_passed(self, process: Process) -> bool:
        """Whether it is seen not to run, or is marked so."""
        stopped = self.world.sees_stops and process.state == "stopped"
        return stopped or f"wake/{process.kit.id}/{DEAF}" in self.world.fs.names

    def passes(self) -> None:
        """Somebody was stopped, or marked: who is inside may have seen it."""
        for number in self.inside:
            found = {process.number for process in self.world.processes if self._may_be_passed(process)}
            self.passed[number] = self.passed.get(number, frozenset()) | found

    def _renamed(self, actor: Actor, old: str, new: str) -> None:
        source, _, name = old.partition("/")
        target = new.partition("/")[0]
        if new == "lock.d":
            self._enters(actor)
        elif target == "stolen" and source == "lock.d":
            self._stolen(actor)
        elif "/" in name:
            self.passes()  # a file of an entry, or a mark
        elif target in _HELD and source in (QUEUE, STAGING):
            self._granted(actor, parse_entry(name), source)
        elif target in (TRASH, PARKED) and source in _HELD:
            self._taken_from(actor, name, source)

    def _stolen(self, thief: Actor) -> None:
        if any(actor.alive for actor in self.world.actors if actor.number in self.inside and actor is not thief):
            self.robbed = True
            self._expect(self.steals, "the critical section was stolen from a live process")
        self.inside = {}

    def _granted(self, granter: Actor, entry: Entry, source: str) -> None:
        world = self.world
        held = [parse_entry(name) for where in _HELD for name in world.fs.children(where) if self._counts(where, name)]
        others = [other for other in held if other.name != entry.name]
        lent = load(held) == load(others)
        if not (self.robbed or lent):
            self._expect(load(held) <= self.limit, f"a grant takes the load to {load(held)}")
        dead, queued = self.inside.get(granter.number, (frozenset(), frozenset()))
        owner = world.actor_of(entry)
        if owner is not None:
            self._expect(owner.process.number not in dead, "a slot was granted to the dead")
        passed = dead | world.dead() | self.passed.get(granter.number, frozenset())
        overtaken = [
            other
            for other in (parse_entry(name) for name in world.fs.children(QUEUE) if name in queued)
            if other < entry and (rival := world.actor_of(other)) is not None and rival.process.number not in passed
        ]
        if not (lent or self.robbed):
            self._expect(not overtaken, "somebody was granted a slot before the head of the queue")

    def _counts(self, where: str, name: str) -> bool:
        """Whether it is held: the dead take no grant up."""
        owner = self.world.actor_of(parse_entry(name))
        return where == LEASES or owner is None or owner.process.state != "dead"

    def _taken_from(self, taker: Actor, name: str, source: str) -> None:
        owner = self.world.actor_of(parse_entry(name))
        if owner is None or not owner.alive or owner is taker:
            return
        if source == LEASES:
            self._expect(self.steals, "the lease of a live process was taken")
            self.taken.add(name)

    # -- after each step --------------------------------------------------------------------------------------------

    def _working(self) -> list[Any]:
        """The truth: who really works, lenders idle. Not those who have been told, or will be, that it is over."""
        return [
            lease
            for actor in self.world.actors
            if actor.process.state != "dead" and not actor.idle
            for lease in actor.held
            if own_entry_of(lease).name not in self.taken
        ]

    def after_step(self) -> None:
        working = self._working()
        if not self.robbed:
            self._expect(len(working) <= self.limit, f"{len(working)} work at once, and the limit is {self.limit}")
        for actor in self.world.actors:
            if actor.ended and actor.number not in self.answered:
                self.answered.add(actor.number)
                self._answer(actor)

    def _answer(self, actor: Actor) -> None:
        told = isinstance(actor.error, StoreError) and self.errors and "own lock has been held" in str(actor.error)
        if actor.error is not None and actor.process.state != "dead" and not told:
            raise Violation(f"{actor.name} failed: {actor.error!r}") from actor.error
        waited = actor.ended_at - self.began
        if not (actor.process.stopped_for or self.over):
            self._expect(waited <= self.within + self.world.tick, f"{actor.name} waited for {waited:.1f} s")
        if actor.timeout is not None and not actor.process.stopped_for:
            took = actor.answered_at - actor.asked_at
            self._expect(
                took <= actor.timeout + 1.0 + 2 * self.world.tick, f"{actor.name} had its answer after {took:.1f} s"
            )
        if actor.process.state != "dead":
            told = all(lease.lost for lease in actor.had if own_entry_of(lease).name in self.taken)
            self._expect(told, f"{actor.name} was not told that its lease was lost")

    def before_time_passes(self) -> None:
        """Nobody has anything to do: then no slot may be free while somebody waits for it."""
        world = self.world
        if any(actor.process.state == "stopped" and self.keeps_others_out(actor) for actor in world.actors):
            self.began = world.now
        waited = world.now - self.began
        never_stopped = any(actor.alive and not actor.process.stopped_for for actor in world.actors)
        patience = self.within if never_stopped else self.within + self.stop_for
        self._expect(waited <= patience, f"after {waited:.1f} s somebody still waits")
        if self.robbed:
            working = self._working()
            self._expect(len(working) <= self.limit, f"{len(working)} work at once, and nobody was told")
        if self.disturbed:
            return
        held = [parse_entry(name) for where in _HELD for name in world.fs.children(where)]
        limits = [entry.limit for entry in held if entry.limit is not None]
        for name in world.queued():
            head = parse_entry(name)
            limit = min([self.limit, *limits])
            free = load([*held, head]) <= limit or load([*held, head]) == load(held)
            self._expect(not free, "a slot stays free while somebody waits for it")

    def keeps_others_out(self, actor: Actor) -> bool:
        """Whether it holds a slot or is in the middle of the critical section: then nobody's turn can come."""
        leases = self.world.fs.children(LEASES)
        return actor.number in self.inside or any(self.world.actor_of(parse_entry(name)) is actor for name in leases)

    def at_the_end(self) -> None:
        """Everybody has ended, and a newcomer has come and gone: nothing is left."""
        fs = self.world.fs
        left = [name for name in fs.names if name.partition("/")[0] in _PLACES and name.count("/") == 1]
        # In staging/ nothing is in anybody's way: what a live process keeps for its next acquire, and what was
        # half-made when its maker was killed. That says nothing of him, and is swept when it has stood still for long.
        left = [name for name in left if not (name.startswith(f"{STAGING}/") and self._is_in_order(name))]
        self._expect(not left, f"left behind: {', '.join(sorted(left))}")
        locked = self.world.fs.names["lock"] in self.world.fs.locks
        self._expect(not locked and not self.world.fs.children("lock.d"), "the critical section is still taken")

    def _is_in_order(self, path: str) -> bool:
        fs = self.world.fs
        if fs.names.get(f"{path}/alive") in fs.locks:
            return True
        files = [name for name in fs.children(path) if name != "alive"]
        return all(fs.read(0, 0, f"{path}/{name}", 1) == b"" for name in files)

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise Violation(otherwise)
