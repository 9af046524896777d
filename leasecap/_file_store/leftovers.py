"""Clearing away what killed processes left half-made, and the spares of those that ended without a word.

What a live process is just making is never harmed. An entry goes only by proof that its process is dead. Anything else
is old by the file system's own clock, by far more than its making takes; and should its maker have been stopped for so
long, it finds the file gone and makes it once more (`Directory.replace`, `layout`), or does without (`wake/`).
"""

from __future__ import annotations

import math
import stat

from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING
from leasecap._file_store.layout import FEEDBACK, NEW, OLDER, remove_tree
from leasecap._file_store.lock_directory import STAGED_LOCK
from leasecap._file_store.observer import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from leasecap._file_store.entries import Entries
    from leasecap._file_store.store import Store
    from leasecap._host.directory import Directory

_PROBED_STAGED = 8
"""Entries in ``staging/`` that whoever needs a new one looks at, if there are many. More than one, so that they get
fewer while there are dead ones."""

_OLD = 60.0
"""Seconds after which what is half-made counts as left behind."""

_LONG = 86400.0
"""Seconds after which a wake-up counts as left behind at which nobody can be seen to listen: a plain file where there
are no locks. Who does listen makes it anew."""

_LOOKED_INTO = 100
"""Entries that one look is for."""

_ASIDE = 12  # hexadecimal digits at the end of a name: see `Directory.replace`


def clear_staging(entries: Entries) -> int:
    """Remove a few entries of dead processes from ``staging/``; returns how many."""
    # An observer for this look alone, which proves no death by heartbeats: the next look is for others.
    observer = Observer(entries.effects, entries.pool, stale_after=math.inf, heartbeat=0.0)
    cleared = 0
    try:
        names = [name for name in entries.directory.list(STAGING) if not name.startswith(STAGED_LOCK)]
        for name in _some(names, _PROBED_STAGED, entries.effects.token()):
            if not observer.lives(STAGING, name) and entries.discard(STAGING, name):
                entries.delete(name)
                cleared += 1
    except OSError:
        pass  # what can't be cleared fails nobody's request
    return cleared


def sweep_leftovers(store: Store) -> None:
    """Remove what was left half-made, in the pool and beside it.

    Call it in a sweep: the time of the pool's stamp, which a sweep begins with, says what is old.
    """
    try:
        now = store.directory.stat("sweep").st_mtime
        root = store.effects.directory(store.pool.root)
    except OSError:
        return
    try:
        for path in _asides(store):
            if _is_old(store.directory, path, now):
                store.unlink(path)
        _sweep_pools(store, root, now)
        _sweep_wakeups(root, now)
    finally:
        root.close()


def _asides(store: Store) -> Iterator[str]:
    places = (QUEUE, PARKED, GRANTED, LEASES)
    entries = [f"{where}/{name}" for where in places for name in _names(store.directory, where)]
    for where in (".", FEEDBACK, *_some(entries, _LOOKED_INTO, store.effects.token())):
        for name in _names(store.directory, where):
            tail = name.rpartition(".")[2]
            if len(tail) == _ASIDE < len(name) and all(digit in "0123456789abcdef" for digit in tail):
                yield f"{where}/{name}"


def _sweep_pools(store: Store, root: Directory, now: float) -> None:
    for name in _names(root, "pools"):
        path = f"pools/{name}"
        if (name.startswith(NEW) or _is_replaced(store, name)) and _is_old(root, path, now):
            # Moved first: else its maker, if it goes on in this moment, may put what is left of it in place.
            gone = f"pools/{NEW}{store.effects.token()}"
            try:
                root.rename(path, gone)
            except OSError:
                continue
            remove_tree(root.full(gone))


def _is_replaced(store: Store, name: str) -> bool:
    """Whether it is a pool of an earlier format whose place was taken."""
    if not name.startswith(OLDER):
        return False
    from leasecap._file_store.formats import is_replaced

    return is_replaced(store.effects, store.pool.root, name.removeprefix(OLDER).rpartition("-")[0])


def _sweep_wakeups(root: Directory, now: float) -> None:
    for name in _names(root, "wake"):
        path = f"wake/{name}"
        if not _is_old(root, path, now, _OLD if name[0] == "." else _LONG):
            continue
        inside = _names(root, path)
        if any(root.hears(each) for each in (path, *(f"{path}/{file}" for file in inside))):
            continue
        try:
            for file in inside:
                root.unlink(f"{path}/{file}")
            (root.rmdir if _is_directory(root, path) else root.unlink)(path)
        except OSError:
            pass


def _some(names: list[str], number: int, token: str) -> list[str]:
    """So many of them, others each time."""
    first = int(token, 16) % max(len(names), 1)
    return (names[first:] + names[:first])[:number]


def _names(directory: Directory, where: str) -> list[str]:
    try:
        return directory.list(where)
    except OSError:
        return []


def _is_old(directory: Directory, path: str, now: float, age: float = _OLD) -> bool:
    try:
        return now - directory.stat(path).st_mtime > age
    except OSError:
        return False


def _is_directory(directory: Directory, path: str) -> bool:
    return stat.S_ISDIR(directory.stat(path).st_mode)
