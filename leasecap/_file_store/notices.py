"""Which processes have to look after something was done inside the section."""

from __future__ import annotations

from leasecap._decisions.admission import OPEN
from leasecap._decisions.entry import parse_entry, process_of
from leasecap._decisions.places import GRANTED, QUEUE, RESTS
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from leasecap._decisions.entry import Entry
    from leasecap._decisions.grants import Plan
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._host.directory import Directory


class Done(NamedTuple):
    """What was done inside the section, and from what it was decided.

    :ivar missed: a ticket that was to be granted was gone.
    :ivar behind: a ticket that stands right behind the one that has just queued.
    :ivar asks_at_once: a slot was released, and the provider is to be asked whether somebody may have it.
    """

    plan: Plan
    snapshot: Snapshot
    granted: list[Entry]
    missed: bool
    behind: tuple[Entry, ...] = ()
    asks_at_once: bool = False

    @property
    def others_wait(self) -> bool:
        """Whether somebody still waits after the grants."""
        return len(self.snapshot.queue) > len(self.plan.grant)


def whom_to_notify(directory: Directory, sees_exits: bool, done: Done) -> Iterable[Entry]:
    """A ticket of each process that has to look.

    These are the processes that have become the first, that have another process right ahead of them than before, that
    rest though something was granted, that are to ask the provider, and that were passed over, which look as soon as
    they run.
    """
    away = done.snapshot.away
    passed = [parse_entry(name) for name in done.snapshot.queue.names if process_of(name) in away] if away else []
    told = done.plan.stay if done.asks_at_once else _who_rest(directory, done) if sees_exits else ()
    tickets = (*passed, *done.plan.behind, *done.behind, *told, *done.plan.first)
    return {ticket.process: ticket for ticket in tickets}.values()


def _who_rest(directory: Directory, done: Done) -> list[Entry]:
    """The tickets of those of the first two processes that rest (`exits`).

    This is asked after the grants: a process that leaves its mark only now sees the grants itself.
    """
    if not (done.granted or done.snapshot.admission != OPEN):
        return []
    stay = {ticket.process: ticket for ticket in done.plan.stay}
    # A process that stays in the queue may have its mark in the ticket that was granted just now. It has to look too:
    # if the waiter of that ticket is blocked, the grant has to be taken back, and there may be nobody else to do it.
    moved = [ticket for ticket in done.granted if ticket.process in stay and _rests(directory, GRANTED, ticket)]
    rest = [ticket for ticket in done.plan.stay if _rests(directory, QUEUE, ticket)]
    return [*(stay[ticket.process] for ticket in moved), *rest]


def _rests(directory: Directory, where: str, ticket: Entry) -> bool:
    try:
        directory.stat(f"{where}/{ticket.name}/{RESTS}")
    except OSError:
        return False
    return True
