"""The parts of a pool's directory, and where it stands."""

from __future__ import annotations

import os

from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING, STOLEN, TRASH
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.pool_name import PoolName
    from leasecap._host.directory import Directory

FORMAT = 3
"""The number rises when the protocol changes. A version that only adds something keeps it: others ignore what was
added."""

BOOT, ARRIVAL = "boot", "arrival"  # what a queue is ordered by; see `order`

FEEDBACK = "feedback"  # a directory, made with the first report
LATENCY = "latency"  # a directory, made with the first time that is noted
OLDER = ".older-"
"""A pool of an earlier format that was moved aside has this before its own name (`formats`)."""
CLOSED = ".queue"
"""The name of the queue in a pool that is to be removed or replaced. Without ``queue/`` nothing can be granted."""
NEW = ".new-"
"""The name of a pool that is being made begins with this."""
DIRECTORIES = (QUEUE, PARKED, GRANTED, LEASES, STAGING, TRASH, STOLEN)
ENTRY_PLACES = (QUEUE, CLOSED, PARKED, GRANTED, LEASES)


class Pool(NamedTuple):
    """An open pool.

    :ivar root: the root's path.
    :ivar kind: the kind of its lock, "os" or "directory".
    :ivar local: whether only this machine can write to it.
    :ivar order: what the queue is ordered by, "boot" or "arrival" (`order`).
    :ivar description: device and inode of ``pool.json`` when it was opened; None: it isn't compared (`repair`).
    """

    root: str
    name: PoolName
    directory: Directory
    kind: str
    local: bool
    order: str = BOOT
    description: tuple[int, int] | None = None


class OlderFormat(Exception):
    """The pool is of an earlier format."""

    def __init__(self, version: int, kind: str) -> None:
        super().__init__(version, kind)
        self.version = version
        self.kind = kind


class Incomplete(Exception):
    """Parts of the pool are missing; ``kind`` is the kind of its lock, "" if that isn't known."""

    def __init__(self, parts: tuple[str, ...], kind: str) -> None:
        super().__init__(parts, kind)
        self.parts = parts
        self.kind = kind


def pool_path(root: str, name: PoolName) -> str:
    """Where the pool of that name is, or will be."""
    return os.path.join(root, "pools", name.directory)


def is_made(root: str, name: PoolName) -> bool:
    """Whether anything stands there, as far as that can be told."""
    try:
        os.lstat(pool_path(root, name))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # to open the pool will say what is wrong
    return True


def inode_of(directory: Directory, part: str) -> tuple[int, int] | None:
    """Device and inode of what stands there; None: nothing."""
    try:
        found = directory.stat(part)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def stands_at(directory: Directory, path: str) -> bool:
    """Whether this very directory stands at ``path``.

    :raises OSError: when that can't be told.
    """
    try:
        here = directory.stat()  # where names aren't relative to a descriptor, it fails once the directory is gone
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def remove_tree(path: str) -> None:
    """Remove a directory and all that is in it, as far as that can be done."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)
