"""The lock of a pool where there are no OS locks, or where several kernels share the root: a directory."""

from __future__ import annotations

import errno
import itertools
import threading
import time

from leasecap._file_store.section import Occupant
from leasecap._log import log_warning
from leasecap._threads import start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects

STAGED_LOCK = "lock-"
"""A name in ``staging/`` that begins with this is a claim of the lock directory, and no entry."""


_TRIES_HERE = 6
"""Tries to give the lock back where no thread can be had to go on trying."""


class LockDirectory:
    """A lock directory, for where there are no OS locks.

    ``lock.d`` is claimed by renaming a prepared directory onto it. That holds one file, which is named by a fresh token
    and has the holder's record in it. The rename fails while there is something in ``lock.d``, and works when it is
    absent or empty. Release and theft are each one step on that file, so exactly one of them wins, and neither can hit
    a successor: the holder unlinks it, a thief moves it to ``stolen/``. A holder whose unlink says ENOENT was robbed.
    """

    def __init__(
        self,
        effects: Effects,
        directory: Directory,
        record: Callable[[], bytes],
        is_dead: Callable[[str], bool],
        adopt: Callable[[str], None],
        assure: Callable[[], object] = lambda: None,
    ) -> None:
        """
        :param record: the bytes of a record of this process.
        :param is_dead: whether the owner of the record at this path is provably gone.
        :param adopt: vouches with this token for all that is held now; the first to enter after a theft calls it
            inside.
        :param assure: raises if the pool is no longer what it was when it was opened.
        """
        self._effects = effects
        self._directory = directory
        self._record = record
        self._is_dead = is_dead
        self._adopt = adopt
        self._assure = assure
        self._mutex = threading.Lock()
        self.token = ""

    def try_enter(self) -> bool:
        if not self._mutex.acquire(blocking=False):
            return False
        try:
            # To stage a claim writes to the disk, in vain while somebody is inside. So it looks first.
            if (not self._tokens() or self._steal()) and self._claim() and self._vouch():
                return True
        except BaseException:
            self._mutex.release()
            raise
        self._mutex.release()
        return False

    def _claim(self) -> bool:
        directory = self._directory
        token = self._effects.token()
        staged = f"staging/{STAGED_LOCK}{token}"
        directory.make(staged)
        try:
            directory.write(f"{staged}/{token}", self._record())
            for again in (True, False):
                try:
                    directory.rename(staged, "lock.d")
                except OSError as error:
                    # ENOTEMPTY or EEXIST say that it is held. Windows and some network file systems say EEXIST or
                    # EACCES of an empty one too. So it is removed if it is empty, and the claim is tried once more.
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES, errno.EPERM):
                        self._give_back(token)  # a file server may have renamed it and still report an error
                        raise
                    if not (again and self._remove_if_empty()):
                        return False
                else:
                    self.token = token
                    return True
            return False
        except FileNotFoundError:
            return False  # this process was stopped for as long as stale_after, and its claim was swept away
        finally:
            if self.token != token:
                self._discard(staged, token)

    def _vouch(self) -> bool:
        """Sign all that is held, so that later grants of those who were robbed stand out.

        Returns False if this process was robbed itself meanwhile, and isn't inside.
        """
        # A robbed holder that doesn't know it yet goes on granting, and signs with its old token.
        try:
            self._assure()
            for token in self._directory.list("stolen"):
                if token.partition(".")[0] == self.token:
                    # This process was stopped right after it entered, and robbed. If it signed now, the grants of
                    # others would be suspect.
                    self.token = ""
                    return False
                if not token.endswith(".known"):
                    self._adopt(self.token)
                    try:
                        self._directory.rename(f"stolen/{token}", f"stolen/{token}.known")
                    except FileNotFoundError:
                        pass  # another process vouches too: one of the two was robbed in the middle of this
        except BaseException:
            token, self.token = self.token, ""
            self._give_back(token)
            raise
        return True

    def _remove_if_empty(self) -> bool:
        try:
            self._directory.rmdir("lock.d")
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _discard(self, staged: str, token: str) -> None:
        try:
            self._directory.unlink(f"{staged}/{token}")
            self._directory.rmdir(staged)
        except OSError:
            pass  # in staging/ it blocks nobody, and it is swept with the other leftovers

    def _steal(self) -> bool:
        """Take the section from a holder that is provably gone; False if there is none."""
        for token in self._tokens():
            if self._is_dead(f"lock.d/{token}"):
                try:
                    self._directory.rename(f"lock.d/{token}", f"stolen/{token}")
                except FileNotFoundError:
                    continue  # it was released or stolen meanwhile
                return True
        return False

    def _tokens(self) -> list[str]:
        try:
            return self._directory.list("lock.d")
        except FileNotFoundError:
            return []

    def is_ours(self) -> bool:
        """Inside: whether the section wasn't taken from this process."""
        try:
            self._directory.stat(f"lock.d/{self.token}")
        except FileNotFoundError:
            return False
        except OSError:
            pass  # that can't be told
        return True

    def leave(self) -> bool:
        token, self.token = self.token, ""
        try:
            return self._give_back(token)
        finally:
            self._mutex.release()

    def _give_back(self, token: str) -> bool:
        """Returns False if the section was taken from this process."""
        try:
            self._directory.unlink(f"lock.d/{token}")
        except FileNotFoundError:
            return False
        except OSError as error:
            where = self._directory.full("lock.d")
            log_warning(f"the pool's own lock could not be given back ({where}: {error}); trying on")
            # Nobody else may take it while this process lives, and this process may never come here again.
            try:
                start_thread("give-back", self._try_on, token)
            except RuntimeError:
                self._try_on(token, _TRIES_HERE)
        else:
            self._remove_if_empty()
        return True

    def _try_on(self, token: str, tries: int | None = None) -> None:
        pause = 0.01
        for _ in itertools.count() if tries is None else range(tries):
            time.sleep(pause)
            pause = min(2 * pause, 5.0)
            try:
                self._directory.unlink(f"lock.d/{token}")
            except FileNotFoundError:
                return
            except OSError:
                continue
            self._remove_if_empty()
            return

    def occupant(self) -> Occupant:
        from leasecap._liveness.record import MAX_BYTES, decode_record

        stay = ""
        for token in self._tokens():
            stay = token  # a token is used for one stay
            try:
                record = decode_record(self._directory.read(f"lock.d/{token}", MAX_BYTES + 1))
            except OSError:
                continue
            if record is not None:
                return Occupant(f"pid {record.pid} on {record.host}", stay)
        return Occupant("an unknown process", stay)

    def retire(self) -> bool:
        return self._mutex.acquire(blocking=False)

    def close(self) -> None:
        """Nothing to close."""

    def forget(self) -> None:
        """In a fork's child: nothing to close."""
