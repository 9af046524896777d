"""The limit that holds, and how much of it is taken."""

from __future__ import annotations

import sys

from leasecap._decisions.entry import Group
from leasecap._decisions.loads import Loads
from leasecap._decisions.snapshot import Snapshot, living

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from leasecap._decisions.admission import Admission
    from leasecap._decisions.entry import Entry


UNLIMITED = sys.maxsize
"""The limit of a pool for which a person wrote ``unlimited``. An int, so that the lowest limit is plain ``min()``."""


def in_flight(snapshot: Snapshot) -> int:
    """The load of all that is held."""
    return Loads(Group(dict.fromkeys((*snapshot.granted.names, *snapshot.leases.names)))).total


def effective_limit(snapshot: Snapshot) -> int | None:
    """The limit that holds now: `full_limit`, or less while the provider takes less; None if there is none."""
    return reduced(full_limit(snapshot), snapshot.admission)


def reduced(full: int | None, admission: Admission) -> int | None:
    """What is left of the full limit while the provider takes less."""
    limits = (full, admission.limit, admission.own_limit)
    return None if full is None else min(limit for limit in limits if limit is not None)


def full_limit(snapshot: Snapshot) -> int | None:
    """The lowest of the configured limit and those declared by anyone who holds or waits; None if there is none."""
    snapshot = living(snapshot)
    groups = (snapshot.queue, snapshot.parked, snapshot.granted, snapshot.leases)
    limits = [group.lowest for group in groups if group.names]
    return min([limit for limit in (snapshot.configured, *limits) if limit is not None], default=None)


def declarers(snapshot: Snapshot) -> Iterator[Entry]:
    """Tickets whose declared limit is the one that holds, since all else would allow more: one for each process.

    The limit counts only while one of these processes lives, and nobody else looks at a process that waits far back.
    """
    snapshot = living(snapshot)
    waiting = (snapshot.queue, snapshot.parked)
    lowest = min((group.lowest for group in waiting if group.lowest is not None), default=None)
    others = (snapshot.configured, snapshot.granted.lowest, snapshot.leases.lowest)
    if lowest is None or any(limit is not None and limit <= lowest for limit in others):
        return
    seen: set[str] = set()
    for ticket in (ticket for group in waiting for ticket in group if ticket.limit == lowest):
        if ticket.process not in seen:
            seen.add(ticket.process)
            yield ticket
