"""Removing what the dead have in the queue, and notifying the processes that stood behind them.

No grant waits for that: what is known to be dead counts for nothing, and is removed when there is time.
"""

from __future__ import annotations

from functools import partial

from leasecap._decisions.entry import parse_entry, process_of
from leasecap._decisions.places import GRANTED, PARKED, QUEUE
from leasecap._decisions.polling import to_notify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from leasecap._file_store.entries import Entries
    from leasecap._file_store.peers import Peers
    from leasecap._host.directory import Directory

    Notify = Callable[[str, str], None]


DELETED_AT_ONCE = 16
"""The most entries that whoever ends them also deletes; the rest is left to the background. Who sweeps may wait for a
slot itself, and an entry takes a file system several calls."""


def bury(entries: Entries, peers: Peers, notify: Notify, most: int | None = None) -> None:
    """Remove what the dead have in the queue or were granted, ``most`` entries at once."""
    dead, gone = frozenset(peers.dead), frozenset(peers.gone)  # copies: another thread may find more meanwhile
    buried: list[str] = []
    queued: list[str] = []
    left = False
    for where in (QUEUE, PARKED, GRANTED):
        for name in entries.names(where):
            if name not in dead and process_of(name) not in gone:
                continue
            if len(buried) == most or not entries.discard(where, name):
                left = True
                continue
            buried.append(name)
            if where == QUEUE:
                queued.append(name)
    if not left:
        peers.dead -= dead
        peers.gone -= gone
    if queued:
        notify_behind(entries.directory, notify, queued)
    delete_all(entries, buried)


def delete_all(entries: Entries, names: Sequence[str]) -> None:
    """Delete these entries from ``trash/``. Nobody waits for that longer than a few of them take."""

    def each(names: Sequence[str]) -> None:
        for name in names:
            entries.delete(name)

    rest = names[DELETED_AT_ONCE:]
    if rest and entries.in_background(partial(each, rest)):
        names = names[:DELETED_AT_ONCE]
    each(names)


def notify_behind(directory: Directory, notify: Notify, left: Collection[str]) -> None:
    """The tickets ``left`` are gone: notify the processes that are first now, or right behind another one than
    before."""
    try:
        behind = [parse_entry(name) for name in to_notify(directory.list(QUEUE), left)]
    except OSError:
        return  # they look by themselves
    for entry in {entry.process: entry for entry in behind}.values():
        notify(entry.process, entry.name)
