"""Pools of another format: who uses them is told, and one of an earlier format is replaced once nobody lives in it.

An earlier leasecap may have the pool open for days: before each call it compares the pool's directory with the one at
its path, and looks at nothing else again. So a pool never turns into one of this format; another directory takes its
place. Inside the old pool's own section, with nobody alive in it:

1. a new pool is built aside, with what the provider's answers have taught;
2. the old pool's queue gets another name. Every grant begins with a listing of the queue, so from here on nobody can be
   granted anything in it;
3. the old pool is moved aside, and the new one into its place.

An earlier leasecap that is in the middle of a call then fails for want of the queue; its next call finds another
directory at the path, opens that, and says that it is of another format. Who is killed after the first or second step
leaves a pool of the old format, and the next one begins anew. Who is killed in the third leaves no pool at all: whoever
makes it takes over what was moved aside (`layout`).
"""

from __future__ import annotations

import json
import os
import time

from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE
from leasecap._errors import StoreError
from leasecap._faults import faults
from leasecap._file_store.layout import (
    FEEDBACK,
    FORMAT,
    OLDER,
    Incomplete,
    OlderFormat,
    Pool,
    build,
    check,
    pool_path,
    remove_tree,
    stands_at,
)
from leasecap._file_store.observer import Observer
from leasecap._file_store.pool_lock import pool_lock
from leasecap._file_store.thefts import Thefts
from leasecap._host.file_system import file_system
from leasecap._liveness.record import MAX_BYTES, called, decode_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.pool_name import PoolName
    from leasecap._file_store.section import Section
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects

CLOSED = ".queue"
_PLACES = (QUEUE, CLOSED, PARKED, GRANTED, LEASES)
_TRIES, _PAUSE = 200, 0.005  # at the old pool's own lock
_STALE_AFTER, _HEARTBEAT = 30.0, 10.0  # no matter: to see a heartbeat stand still takes longer than this looks
_MOST_NAMED = 8
_MOST_BYTES = 1 << 20  # of a file of the feedback; all of ours are far below


def refusal(directory: Directory, version: object, users: list[str] | None = None) -> StoreError:
    """What to say to who is too old, or too new, for the pool.

    :param users: who is in it; unset: all that its records name.
    """
    users = _users(directory) if users is None else users
    used = f"; in it: {_listed(users)}" if users else ""
    older = type(version) is int and 1 <= version < FORMAT
    if older and not users:
        todo = "the next call for a slot makes it anew, and keeps what the provider's answers have taught"
    elif older:
        todo = (
            "an earlier leasecap made it. Start the processes that are in it again, with this version: who holds a "
            "slot keeps it until then. When none of them is left the next call makes the pool anew; else remove "
            f"{directory.path}"
        )
    else:
        todo = (
            "another version of leasecap made it. Use one for all agents: start this process again with that version "
            f"(pid {os.getpid()}); or end those that use the pool, and remove {directory.path}"
        )
    return StoreError(
        f"has format {version!r}, and this leasecap knows format {FORMAT}{used}",
        path=directory.full("pool.json"),
        remedy=todo,
    )


def _users(directory: Directory) -> list[str]:
    """Who is in the pool by its records, as far as they can be read."""
    found = {_called(directory, where, name): None for where in _PLACES for name in _names(directory, where)}
    return list(found)  # each process once


def _called(directory: Directory, where: str, name: str) -> str:
    try:
        record = decode_record(directory.read(f"{where}/{name}/info.json", MAX_BYTES + 1))
    except OSError:
        record = None
    return f"an unreadable record ({where}/{name})" if record is None else called(record)


def _listed(users: list[str]) -> str:
    more = len(users) - _MOST_NAMED
    return ", ".join(users[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _names(directory: Directory, where: str) -> list[str]:
    try:
        return [name for name in directory.list(where) if name[0] != "."]
    except FileNotFoundError:
        return []


def replace_older(effects: Effects, root: str, name: PoolName, lock: str) -> None:
    """Put a new pool in the place of one of an earlier format, if nobody lives in that; then open it again.

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
    """What the pool in this very directory is, as it is going to stay."""
    try:
        check(directory, name)
    except OlderFormat as older:
        return older
    except Incomplete:
        pass  # of this format
    return None


def _replaced(effects: Effects, pool: Pool, lock: str, older: OlderFormat) -> list[str]:
    """Replace the pool if it still stands; returns the paths of what is no longer needed."""
    observer = Observer(effects, pool, stale_after=_STALE_AFTER, heartbeat=_HEARTBEAT)
    section = pool_lock(effects, pool, observer, Thefts(pool.directory))
    try:
        enter(section, pool)
        try:
            path = pool_path(pool.root, pool.name)
            # Else it was replaced while this waited for its lock.
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
        f"the pool's own lock has been held for over a second by {section.occupant().who}; it takes milliseconds",
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
            pools.rename(new, name.directory)  # it fails if somebody made a pool in this moment
        except BaseException:
            remove_tree(pools.full(new))
            raise
        return [*before, pools.full(aside)]
    finally:
        pools.close()


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
        pass  # it isn't closed; or those who are in it are told that the pool is damaged


def _refuse_if_live(directory: Directory, observer: Observer, older: OlderFormat) -> None:
    live = live_in(directory, observer)
    if live:
        reopen(directory)  # whoever was killed half-way had closed it
        raise refusal(directory, older.version, live)


def live_in(directory: Directory, observer: Observer) -> list[str]:
    """Who holds or waits in the pool, each once; judged as for reaping."""
    live = (
        _called(directory, where, name)
        for where in _PLACES
        for name in _names(directory, where)
        if observer.lives(where, name)
    )
    return list(dict.fromkeys(live))


def moved_aside(pools: Directory, name: PoolName) -> list[str]:
    """The paths of earlier pools of that name whose place nobody had taken when they were moved aside."""
    return [pools.full(each) for each in pools.list(".") if each.startswith(f"{OLDER}{name.directory}-")]


def take_over(effects: Effects, path: str, target: Directory) -> None:
    """Copy what the provider's answers have taught: the state, reports that nobody took up, and cooling marks.

    :raises OSError: when it can't be read or written: without a pause or a reduced limit the pool would give too much.
    """
    try:
        source = effects.directory(path)
        names = source.list(FEEDBACK)
    except FileNotFoundError:
        return  # nothing was taught; or somebody else was first, and has it
    try:
        target.make(FEEDBACK)
    except FileExistsError:
        pass
    for name in names:
        if "." in name and name != "state.json":
            continue  # half made
        try:
            target.write(f"{FEEDBACK}/{name}", source.read(f"{FEEDBACK}/{name}", _MOST_BYTES))
        except (FileNotFoundError, FileExistsError):
            pass  # taken up meanwhile, or taken over before


def is_replaced(effects: Effects, root: str, directory: str) -> bool:
    """Whether the pool in that directory is of this format, so that what was moved aside for it is no longer needed."""
    try:
        pool = effects.directory(os.path.join(root, "pools", directory))
        try:
            return bool(json.loads(pool.read("pool.json", _MOST_BYTES))["format"] == FORMAT)
        finally:
            pool.close()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
