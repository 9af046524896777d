"""The processes that wait in a pool, as this one sees them: who runs, who is stopped, who has exited.

The unit is the process. What is found of it holds for all its tickets, however many it has. That it has exited is found
out once, and remembered.
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
    """"away": the process doesn't run now. "gone": it has exited. "dead": this one ticket's evidence says so."""


LOOKS_INSIDE = 64
"""The most looks at others' processes that are made inside the section; if it takes more, they are made outside."""

MOST_REMEMBERED = 4096
"""Processes that are remembered. A process that sweeps forgets those that no longer wait."""

SLOW = 0.1
"""Seconds. If a grant isn't taken up for so long, its process is looked at."""


class Peers:
    """What one process knows of the others in one pool.

    :ivar gone: processes that have exited, until all that they had in the queue is removed.
    :ivar dead: entries in the queue whose owner is provably gone, until they are removed.
    :ivar seen_away: processes that were just seen, outside the section, not to run. ``seen_running``: those that do,
        and tickets of which that is known alone.
    """

    def __init__(
        self,
        effects: Effects,
        observer: Observer,
        listens: Callable[[str], bool],
        is_deaf: Callable[[str], bool],
    ) -> None:
        """
        :param listens: whether a process has its wake-up open, and so surely lives.
        :param is_deaf: whether a process did not answer when it was asked (`marks`).
        """
        self.gone: set[str] = set()
        self.dead: set[str] = set()
        self.seen_away: frozenset[str] = frozenset()
        self.seen_running: frozenset[str] = frozenset()
        self._effects = effects
        self.observer = observer
        self._listens = listens
        self._is_deaf = is_deaf
        self._known: dict[str, tuple[int, int] | None] = {}

    def look(self, ticket: Entry, where: str = QUEUE) -> Seen:
        """What can be seen now of the ticket's process."""
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
        # A process that listens lives. Else the ticket's own evidence decides, for this ticket alone.
        if not self._listens(process) and not self.observer.lives(where, ticket.name):
            return "dead"
        return "away" if self._is_deaf(process) else "runs"

    def identity(self, ticket: Entry, where: str = QUEUE) -> tuple[int, int] | None:
        """Pid and start of the ticket's process; None if it can't be seen from here."""
        process = ticket.process
        if process not in self._known:
            record = self.observer.record(where, ticket.name)
            if record is None:
                return None  # it was moved meanwhile, or is corrupt: another ticket of the process may say
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()  # a process that grants and never waits here meets more and more of them
            identity = self._known[process] = self.observer.visible(record)
            return identity
        return self._known.get(process)

    def speaks_for_its_process(self, ticket: Entry) -> bool:
        """Whether what was seen at this ticket holds for the others of its process. What can't be read says nothing."""
        process = ticket.process
        return process in self._known or process in self.seen_away or process in self.gone

    def forget_all_but(self, processes: set[str]) -> None:
        """Drop what is remembered of processes that no longer have anything in the pool."""
        known = self._known.copy()  # in one step: another thread may look, too
        self._known = {process: identity for process, identity in known.items() if process in processes}

    def look_at_all(self, names: Iterable[str]) -> None:
        """Look at each process that waits. It is done outside the section if there are too many of them."""
        away: set[str] = set()
        running: set[str] = set()
        looked: set[str] = set()
        for name in sorted(names):
            ticket = parse_entry(name)
            if not ticket.token or ticket.process in looked or name in self.dead:
                continue
            seen = self.look(ticket)
            if seen == "dead":
                self.dead.add(name)
                continue
            for_all = self.speaks_for_its_process(ticket)
            if for_all:
                looked.add(ticket.process)
            if seen == "away":
                away.add(ticket.process)
            elif seen == "runs":
                running.add(ticket.process if for_all else name)
        self.seen_away, self.seen_running = frozenset(away), frozenset(running)

    def forget_seen(self) -> None:
        """What `look_at_all` saw holds for one stay in the section."""
        self.seen_away = self.seen_running = frozenset()

    def seen_in(self, snapshot: Snapshot, found: Mapping[Entry, Seen]) -> Snapshot:
        """The snapshot with what was seen of the processes of these tickets."""
        self.dead.update(ticket.name for ticket, seen in found.items() if seen == "dead")
        return snapshot._replace(
            dead=snapshot.dead | self.dead,
            gone=frozenset(self.gone),
            away=snapshot.away | {ticket.process for ticket, seen in found.items() if seen == "away"},
        )


class Looks:
    """The looks at others' processes for one decision."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._looked: set[str] = set()

    @property
    def too_many(self) -> bool:
        """Whether the decision needs more looks than may be made inside the section."""
        return len(self._looked) > LOOKS_INSIDE

    def at_the_slow(self, snapshot: Snapshot, now: float) -> Snapshot:
        """Look at the processes whose grants should have been taken up by now."""
        snapshot = snapshot._replace(away=self._peers.seen_away)
        since = snapshot.granted_since
        slow = [parse_entry(name) for name in snapshot.granted.names if now - since.get(name, now) >= SLOW]
        if not slow:
            return snapshot
        return self._peers.seen_in(snapshot, {ticket: self._peers.look(ticket, GRANTED) for ticket in slow})

    def at_the_granted(self, plan: Plan, snapshot: Snapshot, newcomer: Entry | None) -> Snapshot | None:
        """Look at the processes of those who are to be granted a slot; None when all of them run.

        When one of them doesn't, those behind it are looked at as well: many may have died or been stopped together,
        and one decision for each would take too long.
        """
        found = self._look([ticket for ticket in plan.grant if ticket != newcomer], len(plan.grant))
        if all(seen == "runs" for seen in found.values()):
            return None
        others = map(parse_entry, sorted(living(snapshot).queue.names))
        found |= self._look((ticket for ticket in others if ticket.token and ticket != newcomer), len(plan.grant))
        return self._peers.seen_in(snapshot, found)

    def _look(self, tickets: Iterable[Entry], enough: int) -> dict[Entry, Seen]:
        """Look at the processes of these tickets, each once, until ``enough`` of them are seen to run."""
        found: dict[Entry, Seen] = {}
        running = self._peers.seen_running
        for ticket in tickets:
            if ticket.process in self._looked or ticket.name in self._looked:
                continue
            if ticket.process in running or ticket.name in running:
                found[ticket] = "runs"
            elif self.too_many:
                break
            else:
                seen = found[ticket] = self._peers.look(ticket)
                for_all = seen != "dead" and self._peers.speaks_for_its_process(ticket)
                self._looked.add(ticket.process if for_all else ticket.name)
            enough -= found[ticket] == "runs"
            if not enough:
                break
        return found
