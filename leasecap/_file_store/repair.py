"""A pool with a part missing, as a tidy-up or `git clone` leaves it: what is made again, and when.

- ``queue``, ``parked``, ``staging``, ``trash`` and ``stolen`` are always made again. They are found by their names at
  each use, so whoever has the pool open uses the new ones from then on.
- ``leases`` and ``granted`` are made again when no other process lives in the pool. They may have been moved away with
  leases in them, which would not be counted then.
- ``lock`` and ``pool.json`` are made again when nobody lives in the pool. Two locks would let two processes decide at
  once.

A process that has the pool open but no entry in it can't be seen. So whoever makes a lock first leaves a note, and only
then looks who lives. And whoever enters the section and doesn't find the ``lock`` that it has locked looks for a note
(`assure`). So one of the two sees the other.
"""

from __future__ import annotations

import json

from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING, STOLEN, TRASH
from leasecap._errors import StoreError
from leasecap._faults import faults
from leasecap._file_store.description import check, describe
from leasecap._file_store.layout import Incomplete, Pool, inode_of, pool_path
from leasecap._file_store.lock_directory import STAGED_LOCK
from leasecap._file_store.making import kind_of_lock
from leasecap._file_store.observer import Observer
from leasecap._host.file_system import file_system
from leasecap._liveness.record import called
from leasecap._liveness.stamp import HEARTBEAT, STALE_AFTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.pool_name import PoolName
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects

_ALWAYS = (QUEUE, PARKED, STAGING, TRASH, STOLEN)
_PLACES = (STAGING, QUEUE, PARKED, GRANTED, LEASES)
_NOTE = "lock."
_MOST_NAMED = 8


def repair(effects: Effects, root: str, name: PoolName, lock: str) -> bool:
    """Make what is missing again; False: nothing is missing, or the whole pool is.

    :param lock: the setting in config.toml, for a pool of which nothing says what it was made with.
    :raises StoreError: when that would harm those who live in it; it says who they are.
    """
    path = pool_path(root, name)
    try:
        directory = effects.directory(path)
    except FileNotFoundError:
        return False
    try:
        return repair_open(effects, Pool(root, name, directory, "", file_system(path).local), lock)
    finally:
        directory.close()


def explain(effects: Effects, root: str, name: PoolName, found: Incomplete) -> StoreError:
    """The error for a process that only looks at a pool with parts missing."""
    directory = effects.directory(pool_path(root, name))
    try:
        pool = Pool(root, name, directory, found.kind, file_system(directory.path).local)
        return refusal(directory, found.parts, users_of(effects, pool))
    finally:
        directory.close()


def repair_open(effects: Effects, pool: Pool, lock: str = "auto") -> bool:
    """`repair` of a pool that this process has open; its ``kind`` is "" where that isn't known."""
    try:
        check(pool.directory, pool.name)
    except Incomplete as found:
        with faults(pool.directory.path):
            _repair(effects, pool._replace(kind=found.kind or pool.kind or traces(pool.directory)), lock, found.parts)
        return True
    return False


def _repair(effects: Effects, pool: Pool, lock: str, parts: tuple[str, ...]) -> None:
    directory = pool.directory
    for part in parts:
        if part in _ALWAYS:
            _make(directory, part)
    missing = [part for part in parts if part not in _ALWAYS]
    if not missing:
        return
    note = f"{_NOTE}{effects.token()[:12]}"  # the note of a killed process is swept like a half-made file
    directory.write(note, b"")
    try:
        users = users_of(effects, pool)
        if users:
            missing = [part for part in missing if inode_of(directory, part) is None]
            if missing:
                raise refusal(directory, tuple(missing), users)
            return  # others have repaired the pool meanwhile, and live in it now
        for part in missing:
            if part in _PLACES:
                _make(directory, part)
        if "lock" in missing:
            _make_lock(directory)
        if "pool.json" in missing:
            kind = pool.kind or kind_of_lock(effects, directory, lock, directory.path)
            directory.replace("pool.json", describe(effects, pool.name, kind, pool.local))
    finally:
        directory.unlink(note)


def _make(directory: Directory, part: str) -> None:
    try:
        directory.make(part)
    except FileExistsError:
        pass  # somebody else was first


def _make_lock(directory: Directory) -> None:
    try:
        directory.write("lock", b"%-10d\n" % 0)
    except FileExistsError:
        pass


def traces(directory: Directory) -> str:
    """The kind of lock that was used in the pool, by the traces of it; "" if there are none."""
    try:
        if directory.read("lock", 64).split()[:1] not in ([], [b"0"]):
            return "os"
    except OSError:
        pass
    for trace in ("lock.d", STOLEN):
        try:
            if directory.list(trace) or trace == "lock.d":
                return "directory"
        except OSError:
            pass
    return ""


def users_of(effects: Effects, pool: Pool) -> list[str]:
    """Who lives in the pool. This process's own entries that count for nothing are left out."""
    # If the kind of the lock isn't known, a free OS lock proves no death.
    observer = Observer(
        effects, pool._replace(kind=pool.kind or "directory"), stale_after=STALE_AFTER, heartbeat=HEARTBEAT
    )
    me = effects.me()
    found: dict[str, None] = {}
    for where in _PLACES:
        try:
            names = pool.directory.list(where)
        except FileNotFoundError:
            continue
        for name in names:
            if name[0] == "." or name.startswith(STAGED_LOCK) or not observer.lives(where, name):
                continue
            record = observer.record(where, name)
            if where == STAGING and record is not None and (record.pid, record.start) == (me.pid, me.start):
                continue
            found[f"an unreadable record ({where}/{name})" if record is None else called(record)] = None
    return list(found)


def refusal(directory: Directory, parts: tuple[str, ...], users: list[str]) -> StoreError:
    """The error for a pool with ``parts`` missing, in which ``users`` live."""
    lacks = ", ".join(parts)
    if not users or set(parts) <= set(_ALWAYS):
        remedy = "the next call for a slot makes it again: `leasecap run`, or any process that acquires"
        return StoreError(f"lacks {lacks}: it was removed", path=directory.path, remedy=remedy)
    more = f" and {len(users) - _MOST_NAMED} more" if len(users) > _MOST_NAMED else ""
    return StoreError(
        f"lacks {lacks}: it was removed while the pool is in use by {', '.join(users[:_MOST_NAMED])}{more}",
        path=directory.path,
        remedy="put it back, or wait until they have ended: the next call then makes it again. To remove "
        f"{directory.path} goes at once, but ends their leases: they run on uncapped",
    )


def assure(pool: Pool, lock: tuple[int, int] | None) -> bool:
    """Inside the section: whether the pool's ``lock`` is still the one that was locked.

    :param lock: device and inode of the file that was locked; None in a pool with a lock directory.
    :raises StoreError: when the pool is being repaired, or was made with another kind of lock meanwhile.
    """
    directory = pool.directory
    description = inode_of(directory, "pool.json")
    file = lock and inode_of(directory, "lock")
    if file == lock and description == pool.description:
        return True
    if (lock and file is None) or description is None:
        if any(name.startswith(_NOTE) and name != "lock.d" for name in directory.list(".")):
            raise StoreError("is just being repaired", path=directory.path, remedy="try again")
    elif description != pool.description and _kind_now(directory) != pool.kind:
        raise StoreError(
            "was made anew with another kind of lock while this process had it open",
            path=directory.path,
            remedy="start this process again",
        )
    return file is None or file == lock


def _kind_now(directory: Directory) -> object:
    """The kind of lock that ``pool.json`` says now.

    :raises StoreError: when it is none any more: the root may be a repository of dotfiles, in the middle of a merge.
    """
    try:
        return json.loads(directory.read("pool.json", 16_384)).get("lock")
    except (ValueError, AttributeError, RecursionError):
        raise StoreError(
            "is not a pool's description any more (truncated, or changed by a tool)",
            path=directory.full("pool.json"),
            remedy=f"put back what stood there; or remove {directory.path} when no agent uses it any more",
        ) from None
