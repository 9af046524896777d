"""Turning an OSError into an error that a person can act on."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager

from leasecap._errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_ELSEWHERE = "or set LEASECAP_HOME to a directory that every agent may write (all must use the same one)"

_NO_LOCKS = (
    "this pool was made with OS locks, and here they can't be had (another mount or file server?): put the root on a "
    'local file system, or set lock = "directory" for the pool and remove its directory when no agent uses it'
)

_FEW_INODES = 64
"""With so few inodes left, there was none when the step failed: it has removed what it had half made since."""

_REMEDIES = {
    errno.ENOLCK: _NO_LOCKS,
    errno.ENOSYS: _NO_LOCKS,
    errno.EOPNOTSUPP: _NO_LOCKS,
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your disk quota is used up: free some space",
    errno.EROFS: f"mount it writable, {_ELSEWHERE}",
    errno.EACCES: f"make it writable for this user, {_ELSEWHERE}; `leasecap doctor` tells what a sandbox allows",
    errno.EPERM: f"make it writable for this user, {_ELSEWHERE}; `leasecap doctor` tells what a sandbox allows",
    errno.EXDEV: f"a sandbox (Landlock) forbids to rename between directories here: allow it to, {_ELSEWHERE}",
    errno.EMFILE: "this process has too many open files: raise `ulimit -n` or close some",
    errno.ENFILE: "the machine has too many open files: close some",
    errno.ELOOP: "a symlink stands where a plain file or directory belongs: remove it, or name its target",
    errno.ENOTDIR: "something else stands where a directory belongs: move it away",
    errno.EINVAL: "something else stands where a plain file belongs: move it away",
    errno.ENXIO: "something else stands where a plain file belongs: move it away",
    errno.EISDIR: "a directory stands where a plain file belongs: move it away",
    errno.ENOENT: "it was removed while in use: try again, and don't delete the root while agents run",
    errno.ESTALE: "the file server forgot this directory: mount it again, then try again",
    errno.EIO: "the file system failed to read or write: check the disk, then try again",
    errno.ENAMETOOLONG: f"the path is too long for this file system: use a shorter pool name, {_ELSEWHERE}",
}


def store_error(error: OSError, path: str) -> StoreError:
    """``error`` as a `StoreError` about ``path``."""
    what = error.strerror or str(error)
    remedy = _REMEDIES.get(error.errno or 0, "run `leasecap doctor` for a check of the whole root")
    if error.errno == errno.ENOSPC and not _has_inodes(path):
        remedy = "the file system has no inode left, though it may have space: remove files that nobody needs (`df -i`)"
    return StoreError(f"{what[:1].lower()}{what[1:]}", path=path, remedy=remedy)


def no_directory(path: str) -> StoreError:
    """The error about what stands at ``path``, where the root or a directory on the way to it belongs."""
    remedy = "something else stands where a directory belongs: move it away, or set LEASECAP_HOME to a directory"
    return StoreError("is no directory", path=path, remedy=remedy)


def _has_inodes(path: str) -> bool:
    if sys.platform == "win32":
        return True
    while True:
        try:
            found = os.statvfs(path)
        except OSError:
            if path == os.path.dirname(path):
                return True
            path = os.path.dirname(path)
        else:
            return found.f_files == 0 or found.f_favail > _FEW_INODES  # btrfs gives no number of inodes


@contextmanager
def faults(path: str) -> Iterator[None]:
    """Turn an OSError of the block into a `StoreError` about ``path``."""
    try:
        yield
    except OSError as error:
        raise store_error(error, path) from error
