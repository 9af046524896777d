"""The lock of a pool where the file system has OS locks: one on the file ``lock``, which is never unlinked."""

from __future__ import annotations

import errno
import threading

from leasecap._faults import faults
from leasecap._file_store.section import Occupant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects


class OsLock:
    """An OS lock, with a mutex round it.

    The lock belongs to the open file description: two threads of this process that share one would both "get" it.
    """

    def __init__(self, effects: Effects, directory: Directory) -> None:
        """:raises StoreError: when the lock file can't be opened, or is no plain file."""
        self._effects = effects
        self._directory = directory
        self._mutex = threading.Lock()
        # Opened here and not when first entered: a fork must not find it open and not yet known (`_runtime`).
        with faults(directory.full("lock")):
            self._fd: int | None = directory.open("lock")
        self._forgotten = False
        self._stays = 0
        self.token = ""  # only a lock directory can be stolen, so grants needn't say which section made them

    def try_enter(self) -> bool:
        """Try once.

        :raises OSError: when the lock file can't be locked at all.
        """
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            if self._fd is None:
                if self._forgotten:
                    raise OSError(errno.EBADF, "a fork's child used the parent's pool")
                self._fd = self._directory.open("lock")
            if self._effects.lock(self._fd):
                try:
                    # For the error of whoever waits too long behind us; fixed width, so it needs no truncation.
                    self._stays += 1
                    stay = b"%-10d %016x\n" % (self._effects.me().pid, self._stays)
                    self._effects.write_at_start(self._fd, stay)
                except OSError:
                    pass  # a full disk must not keep anybody from releasing
                return True
        except BaseException:
            self._mutex.release()
            raise
        self._mutex.release()
        return False

    def leave(self) -> bool:
        """Give the section back; True: it was ours to the end."""
        try:
            if self._fd is not None:
                self._effects.unlock(self._fd)
        except OSError:
            self.close()  # that gives it back as well: nobody else could get in as long as we live
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

    def close(self) -> None:
        """Keep nothing open; it is opened again when it is next entered."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._effects.close(fd)
