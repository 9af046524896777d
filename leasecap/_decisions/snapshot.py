"""A pool at one moment, and which of its entries count."""

from __future__ import annotations

from leasecap._decisions.admission import OPEN
from leasecap._decisions.entry import Group, process_of
from leasecap._decisions.loads import NOBODY
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from leasecap._decisions.admission import Admission


class Snapshot(NamedTuple):
    """A pool at one moment.

    :ivar configured: the limit from configuration, or None.
    :ivar queue: tickets that wait.
    :ivar parked: tickets whose owner did not acknowledge a grant; they are passed over until it moves.
    :ivar granted: entries that are granted and not yet acknowledged; they count as held.
    :ivar leases: entries that are held.
    :ivar dead: names of entries whose owner is provably gone; they count for nothing.
    :ivar gone: processes that have provably exited. Their tickets, and the grants that they had not acknowledged, count
        for nothing. Their leases are judged one by one, since a command may outlive its wrapper.
    :ivar away: processes that don't run now (stopped, or deaf); they are passed over and keep their place.
    :ivar granted_since: when the observer first saw each name in ``granted`` there (its own monotonic clock).
    :ivar suspect: names of grants made inside a lock directory after it was stolen from the granter.
    :ivar cooling: leases that have ended and count for a while longer.
    :ivar newcomer: the name in ``queue`` that hasn't queued yet.
    :ivar admission: what the provider's answers allow.
    """

    configured: int | None
    queue: Group = NOBODY
    parked: Group = NOBODY
    granted: Group = NOBODY
    leases: Group = NOBODY
    dead: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    away: frozenset[str] = frozenset()
    granted_since: Mapping[str, float] = {}
    suspect: frozenset[str] = frozenset()
    cooling: Group = NOBODY
    newcomer: str | None = None
    admission: Admission = OPEN


def living(snapshot: Snapshot) -> Snapshot:
    """The snapshot without what the dead have left."""
    dead, gone = snapshot.dead, snapshot.gone
    if not (dead or gone):
        return snapshot
    queue, parked, granted = (
        group.without(dead).without_processes(gone) if group else group
        for group in (snapshot.queue, snapshot.parked, snapshot.granted)
    )
    return snapshot._replace(queue=queue, parked=parked, granted=granted, leases=snapshot.leases.without(dead))


def first_processes(queue: Iterable[str], away: Collection[str] = ()) -> tuple[str, ...]:
    """The first two distinct processes in the sorted queue, without those in ``away``."""
    first: list[str] = []
    for name in queue:
        process = process_of(name)
        if process not in first and process not in away:
            first.append(process)
            if len(first) == 2:
                break
    return tuple(first)
