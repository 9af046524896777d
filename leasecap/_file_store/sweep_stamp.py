"""What one process knows of the last sweep in one pool."""

from __future__ import annotations

import math

from leasecap._decisions import polling

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.store import Store


class SweepStamp:
    """What this process knows of the last sweep.

    No clocks are compared: the stamp is compared with the one that this process saw at its previous look.

    :ivar nobody_swept: nobody swept between the last two looks.
    :ivar stands_in: nobody has swept for so long that those who should can't be running. This process sweeps in their
        place, until it sees a stamp of another one.
    """

    def __init__(self, store: Store) -> None:
        self.nobody_swept = self.stands_in = False
        self._store = store
        self._last: bytes | None = None
        self._since = self._read_at = -math.inf

    def look(self, now: float, *, woken: bool, early: bool) -> bool:
        """Look at the stamp if a period has passed since the last look, or if ``early``.

        Returns whether this process begins to stand in.
        """
        self.nobody_swept = False
        if now < self._read_at + polling.SWEEP_EVERY and not early:
            return False
        stamp = self._store.sweeper.stamp()
        self._read_at = now
        # At the first look there is nothing to compare; if it was woken, somebody may have just swept.
        self.nobody_swept = stamp == self._last if self._last is not None else not woken
        if stamp != self._last:
            self._last, self._since, self.stands_in = stamp, now, False
        elif now - self._since >= polling.UNSWEPT and not self.stands_in:
            self.stands_in = True
            return True
        return False

    def note_own(self, now: float) -> None:
        """This process has swept."""
        self._last, self._since, self._read_at = self._store.sweeper.own_stamp, now, now
