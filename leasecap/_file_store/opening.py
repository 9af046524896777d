"""Opening a pool, which is made, replaced or repaired where that is called for."""

from __future__ import annotations

import errno
import os
import stat

from leasecap._config.root import make_root
from leasecap._faults import faults, store_error
from leasecap._file_store.description import check
from leasecap._file_store.layout import (
    OLDER,
    Incomplete,
    OlderFormat,
    Pool,
    inode_of,
    pool_path,
    remove_tree,
)
from leasecap._file_store.making import build
from leasecap._host.file_system import file_system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.pool_name import PoolName
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects


_TRIES = 5  # others may make, move away or replace the pool at the same time


_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EACCES})


def open_pool(effects: Effects, root: str, name: PoolName, lock: str) -> Pool:
    """Open the pool, creating it (and the root) if need be.

    :param lock: "os", "directory", or "auto": OS locks where the file system has them. Only counts for a new pool.
    :raises StoreError: when something is in the way, from the future, or not to be trusted.
    """
    make_root(root)
    for _ in range(_TRIES):
        try:
            return _open(effects, root, name)
        except FileNotFoundError:
            _create(effects, root, name, lock)
        except OlderFormat:
            from leasecap._file_store.formats import replace_older

            replace_older(effects, root, name, lock)
        except Incomplete:
            from leasecap._file_store.repair import repair

            repair(effects, root, name, lock)
    with faults(pool_path(root, name)):
        return open_existing(effects, root, name)


def open_existing(effects: Effects, root: str, name: PoolName) -> Pool:
    """Open the pool and write nothing.

    :raises FileNotFoundError: when there is no such pool.
    :raises StoreError: when it can't be used.
    """
    try:
        return _open(effects, root, name)
    except OlderFormat as older:
        from leasecap._file_store.refusal import refusal

        raise refusal(effects.directory(pool_path(root, name)), older.version) from None
    except Incomplete as incomplete:
        from leasecap._file_store.repair import explain

        with faults(pool_path(root, name)):
            raise explain(effects, root, name, incomplete) from None


def _open(effects: Effects, root: str, name: PoolName) -> Pool:
    path = pool_path(root, name)
    pools = os.path.dirname(path)
    try:
        if not stat.S_ISDIR(os.lstat(pools).st_mode):  # opening the pool below would follow a symlink
            path = pools
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        directory = effects.directory(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise store_error(error, path) from error
    try:
        kind, order = check(directory, name)
        with faults(path):
            description = inode_of(directory, "pool.json")
    except BaseException:
        directory.close()
        raise
    local = file_system(path).local
    return Pool(root, name, directory, kind, local, order, description)


def _create(effects: Effects, root: str, name: PoolName, lock: str) -> None:
    path = pool_path(root, name)
    with faults(path):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        pools = effects.directory(os.path.dirname(path))
        try:
            older = _moved_aside(pools, name)
            new = build(effects, root, name, lock, older)
            try:
                pools.rename(new, name.directory)
            except FileNotFoundError:
                return  # this process was stopped for so long that the new pool was swept away as a leftover
            except OSError as error:
                remove_tree(pools.full(new))
                if error.errno not in _OCCUPIED:
                    raise
                return  # another process was first, and its pool is used. Anything else there, opening it will refuse.
            _take_over_the_rest(effects, pools, name, older)
        finally:
            pools.close()


def _moved_aside(pools: Directory, name: PoolName) -> list[str]:
    if not any(each.startswith(OLDER) for each in pools.list(".")):
        return []
    from leasecap._file_store.moved_aside import moved_aside

    return moved_aside(pools, name)


def _take_over_the_rest(effects: Effects, pools: Directory, name: PoolName, taken: list[str]) -> None:
    """Take over from what was moved aside while the new pool was being built."""
    found = _moved_aside(pools, name)
    for path in found:
        if path not in taken:
            from leasecap._file_store.moved_aside import take_over

            take_over(effects, path, effects.directory(pools.full(name.directory)))
    for path in (*taken, *found):
        remove_tree(path)
