"""The token of `leasecap gate`: the secret in its addresses, which outlives it. One for all gates of a root.

It stands in ``gate/token``. Whoever has it may send requests through the gate, so it is used only from a file that
nobody else can read or put there.
"""

from __future__ import annotations

import os
import stat
import sys

from leasecap._config.trust import danger
from leasecap._errors import StoreError
from leasecap._faults import faults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects

GATE = "gate"
"""The directory of what `leasecap gate` keeps in the root."""

_FILE = "token"
_BYTES = 24
_LONGEST = 256  # bytes
_ANEW = "`leasecap gate --rotate` makes a new one; then give out the addresses anew (`leasecap gate --env`)"


class GateToken:
    """That of one root."""

    def __init__(self, effects: Effects, root: str) -> None:
        self._effects = effects
        self._root = root
        self._directory = os.path.join(root, GATE)
        self._path = os.path.join(self._directory, _FILE)
        self._seen: tuple[int, ...] = ()
        self._token = ""

    def is_there(self) -> bool:
        """Whether the root has one, or whatever stands in its place."""
        return os.path.lexists(self._directory)

    def make(self) -> str:
        """The token; a new one if the root has none yet. Of several processes that make one at once, all get the same.

        :raises StoreError: when it can't be made, or isn't to be trusted.
        """
        with faults(self._directory):
            if not self.is_there():
                self._put_in_place()
        return self.read()

    def _put_in_place(self) -> None:
        """Make the directory with a token in it. It is renamed into place, which fails where another one is."""
        aside = f"{self._directory}.{os.urandom(6).hex()}"
        os.mkdir(aside, 0o700)
        token = os.path.join(aside, _FILE)
        try:
            directory = self._effects.directory(aside)
            try:
                directory.write(_FILE, _new())
            finally:
                directory.close()
            os.rename(aside, self._directory)
        except OSError:
            for remove, path in ((os.unlink, token), (os.rmdir, aside)):
                try:
                    remove(path)
                except OSError:
                    pass  # the first error says more
            if not self.is_there():
                raise

    def rotate(self) -> str:
        """A new token in place of the one that there is; gates that run refuse the old one from now on.

        :raises StoreError: when it can't be written, or isn't to be trusted.
        """
        with faults(self._path):
            if self.is_there():
                directory = self._open()
                try:
                    directory.replace(_FILE, _new())
                finally:
                    directory.close()
            else:
                self._put_in_place()
        return self.read()

    def read(self) -> str:
        """The token as it is now.

        :raises StoreError: when it can't be read, or isn't to be trusted: then nobody may be let in.
        """
        with faults(self._path):
            try:
                seen = _signature(os.lstat(self._path))
            except FileNotFoundError:
                raise self._refusal("isn't there") from None
            if seen != self._seen:
                self._token, self._seen = self._read(), seen
        return self._token

    def _read(self) -> str:
        directory = self._open()
        try:
            data, found = directory.read_and_stat(_FILE, _LONGEST)
        finally:
            directory.close()
        if sys.platform != "win32":  # where access lists stand in place of modes
            if found.st_uid != os.geteuid():
                raise self._refusal(f"belongs to uid {found.st_uid}, who knows it then")
            if found.st_mode & 0o077:
                raise self._refusal(f"can be read or changed by others (mode {stat.S_IMODE(found.st_mode):04o})")
        token = data.decode("ascii", "replace").removesuffix("\n")
        if len(token) != 2 * _BYTES or not set(token) <= set("0123456789abcdef"):
            raise self._refusal("holds no token")
        return token

    def _open(self) -> Directory:
        directory = self._effects.directory(self._directory)
        if wrong := danger(directory.stat()):
            directory.close()
            import shlex

            remedy = f"look whether anything in it is not yours, then: chmod 700 {shlex.quote(self._directory)}"
            raise StoreError(wrong, path=self._directory, remedy=remedy)
        return directory

    def _refusal(self, what: str) -> StoreError:
        return StoreError(what, path=self._path, remedy=_ANEW)


def _new() -> bytes:
    from secrets import token_hex

    return f"{token_hex(_BYTES)}\n".encode()


def _signature(found: os.stat_result) -> tuple[int, ...]:
    """What changes with the file; a change of owner or mode counts in ``st_ctime_ns``."""
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
