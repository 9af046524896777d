"""Whose processes have to look, since something was done inside the section."""

from __future__ import annotations

from leasecap._decisions.admission import OPEN
from leasecap._decisions.entry import parse_entry, process_of
from leasecap._decisions.places import GRANTED, QUEUE, RESTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from leasecap._decisions.entry import Entry
    from leasecap._file_store.reconcile import Done, Settled


def whom_to_notify(store: Settled, done: Done) -> Iterable[Entry]:
    """A ticket of each process that came to be first, or has another one right ahead of it.

    And of each that was passed over, so that it looks as soon as it runs.
    """
    away = done.snapshot.away
    passed = [parse_entry(name) for name in done.snapshot.queue.names if process_of(name) in away] if away else []
    tickets = (*passed, *done.plan.behind, *done.behind, *_who_rest(store, done), *done.plan.first)
    return {ticket.process: ticket for ticket in tickets}.values()


def _who_rest(store: Settled, done: Done) -> list[Entry]:
    """Those of the first two who are to hear of it. Asked after the grants: who says so only now sees them."""
    if not store.effects.sees_exits or not (done.granted or done.snapshot.admission != OPEN):
        return []
    stay = {ticket.process: ticket for ticket in done.plan.stay}
    # A process that stays may have said so in the ticket that is granted now: should its waiter be blocked, the grant
    # has to be taken back, and nobody else may be there to do it.
    moved = [ticket for ticket in done.granted if ticket.process in stay and _rests(store, GRANTED, ticket)]
    rest = [ticket for ticket in done.plan.stay if _rests(store, QUEUE, ticket)]
    return [*(stay[ticket.process] for ticket in moved), *rest]


def _rests(store: Settled, where: str, ticket: Entry) -> bool:
    try:
        store.directory.stat(f"{where}/{ticket.name}/{RESTS}")
    except OSError:
        return False
    return True
