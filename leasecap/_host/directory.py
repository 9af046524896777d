"""A directory and the files below it."""

from __future__ import annotations

import errno
import os
import stat

from leasecap._host.file_lock import is_locked
from leasecap._moving import patiently

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # opening a planted FIFO must fail, not hang
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)


_HAS_DIR_FD = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd and os.listdir in os.supports_fd

NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EINVAL})
"""What opening a file says where there is none, or where something else stands (a link, a socket, a directory). Then
there are no contents; any other error says nothing about them."""


class Directory:
    """A directory, and what is done to the files below it; names are relative to it and never leave it.

    Where the platform allows, everything is relative to an open descriptor: the directory that was checked is the one
    that is used, whatever its path means later.
    """

    __slots__ = ("_fd", "_inode", "path")

    def __init__(self, path: str) -> None:
        """:raises OSError: ELOOP or ENOTDIR when ``path`` is a symlink or no directory."""
        self.path = path
        self._fd: int | None = None
        if _HAS_DIR_FD:
            self._fd = os.open(path, os.O_RDONLY | _DIRECTORY | _NOFOLLOW)
            self._inode = inode(self._fd)
        elif not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)

    def close(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            close_own(fd, self._inode)

    def renew(self) -> bool:
        """Open it again if the program has closed the descriptor (`os.closerange`). The number may be the program's by
        now.

        Returns whether it had to be opened again.

        :raises OSError: when it isn't there any more.
        """
        if self._fd is None or inode(self._fd) == self._inode:
            return False
        fd = os.open(self.path, os.O_RDONLY | _DIRECTORY | _NOFOLLOW)
        if inode(fd) != self._inode:
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        self._fd = fd
        return True

    def __del__(self) -> None:
        # Nobody else could close the directory of a pool that was refused half-opened, or that was replaced.
        self.close()

    def full(self, name: str) -> str:
        """The path of ``name``, for a message."""
        return os.path.join(self.path, name)

    def _at(self, name: str) -> str:
        return name if self._fd is not None else os.path.join(self.path, name)

    def stat(self, name: str = "") -> os.stat_result:
        """lstat of ``name``, or of the directory itself."""
        if not name and self._fd is not None:
            return os.fstat(self._fd)
        return os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)

    def list(self, name: str) -> list[str]:
        """The names in the directory ``name``."""
        if self._fd is None:
            return os.listdir(self._at(name))
        fd = os.open(name, os.O_RDONLY | _DIRECTORY | _NOFOLLOW, dir_fd=self._fd)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def make(self, name: str) -> None:
        os.mkdir(self._at(name), 0o700, dir_fd=self._fd)

    def rename(self, old: str, new: str) -> None:
        patiently(os.rename, self._at(old), self._at(new), src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        patiently(os.unlink, self._at(name), dir_fd=self._fd)

    def rmdir(self, name: str) -> None:
        patiently(os.rmdir, self._at(name), dir_fd=self._fd)

    def _open(self, name: str, flags: int) -> int:
        return self._open_and_stat(name, flags)[0]

    def _open_and_stat(self, name: str, flags: int) -> tuple[int, os.stat_result]:
        try:
            fd = os.open(self._at(name), flags | _NOFOLLOW | _NONBLOCK | _BINARY, 0o600, dir_fd=self._fd)
        except PermissionError:
            if os.path.isdir(self.full(name)):  # Windows refuses to open one
                raise OSError(errno.EINVAL, "not a regular file", self.full(name)) from None
            raise
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", self.full(name))
        return fd, found

    def read(self, name: str, limit: int) -> bytes:
        """At most ``limit`` bytes of the file."""
        return self.read_and_stat(name, limit)[0]

    def read_and_stat(self, name: str, limit: int) -> tuple[bytes, os.stat_result]:
        """At most ``limit`` bytes of the file, and the stat of that very file: asked by name it could be another's."""
        fd, found = self._open_and_stat(name, os.O_RDONLY)
        try:
            return os.read(fd, limit), found
        finally:
            os.close(fd)

    def write(self, name: str, data: bytes) -> None:
        """Write a new file; one that exists is an error (EEXIST)."""
        fd = self._open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)

    def replace(self, name: str, data: bytes) -> None:
        """Put ``data`` in place of the file, whole or not at all.

        No fsync: what stands here describes running processes, and a crash of the machine ends those.
        """
        while not self._replace(name, data):
            pass  # this process was stopped for so long that the new file was swept away as a leftover

    def _replace(self, name: str, data: bytes) -> bool:
        aside = f"{name}.{os.urandom(6).hex()}"
        try:
            self.write(aside, data)
        except OSError:
            self._unlink_aside(aside)
            raise
        try:
            patiently(os.replace, self._at(aside), self._at(name), src_dir_fd=self._fd, dst_dir_fd=self._fd)
        except FileNotFoundError:
            return False
        except OSError:
            self._unlink_aside(aside)
            raise
        return True

    def _unlink_aside(self, aside: str) -> None:
        try:
            self.unlink(aside)
        except OSError:
            pass  # the first error says more

    def overwrite(self, name: str, data: bytes) -> None:
        """Write ``data`` over the start of an existing file.

        A watcher of the directory sees a modified event (which os.utime no longer yields).
        """
        fd = self._open(name, os.O_WRONLY)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)

    def open(self, name: str, *, create: bool = False) -> int:
        """A descriptor to lock and to write through."""
        return self._open(name, os.O_RDWR | (os.O_CREAT if create else 0))

    def listen(self, name: str) -> int:
        """Make a named pipe that can be read from at once; returns the descriptor.

        Make it under another name first: until it is open it looks like one whose process has exited (`has_receiver`).

        :raises OSError: where none can be made.
        """
        if not hasattr(os, "mkfifo"):
            raise OSError(errno.ENOSYS, "no named pipes on this platform")
        try:
            if os.mkfifo in os.supports_dir_fd:
                os.mkfifo(self._at(name), 0o600, dir_fd=self._fd)
            else:  # macOS before 13. If the path means another directory by now, the opening below fails.
                os.mkfifo(self.full(name), 0o600)
        except NotImplementedError as error:
            raise OSError(errno.ENOSYS, "no named pipes on this platform") from error
        # It is opened for writing too: else it would read as ended whenever no granter has it open.
        return os.open(self._at(name), os.O_RDWR | _NONBLOCK | _NOFOLLOW, dir_fd=self._fd)

    def notify(self, name: str, line: bytes) -> None:
        """Write to a wake-up; never blocks. A named pipe takes the line whole or not at all, a plain file at its start.

        :raises OSError: ENXIO when nobody listens to the pipe, EAGAIN when it is full.
        """
        fd, _ = self._open_wakeup(name)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def _open_wakeup(self, name: str) -> tuple[int, bool]:
        """A descriptor, and whether it is a pipe."""
        fd = os.open(self._at(name), os.O_WRONLY | _NOFOLLOW | _NONBLOCK | _BINARY, dir_fd=self._fd)
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
            os.close(fd)
            raise OSError(errno.EINVAL, "neither a pipe nor a file", self.full(name))
        return fd, stat.S_ISFIFO(mode)

    def has_receiver(self, name: str) -> bool | None:
        """Whether somebody has this pipe open, or this plain file locked; None if that can't be told."""
        try:
            fd, is_pipe = self._open_wakeup(name)
        except OSError as error:
            return False if error.errno == errno.ENXIO else None
        try:
            return True if is_pipe else is_locked(fd)
        finally:
            os.close(fd)

    def probe(self, name: str, limit: int = 0) -> tuple[bool | None, bytes | None]:
        """Whether somebody holds the OS lock on the file (None if that can't be told), and ``limit`` bytes of it.

        The bytes are None if they can't be read, and empty where there is no file.

        The probe is a shared lock on a read-only descriptor: with an exclusive one the next prober would say "held". It
        is unlocked before the descriptor is closed: a fork may have copied that, and the copy would keep the lock.
        """
        try:
            fd = self._open(name, os.O_RDONLY)
        except OSError as error:
            return None, b"" if error.errno in NO_FILE else None
        held = None
        try:
            held = is_locked(fd)
            return held, os.read(fd, limit)
        except OSError:
            return held, None
        finally:
            os.close(fd)


def inode(fd: int) -> tuple[int, int] | None:
    """Device and inode of what is open there; None: nothing is."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def close_own(fd: int, own: tuple[int, int] | None) -> None:
    """Close the descriptor if it still is what was opened, with this device and inode. Else the number is the
    program's."""
    if inode(fd) == own:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it."""
    # A regular file takes everything at once or has no room: after a short write the next one says ENOSPC.
    while data:
        data = data[os.write(fd, data) :]
