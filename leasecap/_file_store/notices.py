"""Whose processes have to look, since something was done inside the section."""

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
    """What was done inside, and what it was decided by.

    :ivar missed: a ticket that was to be granted was gone.
    :ivar behind: a ticket that stands right behind the one that has just queued.
    """

    plan: Plan
    snapshot: Snapshot
    granted: list[Entry]
    missed: bool
    behind: tuple[Entry, ...] = ()

    @property
    def others_wait(self) -> bool:
        """Whether somebody waits on."""
        return len(self.snapshot.queue) > len(self.plan.grant)


def whom_to_notify(directory: Directory, sees_exits: bool, done: Done) -> Iterable[Entry]:
    """A ticket of each process that came to be first, or has another one right ahead of it.

    And of each that was passed over, so that it looks as soon as it runs.
    """
    away = done.snapshot.away
    passed = [parse_entry(name) for name in done.snapshot.queue.names if process_of(name) in away] if away else []
    rest = _who_rest(directory, done) if sees_exits else []
    tickets = (*passed, *done.plan.behind, *done.behind, *rest, *done.plan.first)
    return {ticket.process: ticket for ticket in tickets}.values()


def _who_rest(directory: Directory, done: Done) -> list[Entry]:
    """Those of the first two who are to hear of it. Asked after the grants: who says so only now sees them."""
    if not (done.granted or done.snapshot.admission != OPEN):
        return []
    stay = {ticket.process: ticket for ticket in done.plan.stay}
    # A process that stays may have said so in the ticket that is granted now: should its waiter be blocked, the grant
    # has to be taken back, and nobody else may be there to do it.
    moved = [ticket for ticket in done.granted if ticket.process in stay and _rests(directory, GRANTED, ticket)]
    rest = [ticket for ticket in done.plan.stay if _rests(directory, QUEUE, ticket)]
    return [*(stay[ticket.process] for ticket in moved), *rest]


def _rests(directory: Directory, where: str, ticket: Entry) -> bool:
    try:
        directory.stat(f"{where}/{ticket.name}/{RESTS}")
    except OSError:
        return False
    return True
