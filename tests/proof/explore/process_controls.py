"""Switches that remove one guard each of what processes with many tickets rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from leasecap._decisions import polling
from leasecap._decisions.places import QUEUE
from leasecap._file_store import notices, notifier, reconcile, removal, store, sweep
from leasecap._file_store.exits import Exits
from leasecap._file_store.lookout import Lookout
from leasecap._file_store.marks import Marks
from leasecap._file_store.notifier import NOTICE
from leasecap._file_store.peers import Peers

if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry
    from leasecap._decisions.polling import Standing

Patch = pytest.MonkeyPatch


def nobody_told_of_who_goes_before(patch: Patch) -> None:
    """Who queues before another one doesn't tell it."""
    whom = notices.whom_to_notify
    patch.setattr(reconcile, "whom_to_notify", lambda where, sees, done: whom(where, sees, done._replace(behind=())))


def nobody_told_of_who_leaves(patch: Patch) -> None:
    """Who leaves the queue doesn't tell who stood behind."""
    for module in (removal, store):
        patch.setattr(module, "notify_behind", lambda directory, notify, left: None)


def duty_counted_per_ticket(patch: Patch) -> None:
    """The first two tickets sweep, whosever they are."""
    standing = polling.standing

    def by_ticket(queue: list[str], process: str) -> Standing | None:
        found = standing(queue, process)
        return found and found._replace(ahead=tuple(sorted(name for name in queue if name < found.first)[::-1]))

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


def rest_said_in_the_queue_alone(patch: Patch) -> None:
    """A ticket that is granted no longer says that its process rests."""
    rests = notices._rests
    patch.setattr(
        notices, "_rests", lambda directory, where, ticket: where == QUEUE and rests(directory, where, ticket)
    )


def nobody_said_to_rest(patch: Patch) -> None:
    """Nobody says that it rests."""
    patch.setattr(Exits, "_mark_resting", lambda exits, ticket: True)
