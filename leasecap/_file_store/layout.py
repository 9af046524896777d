"""A pool's directory: made whole or not at all, and checked when it is opened."""

from __future__ import annotations

import errno
import json
import os
import stat

from leasecap._config.pool_name import PoolName, pool_name
from leasecap._config.root import make_root
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING, STOLEN, TRASH
from leasecap._errors import ConfigError, StoreError
from leasecap._faults import faults, store_error
from leasecap._host.file_lock import NO_OS_LOCKS
from leasecap._host.file_system import file_system
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects

FORMAT = 2
"""Rises when the protocol changes. What one version only adds others ignore, and do without."""

BOOT, ARRIVAL = "boot", "arrival"  # what a queue is ordered by; see `order`

FEEDBACK = "feedback"  # made when there is any
OLDER = ".older-"
"""How the name of a pool of an earlier format begins that was moved aside (`formats`); its own name follows."""
NEW = ".new-"
"""How the name of a pool begins that is being made."""
_TRIES = 5  # at a pool that others make, move away or replace at the same time
_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EACCES})
_MOST_BYTES = 16_384  # of its description
_DIRECTORIES = (QUEUE, PARKED, GRANTED, LEASES, STAGING, TRASH, STOLEN)


class Pool(NamedTuple):
    """An open pool.

    :ivar root: the root's path.
    :ivar kind: of the critical section, "os" or "directory".
    :ivar local: whether only this machine can write it.
    :ivar counts: whether a directory's link count tells how many directories are in it.
    :ivar order: what the queue is ordered by, "boot" or "arrival" (`order`).
    :ivar description: device and inode of ``pool.json`` when it was opened; None: it isn't compared (`repair`).
    """

    root: str
    name: PoolName
    directory: Directory
    kind: str
    local: bool
    counts: bool = False
    order: str = BOOT
    description: tuple[int, int] | None = None


class OlderFormat(Exception):
    """The pool is of an earlier format."""

    def __init__(self, version: int, kind: str) -> None:
        super().__init__(version, kind)
        self.version = version
        self.kind = kind


class Incomplete(Exception):
    """Parts of the pool are missing; ``kind`` is that of its lock, "" if it isn't known."""

    def __init__(self, parts: tuple[str, ...], kind: str) -> None:
        super().__init__(parts, kind)
        self.parts = parts
        self.kind = kind


def pool_path(root: str, name: PoolName) -> str:
    """Where the pool of that name is, or will be."""
    return os.path.join(root, "pools", name.directory)


def name_on_disk(effects: Effects, root: str, directory: str) -> PoolName:
    """The name of the pool in the directory of that name below ``pools/``, as far as it can be read."""
    try:
        description = effects.directory(os.path.join(root, "pools", directory)).read("pool.json", _MOST_BYTES)
        name = pool_name(json.loads(description)["name"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError):
        return PoolName(directory, directory, directory)  # opening it will say what is wrong
    return name if name.directory == directory else PoolName(directory, directory, directory)


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
        from leasecap._file_store.formats import refusal

        raise refusal(effects.directory(pool_path(root, name)), older.version) from None
    except Incomplete as incomplete:
        from leasecap._file_store.repair import explain

        with faults(pool_path(root, name)):
            raise explain(effects, root, name, incomplete) from None


def _open(effects: Effects, root: str, name: PoolName) -> Pool:
    path = pool_path(root, name)
    pools = os.path.dirname(path)
    try:
        if not stat.S_ISDIR(os.lstat(pools).st_mode):  # opening the pool would follow a symlink here
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
            links, description = directory.stat().st_nlink, inode_of(directory, "pool.json")
    except BaseException:
        directory.close()
        raise
    local = file_system(path).local  # elsewhere what a stat says can be some seconds old
    # Two more than the directories in it on ext4, xfs and tmpfs; 1 on btrfs. The pool's own directory says which. Not
    # where a section can be stolen: who was robbed may be granting beside the one who looks.
    counts = kind == "os" and local and links >= 2 + len(_DIRECTORIES)
    return Pool(root, name, directory, kind, local, counts, order, description)


def check(directory: Directory, name: PoolName) -> tuple[str, str]:
    """Check what is in a pool's directory; returns the kind of lock and of order.

    :raises OlderFormat, Incomplete, StoreError: when this leasecap can't use it as it is.
    """
    path = directory.full("pool.json")
    try:
        data = directory.read("pool.json", _MOST_BYTES)
    except FileNotFoundError:
        raise Incomplete(("pool.json", *_missing(directory, "lock", *_DIRECTORIES)), "") from None
    except OSError as error:
        raise store_error(error, path) from error
    try:
        found = json.loads(data)
        version, identity, kind = found["format"], found["identity"], found["lock"]
        order = found.get("order", BOOT)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            "is not a pool's description (truncated, or not written by leasecap)",
            path=path,
            remedy=f"when no agent uses the pool any more (`leasecap status`), remove {directory.path}",
        ) from error
    older = type(version) is int and 1 <= version < FORMAT
    if not older and (version != FORMAT or type(version) is not int):
        from leasecap._file_store.formats import refusal

        raise refusal(directory, version)
    if identity != name.identity or kind not in ("os", "directory") or order not in (BOOT, ARRIVAL):
        raise StoreError(
            f"describes the pool {identity!r} with lock {kind!r} and order {order!r}, not {name.identity!r}",
            path=path,
            remedy=f"it was edited or copied there: when no agent uses it, remove {directory.path}",
        )
    if older:
        raise OlderFormat(version, kind)
    missing = _missing(directory, *(("lock",) if kind == "os" else ()), *_DIRECTORIES)
    if missing:
        raise Incomplete(missing, kind)
    return kind, order


def _missing(directory: Directory, *parts: str) -> tuple[str, ...]:
    missing = []
    for part in parts:
        with faults(directory.full(part)):
            try:
                mode = directory.stat(part).st_mode
            except FileNotFoundError:
                missing.append(part)
                continue
            if part in _DIRECTORIES and not stat.S_ISDIR(mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return tuple(missing)


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
                return  # stopped for so long that it was swept away as a leftover
            except OSError as error:
                remove_tree(pools.full(new))
                if error.errno not in _OCCUPIED:
                    raise
                return  # another process was first: use its pool (what else stands there, opening it will say)
            _take_over_the_rest(effects, pools, name, older)
        finally:
            pools.close()


def _moved_aside(pools: Directory, name: PoolName) -> list[str]:
    if not any(each.startswith(OLDER) for each in pools.list(".")):
        return []
    from leasecap._file_store.formats import moved_aside

    return moved_aside(pools, name)


def _take_over_the_rest(effects: Effects, pools: Directory, name: PoolName, taken: list[str]) -> None:
    """What was moved aside while the new pool was being built, before it took the place."""
    found = _moved_aside(pools, name)
    for path in found:
        if path not in taken:
            from leasecap._file_store.formats import take_over

            take_over(effects, path, effects.directory(pools.full(name.directory)))
    for path in (*taken, *found):
        remove_tree(path)


def build(effects: Effects, root: str, name: PoolName, lock: str, older: Sequence[str]) -> str:
    """Make a pool aside, to be renamed into place, or two creators see each other's halves; returns its name.

    :param older: paths of pools whose place it takes, from which feedback is taken over.
    :raises OSError, StoreError: with nothing left behind.
    """
    path = pool_path(root, name)
    new = f"{NEW}{effects.token()}"
    aside = os.path.join(root, "pools", new)
    os.mkdir(aside, 0o700)
    try:
        directory = effects.directory(aside)
        try:
            for part in _DIRECTORIES:
                directory.make(part)
            directory.write("lock", b"%-10d\n" % 0)
            directory.write("sweep", b"0" * 16)
            kind = kind_of_lock(effects, directory, lock, path)
            directory.write("pool.json", describe(effects, name, kind, file_system(aside).local))
            for each in older:
                from leasecap._file_store.formats import take_over

                take_over(effects, each, directory)
        finally:
            directory.close()
    except BaseException:
        remove_tree(aside)
        raise
    return new


def describe(effects: Effects, name: PoolName, kind: str, local: bool) -> bytes:
    """The contents of ``pool.json``."""
    order = BOOT if local and effects.me().boot_offset is not None else ARRIVAL
    description = {"format": FORMAT, "name": name.text, "identity": name.identity, "lock": kind, "order": order}
    return json.dumps(description).encode()


def kind_of_lock(effects: Effects, directory: Directory, lock: str, path: str) -> str:
    """The kind that a new pool with these settings gets; ``path`` is for the error."""
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


def inode_of(directory: Directory, part: str) -> tuple[int, int] | None:
    """Device and inode of what stands there; None: nothing."""
    try:
        found = directory.stat(part)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def stands_at(directory: Directory, path: str) -> bool:
    """Whether it is this very directory that stands at ``path``.

    :raises OSError: when that can't be told.
    """
    here = directory.stat()
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def remove_tree(path: str) -> None:
    """Remove a directory and all that is in it, as far as that can be done."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)
