"""OS locks on open files."""

from __future__ import annotations

import errno
import sys

if sys.platform == "win32":  # no shared probe, and a directory with an open file in it can't be renamed
    fcntl = None
else:
    # filelock's lock_descriptor() makes the same call, so both contend for one lock. filelock isn't used here because
    # its import is slow, and because it has no shared lock, which a probe needs.
    import fcntl

NO_OS_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""What flock says on a file system that has no locks (EINVAL: some FUSE file systems)."""

_HELD_BY_ANOTHER = (errno.EWOULDBLOCK, errno.EACCES)


def try_lock(fd: int) -> bool:
    """Try once to take the exclusive lock; False while another open file holds it.

    :raises OSError: one of `NO_OS_LOCKS` where the file system has none.
    """
    if fcntl is None:
        raise OSError(errno.ENOSYS, "no flock on this platform")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD_BY_ANOTHER:
            return False
        raise
    return True


def unlock(fd: int) -> None:
    """Give the lock back."""
    if fcntl is None:
        raise OSError(errno.ENOSYS, "no flock on this platform")
    fcntl.flock(fd, fcntl.LOCK_UN)


def is_locked(fd: int) -> bool | None:
    """Whether another open file holds the exclusive lock; None where that can't be told."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return True if error.errno in _HELD_BY_ANOTHER else None
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
