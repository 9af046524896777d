"""Pools of another format: an error says who uses them, and one of an earlier format is replaced once nobody lives in
it.

An earlier leasecap may have the pool open for days. Before each call it compares the pool's directory with the one at
its path, and looks at nothing else. So a pool never turns into one of this format; another directory takes its place.
Inside the old pool's own section, and with nobody alive in it:

1. a new pool is built aside, with what the provider's answers have taught;
2. the old pool's queue gets another name. Every grant begins with a listing of the queue, so from here on nobody can be
   granted anything in it;
3. the old pool is moved aside, and the new one, with what was reported meanwhile, into its place.

An earlier leasecap that is in the middle of a call then misses the queue and fails; its next call finds another
directory at the path, opens that, and says that it is of another format. A process that is killed after the first or
second step leaves a pool of the old format, and the next one begins anew. One that is killed in the third leaves no
pool at all: whoever makes it takes over what was moved aside (`layout`).
"""

from __future__ import annotations

import os
import time

from leasecap._decisions.places import QUEUE
from leasecap._errors import StoreError
from leasecap._faults import faults
from leasecap._file_store.description import check
from leasecap._file_store.layout import (
    CLOSED,
    ENTRY_PLACES,
    OLDER,
    Incomplete,
    OlderFormat,
    Pool,
    pool_path,
    remove_tree,
    stands_at,
)
from leasecap._file_store.making import build
from leasecap._file_store.moved_aside import moved_aside, take_over
from leasecap._file_store.observer import Observer
from leasecap._file_store.pool_lock import pool_lock
from leasecap._file_store.refusal import called_at, names_in, refusal
from leasecap._file_store.thefts import Thefts
from leasecap._host.file_system import file_system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.pool_name import PoolName
    from leasecap._file_store.section import Section
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects

_TRIES, _PAUSE = 1000, 0.005  # at the old pool's own lock
_STALE_AFTER, _HEARTBEAT = 30.0, 10.0  # any will do: this looks once, and one look proves no death by a heartbeat


def replace_older(effects: Effects, root: str, name: PoolName, lock: str) -> None:
    """Put a new pool in the place of one of an earlier format, if nobody lives in that. The caller then opens it again.

    :raises StoreError: when somebody lives in it, or its own lock can't be had; nothing is changed then.
    """
    path = pool_path(root, name)
    gone: list[str] = []
    with faults(path):
        try:
            directory = effects.directory(path)
        except FileNotFoundError:
            return  # somebody else is replacing it
        try:
            older = _older(directory, name)
            if older is not None:  # else somebody else was first
                gone = _replaced(effects, Pool(root, name, directory, older.kind, file_system(path).local), lock, older)
        except (OSError, StoreError):
            if stands_at(directory, path):
                raise
        finally:
            directory.close()
    for each in gone:
        remove_tree(each)


def _older(directory: Directory, name: PoolName) -> OlderFormat | None:
    """The earlier format of the pool in this directory; None if it isn't of one."""
    try:
        check(directory, name)
    except OlderFormat as older:
        return older
    except Incomplete:
        pass  # it is of this format
    return None


def _replaced(effects: Effects, pool: Pool, lock: str, older: OlderFormat) -> list[str]:
    """Replace the pool if it still stands; returns the paths of what is no longer needed."""
    observer = Observer(effects, pool, stale_after=_STALE_AFTER, heartbeat=_HEARTBEAT)
    section = pool_lock(effects, pool, observer, Thefts(pool.directory))
    try:
        enter(section, pool)
        try:
            path = pool_path(pool.root, pool.name)
            # If another directory stands there, the pool was replaced while this waited for its lock.
            return _replace(effects, pool, observer, lock, older) if stands_at(pool.directory, path) else []
        finally:
            section.leave()
    finally:
        section.close()


def enter(section: Section, pool: Pool) -> None:
    """Enter the section of a pool that is to go.

    :raises StoreError: when somebody stays inside.
    """
    for _ in range(_TRIES):
        if section.try_enter():
            return
        time.sleep(_PAUSE)
    raise StoreError(
        f"the pool's own lock has been held for over five seconds by {section.occupant().who}; it takes milliseconds",
        path=pool.directory.path,
        remedy="that process is probably stopped: continue it (kill -CONT PID) or end it",
    )


def _replace(effects: Effects, pool: Pool, observer: Observer, lock: str, older: OlderFormat) -> list[str]:
    """Inside the old pool's section."""
    root, name, directory = pool.root, pool.name, pool.directory
    _refuse_if_live(directory, observer, older)
    pools = effects.directory(os.path.join(root, "pools"))
    try:
        before = moved_aside(pools, name)
        new = build(effects, root, name, lock, [directory.path, *before])
        try:
            aside = f"{OLDER}{name.directory}-{effects.token()}"
            try:
                close_queue(directory)
                _refuse_if_live(
                    directory, observer, older
                )  # only a section that can be stolen lets anybody in meanwhile
                pools.rename(name.directory, aside)
            except BaseException:
                reopen(directory)
                raise
            _take_over_the_last(effects, pools.full(aside), pools.full(new))
            pools.rename(new, name.directory)  # this fails if somebody has made a pool in this moment
        except BaseException:
            remove_tree(pools.full(new))
            raise
        return [*before, pools.full(aside)]
    finally:
        pools.close()


def _take_over_the_last(effects: Effects, older: str, new: str) -> None:
    """Reports need no section: some may have come since the others were copied."""
    target = effects.directory(new)
    try:
        take_over(effects, older, target)
    finally:
        target.close()


def close_queue(directory: Directory) -> None:
    """Let nothing be granted in it any more."""
    try:
        directory.rename(QUEUE, CLOSED)
    except FileNotFoundError:
        pass  # whoever was here before was killed


def reopen(directory: Directory) -> None:
    """Undo `close_queue`."""
    try:
        directory.rename(CLOSED, QUEUE)
    except OSError:
        pass  # it isn't closed, or those who are in it get the error that the pool is damaged


def _refuse_if_live(directory: Directory, observer: Observer, older: OlderFormat) -> None:
    live = live_in(directory, observer)
    if live:
        reopen(directory)  # somebody who was killed half-way may have closed it
        raise refusal(directory, older.version, live)


def live_in(directory: Directory, observer: Observer) -> list[str]:
    """Who holds or waits in the pool, each process once, by the same evidence as for reaping."""
    live = (
        called_at(directory, where, name)
        for where in ENTRY_PLACES
        for name in names_in(directory, where)
        if observer.lives(where, name)
    )
    return list(dict.fromkeys(live))
