"""The processes that wait in a pool, as this one sees them: who runs, who is stopped, who has exited.

The unit is the process. What is found out of it holds for all its tickets, however many it has; and that it has exited
is found out once.
"""

from __future__ import annotations

from leasecap._decisions.entry import parse_entry
from leasecap._decisions.places import GRANTED, QUEUE
from leasecap._decisions.snapshot import living

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Literal, TypeAlias

    from leasecap._decisions.entry import Entry
    from leasecap._decisions.grants import Plan
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._file_store.observer import Observer
    from leasecap._host.effects import Effects

    Seen: TypeAlias = Literal["runs", "away", "gone", "dead"]
    """"gone": the process has exited. "dead": this one ticket's owner is, as far as the ticket tells."""


LOOKS_INSIDE = 64
"""Looks at others' processes that are made inside the section, at most; after that they are made outside."""

MOST_REMEMBERED = 4096
"""Processes that one keeps in mind. Those who sweep forget the ones that no longer wait."""

SLOW = 0.1
"""Seconds after which a grant that isn't taken up yet has its process looked at."""


class Peers:
    """What one process knows of the others in one pool.

    :ivar gone: processes that have exited, until all that they had in the queue is removed.
    :ivar dead: entries in the queue whose owner is provably gone, likewise.
    :ivar seen_away: processes that were seen not to run just now, outside the section.
    """

    def __init__(
        self,
        effects: Effects,
        observer: Observer,
        listens: Callable[[str], bool],
        is_deaf: Callable[[str], bool],
    ) -> None:
        """
        :param listens: whether a process surely lives, since it reads from its pipe.
        :param is_deaf: whether a process did not answer when it was asked (`marks`).
        """
        self.gone: set[str] = set()
        self.dead: set[str] = set()
        self.seen_away: frozenset[str] = frozenset()
        self._effects = effects
        self._observer = observer
        self._listens = listens
        self._is_deaf = is_deaf
        self._known: dict[str, tuple[int, int] | None] = {}

    def look(self, ticket: Entry, where: str = QUEUE) -> Seen:
        """What is to be seen of the ticket's process now: a file of /proc, where that can be seen."""
        process = ticket.process
        if process in self.gone:
            return "gone"
        if process in self.seen_away:
            return "away"
        identity = self.identity(ticket, where)
        if identity is not None:
            presence = self._effects.presence(*identity)
            if presence == "gone":
                self.gone.add(process)
                return "gone"
            if presence == "stopped":
                return "away"
            if presence == "runs":
                return "away" if self._is_deaf(process) else "runs"
        # Who listens lives; else the ticket's own evidence speaks, for this ticket alone.
        if not self._listens(process) and not self._observer.lives(where, ticket.name):
            return "dead"
        return "away" if self._is_deaf(process) else "runs"

    def identity(self, ticket: Entry, where: str = QUEUE) -> tuple[int, int] | None:
        """Pid and start of the ticket's process; None if it can't be seen from here."""
        process = ticket.process
        if process not in self._known:
            record = self._observer.record(where, ticket.name)
            if record is None:
                return None  # moved meanwhile, or corrupt: another of its tickets may tell
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()  # who grants and never waits here meets ever more processes
            self._known[process] = self._observer.visible(record)
        return self._known[process]

    def forget_all_but(self, processes: set[str]) -> None:
        """Drop what is remembered of those that no longer have anything in the pool."""
        self._known = {process: known for process, known in self._known.items() if process in processes}

    def look_at_all(self, names: Iterable[str]) -> None:
        """Outside the section: look at each process that waits, since there are too many to do it inside."""
        away: set[str] = set()
        looked: set[str] = set()
        for name in sorted(names):
            ticket = parse_entry(name)
            if not ticket.token or ticket.process in looked or name in self.dead:
                continue
            seen = self.look(ticket)
            if seen == "dead":
                self.dead.add(name)
                continue
            looked.add(ticket.process)
            if seen == "away":
                away.add(ticket.process)
        self.seen_away = frozenset(away)

    def seen_in(self, snapshot: Snapshot, found: Mapping[Entry, Seen]) -> Snapshot:
        """The snapshot, with what was seen of the processes of these tickets."""
        self.dead.update(ticket.name for ticket, seen in found.items() if seen == "dead")
        return snapshot._replace(
            dead=snapshot.dead | self.dead,
            gone=frozenset(self.gone),
            away=snapshot.away | {ticket.process for ticket, seen in found.items() if seen == "away"},
        )


class Looks:
    """The looks at others' processes that one decision takes."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._looked: set[str] = set()

    @property
    def too_many(self) -> bool:
        """Whether more were called for than may be made inside the section."""
        return len(self._looked) > LOOKS_INSIDE

    def at_the_slow(self, snapshot: Snapshot, now: float) -> Snapshot:
        """Look at the processes of grants that should have been taken up by now."""
        snapshot = snapshot._replace(away=self._peers.seen_away)
        since = snapshot.granted_since
        slow = [parse_entry(name) for name in snapshot.granted.names if now - since.get(name, now) >= SLOW]
        if not slow:
            return snapshot
        return self._peers.seen_in(snapshot, {ticket: self._peers.look(ticket, GRANTED) for ticket in slow})

    def at_the_granted(self, plan: Plan, snapshot: Snapshot, newcomer: Entry | None) -> Snapshot | None:
        """Look at the processes of those who are to be granted a slot; None when all of them run.

        With the first one that doesn't, those behind are looked at as well: one decision for each of many that died or
        were stopped together would take too long.
        """
        found = self._look([ticket for ticket in plan.grant if ticket != newcomer], len(plan.grant))
        if all(seen == "runs" for seen in found.values()):
            return None
        others = map(parse_entry, sorted(living(snapshot).queue.names))
        found |= self._look((ticket for ticket in others if ticket.token and ticket != newcomer), len(plan.grant))
        return self._peers.seen_in(snapshot, found)

    def _look(self, tickets: Iterable[Entry], enough: int) -> dict[Entry, Seen]:
        """Look at the processes of these tickets, each once, until ``enough`` of them were seen to run."""
        found: dict[Entry, Seen] = {}
        for ticket in tickets:
            if ticket.process in self._looked or ticket.name in self._looked:
                continue
            if self.too_many:
                break
            seen = found[ticket] = self._peers.look(ticket)
            self._looked.add(ticket.name if seen == "dead" else ticket.process)
            enough -= seen == "runs"
            if not enough:
                break
        return found
