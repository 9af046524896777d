"""Building a pool's directory, whole before it takes its place."""

from __future__ import annotations

import os

from leasecap._errors import StoreError
from leasecap._file_store.description import describe
from leasecap._file_store.layout import DIRECTORIES, NEW, pool_path, remove_tree
from leasecap._host.file_lock import NO_OS_LOCKS
from leasecap._host.file_system import file_system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from leasecap._config.pool_name import PoolName
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects


def build(effects: Effects, root: str, name: PoolName, lock: str, older: Sequence[str]) -> str:
    """Make a pool under a name of its own, so that nobody sees half of it; returns the name. The caller renames it.

    :param older: paths of the pools whose place it takes; their feedback is copied.
    :raises OSError, StoreError: with nothing left behind.
    """
    path = pool_path(root, name)
    new = f"{NEW}{effects.token()}"
    aside = os.path.join(root, "pools", new)
    os.mkdir(aside, 0o700)
    try:
        directory = effects.directory(aside)
        try:
            for part in DIRECTORIES:
                directory.make(part)
            directory.write("lock", b"%-10d\n" % 0)
            directory.write("sweep", b"0" * 16)
            kind = kind_of_lock(effects, directory, lock, path)
            directory.write("pool.json", describe(effects, name, kind, file_system(aside).local))
            for each in older:
                from leasecap._file_store.moved_aside import take_over

                take_over(effects, each, directory)
        finally:
            directory.close()
    except BaseException:
        remove_tree(aside)
        raise
    return new


def kind_of_lock(effects: Effects, directory: Directory, lock: str, path: str) -> str:
    """The kind of lock that a new pool gets with this setting; ``path`` is for the error."""
    if lock == "directory":
        return lock
    fd = directory.open("lock")
    try:
        effects.lock(fd)
    except OSError as error:
        if error.errno not in NO_OS_LOCKS:
            raise
        if lock == "os":
            raise StoreError(
                f'the file system has no OS locks ({error.strerror}), and the configuration says lock = "os"',
                path=path,
                remedy='put the root on a local file system, or set lock = "directory" for this pool',
            ) from error
        return "directory"
    finally:
        effects.close(fd)
    return "os"
