"""What this process had before it became another program (``exec``).

Its pid and start are as before, so to everybody else the process lives that these entries name. Only the new program
can know better, and has to: it may wait for a slot that nobody else would ever take from it.
"""

from __future__ import annotations

from leasecap import _ancestry
from leasecap._decisions.entry import mark_of, parse_entry, process_of
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE
from leasecap._file_store.removal import bury, delete_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._file_store.entries import Entries
    from leasecap._file_store.peers import Peers
    from leasecap._file_store.removal import Notify


_PLACES = (QUEUE, GRANTED, PARKED, LEASES)


def suspects(process: str, snapshot: Snapshot) -> list[str]:
    """The entries that another program of this process may have left, by their names alone."""
    mark = process[-6:]
    places = (snapshot.queue, snapshot.granted, snapshot.parked, snapshot.leases)
    named = [name for place in places for name in place.names if mark_of(name) == mark]
    return [name for name in named if process_of(name) != process]


def remove(entries: Entries, peers: Peers, notify: Notify, found: list[str]) -> bool:
    """Remove those of the `suspects` that are nobody's; returns whether there are any.

    A lease that this program runs under was handed to it, and stays.
    """
    lent = _ancestry.tokens(entries.pool.root, entries.pool.name.directory)
    ours = [name for name in found if parse_entry(name).token not in lent]
    # All places are tried: a ticket may have been granted a slot since, by this very process.
    left = [(where, name) for name in ours for where in _PLACES if peers.observer.left_by_exec(where, name)]
    taken = [name for where, name in left if where == LEASES and entries.discard(LEASES, name)]
    peers.dead.update(name for where, name in left if where != LEASES)
    if left:
        bury(entries, peers, notify)
        delete_all(entries, taken)
    return bool(left)
