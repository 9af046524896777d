"""The lock of a pool where the file system has OS locks: an OS lock on the file ``lock``, which is never unlinked."""

from __future__ import annotations

import errno
import threading

from leasecap._faults import faults
from leasecap._file_store.section import Occupant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects


_TRIES = 3
"""Tries to lock the file ``lock`` when another file keeps taking its place."""


class OsLock:
    """An OS lock, with a mutex round it.

    The OS lock belongs to the open file description. This process's threads share one, so without the mutex two of them
    would both get the lock.
    """

    def __init__(
        self,
        effects: Effects,
        directory: Directory,
        assure: Callable[[tuple[int, int] | None], bool] = lambda inode: True,
    ) -> None:
        """
        :param assure: called inside with device and inode of the file that was locked; returns False if another file
            has taken its place.
        :raises StoreError: when the lock file can't be opened, or is no plain file.
        """
        self._effects = effects
        self._directory = directory
        self._assure = assure
        self._mutex = threading.Lock()
        self._forgotten = False
        # Opened here and not when first entered: a fork must not copy a descriptor that isn't noted yet (`_runtime`).
        with faults(directory.full("lock")):
            self._fd: int | None = self._open()
        self._stays = 0
        self.token = ""  # only a lock directory can be stolen, so grants need no signature here

    def _open(self) -> int:
        if self._forgotten:
            raise OSError(errno.EBADF, "a fork's child used the parent's pool")
        fd = self._directory.open("lock")
        self._inode = self._effects.inode(fd)
        return fd

    def try_enter(self) -> bool:
        """Try once.

        :raises OSError: when the lock file can't be locked at all, or isn't the pool's any more.
        """
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            for _ in range(_TRIES):
                self._keep_own()
                if self._fd is None:
                    self._fd = self._open()
                if not self._effects.lock(self._fd):
                    break
                if self._is_the_pools(self._fd):
                    return True
                self.close()  # that unlocks it
        except BaseException:
            self._mutex.release()
            raise
        self._mutex.release()
        return False

    def _is_the_pools(self, fd: int) -> bool:
        try:
            # The mark is written first of all. While the last stay's mark is there, those who wait take this process
            # for one that has been inside ever since. Its width is fixed, so the file needs no truncation.
            self._stays += 1
            stay = b"%-10d %016x\n" % (self._effects.me().pid, self._stays)
            self._effects.write_at_start(fd, stay)
        except OSError:
            pass  # a full disk must not keep anybody from releasing
        except BaseException:
            self._unlock()
            raise
        try:
            return self._assure(self._inode)
        except BaseException:
            self._unlock()
            raise

    def _keep_own(self) -> None:
        """Forget the descriptor if the program has closed it (`os.closerange`): the number may be its own by now."""
        if self._fd is not None and self._effects.inode(self._fd) != self._inode:
            self._fd = None

    def _unlock(self) -> None:
        self._keep_own()
        try:
            if self._fd is not None:
                self._effects.unlock(self._fd)
        except OSError:
            self.close()  # that unlocks it too. Else nobody could get in as long as this process lives.

    def is_ours(self) -> bool:
        return True

    def leave(self) -> bool:
        """Give the section back; True, since it can't be taken from this process."""
        try:
            self._unlock()
        finally:
            self._mutex.release()
        return True

    def occupant(self) -> Occupant:
        """Who seems to be inside."""
        try:
            written = self._directory.read("lock", 64).decode("ascii", "replace")
            return Occupant(f"pid {int(written.split()[0])}", written)
        except (OSError, ValueError, IndexError):
            return Occupant("an unknown process", "")

    def forget(self) -> None:
        """In a fork's child: close without unlocking, which would free the parent's lock."""
        self._forgotten = True
        self.close()

    def retire(self) -> bool:
        # A thread that is inside would go on deciding without the lock.
        if not self._mutex.acquire(blocking=False):
            return False
        self.close()
        return True

    def close(self) -> None:
        """Close the file; it is opened again when the section is next entered."""
        self._keep_own()
        fd, self._fd = self._fd, None
        if fd is not None:
            self._effects.close(fd)
