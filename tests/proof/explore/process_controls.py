"""Switches that remove one guard each of what processes with many tickets rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from leasecap._decisions import polling
from leasecap._decisions.entry import process_of
from leasecap._decisions.places import QUEUE
from leasecap._file_store import notices, notifier, reconcile, removal, store, sweep
from leasecap._file_store.exits import Exits
from leasecap._file_store.lookout import Lookout
from leasecap._file_store.marks import Marks
from leasecap._file_store.notifier import NOTICE
from leasecap._file_store.peers import Peers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from leasecap._decisions.entry import Entry
    from leasecap._decisions.polling import Standing
    from leasecap._file_store.notices import Done

Patch = pytest.MonkeyPatch


def nobody_told_of_who_goes_before(patch: Patch) -> None:
    """Who queues before another one doesn't tell it."""
    whom = notices.whom_to_notify
    patch.setattr(reconcile, "whom_to_notify", lambda done, sees_exits: whom(done._replace(behind=()), sees_exits))


def nobody_told_of_who_leaves(patch: Patch) -> None:
    """Who leaves the queue doesn't tell who stood behind."""
    for module in (removal, store):
        patch.setattr(module, "notify_behind", lambda directory, notify, left: None)


def duty_counted_per_ticket(patch: Patch) -> None:
    """The first two tickets sweep, whosever they are."""
    standing = polling.standing

    def by_ticket(queue: list[str], process: str) -> Standing | None:
        found = standing(queue, process)
        if found is None:
            return None
        first = min(name for name in queue if process_of(name) == process)
        return found._replace(ahead=tuple(sorted((name for name in queue if name < first), reverse=True)))

    patch.setattr(polling, "standing", by_ticket)
    patch.setattr(Lookout, "_walk", lambda lookout, found, expected: found.ahead[:2])


def predecessor_not_watched(patch: Patch) -> None:
    """Nobody watches the process right ahead of it."""
    patch.setattr(Exits, "watch", lambda exits, others: True)


def exit_before_it_is_watched(patch: Patch) -> None:
    """Nobody minds that a process can't be watched."""
    watch = Exits.watch

    def unminded(exits: Exits, others: Any) -> bool:
        watch(exits, others)
        return True

    patch.setattr(Exits, "watch", unminded)


def third_does_not_look(patch: Patch) -> None:
    """Who isn't one of the first two looks as seldom as the last."""
    patch.setattr(polling, "THIRD_LOOK", polling.SELDOM_LOOK)


def stopped_ones_granted(patch: Patch) -> None:
    """A process that is stopped is taken for one that runs."""
    look = Peers.look

    def blind(peers: Peers, ticket: Entry, where: str = QUEUE) -> str:
        seen = look(peers, ticket, where)
        return "runs" if seen == "away" else seen

    patch.setattr(Peers, "look", blind)


def marks_not_cleared(patch: Patch) -> None:
    """A look leaves the mark of a process that was deaf."""
    patch.setattr(Marks, "answer", lambda marks, process: False)


def nobody_asked(patch: Patch) -> None:
    """Who doesn't take up a grant loses that one, and nobody is asked or marked."""
    patch.setattr(sweep.Sweeper, "_ask_the_silent", lambda *_: None)


def notices_taken_for_wake_ups(patch: Patch) -> None:
    """A process that is told to look wakes that ticket's waiter."""

    dispatch = notifier.dispatch
    patch.setattr(notifier, "dispatch", lambda own, names: dispatch(own, names.replace(NOTICE.encode(), b"")))


def granted_processes_not_notified(patch: Patch) -> None:
    """A process one of whose tickets was granted is not notified for its others."""
    whom = notices.whom_to_notify

    def others(done: Done, sees_exits: bool) -> Iterable[Entry]:
        granted = {ticket.process for ticket in done.granted}
        stay = tuple(ticket for ticket in done.plan.stay if ticket.process not in granted)
        return whom(done._replace(plan=done.plan._replace(stay=stay)), sees_exits)

    patch.setattr(reconcile, "whom_to_notify", others)


def nobody_notified_of_grants(patch: Patch) -> None:
    """The first two, who may rest, are not notified when somebody is granted a slot."""
    whom = notices.whom_to_notify
    patch.setattr(reconcile, "whom_to_notify", lambda done, sees_exits: whom(done, False))
