"""The configured limit that is in force: it goes down at once, and up once config.toml has stood still.

A file that is being written can be valid half-way: ``[defaults] limit = 50`` stands in it, and the pool's own limit not
yet. So a limit above the last one holds only when the file has been the same for a second. The last one stands in the
pool, for processes that start meanwhile. What `leasecap limit` writes is whole, and a digest of it says so.
"""

from __future__ import annotations

import math

from leasecap._config.schema import HIGHEST_LIMIT, UNLIMITED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._host.directory import Directory


FILE = "limit"
_WIDTH = 16
_WORDS: dict[int | None, str] = {None: "none", UNLIMITED: "unlimited"}
_LEAST = 1  # no configuration allows less, so one slot may be granted whatever the whole file will say


class LimitInForce:
    """The configured limit in force of one pool. None means that there is none, and counts as higher than any number.

    :ivar configured: what config.toml says.
    """

    def __init__(
        self, directory: Directory, stands_still_in: Callable[[], float], is_there: Callable[[], bool] = lambda: True
    ) -> None:
        """
        :param stands_still_in: seconds until config.toml has stood still; 0 if it has.
        :param is_there: whether there is a config.toml; without one a new pool has nothing to wait for.
        """
        self.configured: int | None = None
        self._directory = directory
        self._stands_still_in = stands_still_in
        self._is_there = is_there
        self._noted: int | None = None
        self._is_noted = False

    def configure(self, limit: int | None) -> int | None:
        """Follow config.toml, which says ``limit`` now; returns the limit in force."""
        self.configured = limit
        self._read()
        return self._limit()

    def keep(self) -> int | None:
        """Inside the section: the limit in force, noted for those who start later."""
        if self._is_pending():
            self._read()  # another process may have seen the file stand still, and noted a higher limit
        limit = self._limit()
        if limit != self._noted or not (self._is_noted or limit is None or self._is_pending()):
            text = _WORDS.get(limit, str(limit)).ljust(_WIDTH).encode()
            try:
                try:
                    self._directory.overwrite(FILE, text)
                except FileNotFoundError:
                    self._directory.write(FILE, text)
            except OSError:
                pass  # processes that start later go by a lower limit for a second; a full disk denies nobody a slot
            else:
                self._noted, self._is_noted = limit, True
        return limit

    @property
    def is_assumed(self) -> bool:
        """Whether nothing gives the pool a limit, and nothing did before."""
        return self.configured is None and not self._is_noted

    @property
    def rises_in(self) -> float:
        """Seconds until a higher limit counts; infinite if none is to come."""
        return self._stands_still_in() if self._is_pending() else math.inf

    def _is_pending(self) -> bool:
        return _rank(self.configured) > _rank(self._noted)

    def _limit(self) -> int | None:
        return self._noted if self._is_pending() and self._stands_still_in() > 0 else self.configured

    def _read(self) -> None:
        try:
            text = self._directory.read(FILE, _WIDTH).decode().strip()
            words = {word: limit for limit, word in _WORDS.items()}
            self._noted = words[text] if text in words else min(max(int(text), _LEAST), HIGHEST_LIMIT)
            self._is_noted = True
        except (OSError, ValueError):
            self._noted, self._is_noted = _LEAST if self._is_there() else None, False


def _rank(limit: int | None) -> float:
    return math.inf if limit is None else limit
