"""Clearing away what killed processes left half-made, and the spares of those that ended without a word.

What a live process is making is never harmed. An entry is removed only by proof that its process is dead. Anything else
is removed when it is old by the file system's own clock, by far more than its making takes. If its maker was stopped
for so long, it finds the file gone and makes it once more (`Directory.replace`, `opening`), or does without (`wake/`).
"""

from __future__ import annotations

import stat

from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE
from leasecap._file_store.layout import FEEDBACK, LATENCY, NEW, OLDER, remove_tree
from leasecap._file_store.staging import some_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from leasecap._file_store.entries import Entries
    from leasecap._host.directory import Directory

_OLD = 60.0
"""Seconds after which what is half-made counts as left behind."""

_LONG = 86400.0
"""Seconds after which a wake-up counts as left behind if nobody can be seen to listen at it: a plain file where there
are no locks. A process that listens there all the same makes it anew."""

_LOOKED_INTO = 100
"""Entries that one sweep looks into."""

_ASIDE = 12  # hexadecimal digits at the end of a name: see `Directory.replace`


def sweep_leftovers(entries: Entries) -> None:
    """Remove what was left half-made, in the pool and beside it.

    Call it in a sweep: the time of the pool's stamp, which a sweep begins with, says what is old.
    """
    try:
        now = entries.directory.stat("sweep").st_mtime
        root = entries.effects.directory(entries.pool.root)
    except OSError:
        return
    try:
        for path in _asides(entries):
            if _is_old(entries.directory, path, now):
                entries.unlink(path)
        _sweep_pools(entries, root, now)
        _sweep_wakeups(root, now)
    finally:
        root.close()


def _asides(entries: Entries) -> Iterator[str]:
    places = (QUEUE, PARKED, GRANTED, LEASES)
    found = [f"{where}/{name}" for where in places for name in _names(entries.directory, where)]
    for where in (".", FEEDBACK, LATENCY, *some_of(found, _LOOKED_INTO, entries.effects.token())):
        for name in _names(entries.directory, where):
            tail = name.rpartition(".")[2]
            if len(tail) == _ASIDE < len(name) and all(digit in "0123456789abcdef" for digit in tail):
                yield f"{where}/{name}"


def _sweep_pools(entries: Entries, root: Directory, now: float) -> None:
    for name in _names(root, "pools"):
        path = f"pools/{name}"
        if (name.startswith(NEW) or _is_replaced(entries, name)) and _is_old(root, path, now):
            # It is moved before it is removed: else its maker, going on in this moment, could put half of it in place.
            gone = f"pools/{NEW}{entries.effects.token()}"
            try:
                root.rename(path, gone)
            except OSError:
                continue
            remove_tree(root.full(gone))


def _is_replaced(entries: Entries, name: str) -> bool:
    """Whether this is a pool of an earlier format that was moved aside, and whose place another one has taken."""
    if not name.startswith(OLDER):
        return False
    from leasecap._file_store.moved_aside import is_replaced

    return is_replaced(entries.effects, entries.pool.root, name.removeprefix(OLDER).rpartition("-")[0])


def _sweep_wakeups(root: Directory, now: float) -> None:
    for name in _names(root, "wake"):
        path = f"wake/{name}"
        if not _is_old(root, path, now, _OLD if name[0] == "." else _LONG):
            continue
        inside = _names(root, path)
        if any(root.has_receiver(each) for each in (path, *(f"{path}/{file}" for file in inside))):
            continue
        try:
            for file in inside:
                root.unlink(f"{path}/{file}")
            (root.rmdir if _is_directory(root, path) else root.unlink)(path)
        except OSError:
            pass


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
