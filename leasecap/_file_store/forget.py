"""Removing a pool that nobody uses.

Others may have the pool open at the same time, with or without a staged entry. So it goes as `formats` replaces a pool:
inside the pool's own section, and with nobody alive in it,

1. the queue gets another name. Every grant begins with a listing of the queue, so no grant can be made any more;
2. the pool is moved away from its path, where the next one to come makes a new pool.

A process that has the old pool open misses the queue, finds another directory at the path, or none, and begins again
there (`ticket`). One that is killed between the two steps leaves a pool without a queue, which can be forgotten once
more; whoever uses it next makes the queue again.
"""

from __future__ import annotations

import errno
import os

from leasecap._decisions.places import QUEUE, TRASH
from leasecap._errors import StoreError
from leasecap._faults import faults
from leasecap._file_store.description import check
from leasecap._file_store.formats import close_queue, enter, live_in, reopen
from leasecap._file_store.layout import CLOSED, NEW, Incomplete, OlderFormat, Pool, pool_path, remove_tree, stands_at
from leasecap._file_store.moved_aside import moved_aside
from leasecap._file_store.observer import Observer
from leasecap._file_store.pool_lock import pool_lock
from leasecap._file_store.repair import traces
from leasecap._file_store.thefts import Thefts
from leasecap._host.file_system import file_system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.pool_name import PoolName
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects

_STALE_AFTER, _HEARTBEAT = 30.0, 10.0  # any will do: this looks once, and one look proves no death by a heartbeat


def forget_pool(effects: Effects, root: str, name: PoolName) -> bool:
    """Remove the pool with all that the provider's answers have taught it; False: there is no such pool.

    :raises StoreError: when somebody holds a slot in it or waits, or when that can't be told; nothing is changed then.
    """
    path = pool_path(root, name)
    with faults(path):
        try:
            directory = effects.directory(path)
        except FileNotFoundError:
            return False
        try:
            pool = Pool(root, name, directory, _kind(directory, name), file_system(path).local)
            gone = _forgotten(effects, pool)
        finally:
            directory.close()
    for each in gone:
        remove_tree(each)
    return bool(gone)


def _kind(directory: Directory, name: PoolName) -> str:
    """The kind of the pool's lock, even if parts are missing: whoever forgot it before may have been killed
    half-way."""
    try:
        return check(directory, name)[0]
    except OlderFormat as older:
        return older.kind
    except Incomplete as incomplete:
        return incomplete.kind or traces(directory) or "directory"


def _forgotten(effects: Effects, pool: Pool) -> list[str]:
    """The paths of what is to be removed; nothing if somebody else was first."""
    observer = Observer(effects, pool, stale_after=_STALE_AFTER, heartbeat=_HEARTBEAT)
    section = pool_lock(effects, pool, observer, Thefts(pool.directory))
    try:
        enter(section, pool)
        try:
            return _move_away(effects, pool, observer) if stands_at(pool.directory, pool.directory.path) else []
        finally:
            section.leave()
    finally:
        section.close()


def _move_away(effects: Effects, pool: Pool, observer: Observer) -> list[str]:
    """Inside the section."""
    name, directory = pool.name, pool.directory
    _refuse_if_used(pool, observer)
    pools = effects.directory(os.path.dirname(directory.path))
    try:
        aside = f"{NEW}{effects.token()}"  # sweeps remove what is left under such a name
        try:
            _close(effects, directory)
            _refuse_if_used(pool, observer)  # once more: a section that can be stolen may have let somebody in
            pools.rename(name.directory, aside)
        except BaseException:
            reopen(directory)
            raise
        _throw_away(effects, directory, QUEUE)  # in case somebody found it missing and made one
        return [pools.full(aside), *moved_aside(pools, name)]
    finally:
        pools.close()


def _close(effects: Effects, directory: Directory) -> None:
    try:
        close_queue(directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # It was closed before, and the queue was made again since: what stands in the closed one are tickets of the
        # dead.
        _throw_away(effects, directory, CLOSED)
        close_queue(directory)


def _throw_away(effects: Effects, directory: Directory, name: str) -> None:
    try:
        directory.rename(name, f"{TRASH}/{effects.token()}")
    except FileNotFoundError:
        pass


def _refuse_if_used(pool: Pool, observer: Observer) -> None:
    users = live_in(pool.directory, observer)
    if users:
        name = pool.name.text
        raise StoreError(
            f"the pool {name!r} is in use by {', '.join(users)}",
            path=pool.directory.path,
            remedy="forget it when they have ended; `leasecap status` shows who holds and who waits, and `leasecap "
            "release ID` takes a slot from who can't be ended",
        )
