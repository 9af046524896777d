"""The place of a call in its pool's queue. A pool has one kind of order, noted in ``pool.json`` when it is made.

``boot``: the boot clock without the offset of the caller's time namespace. It is the same for all processes of a
kernel. ``arrival``: the file system's own time stamp of a directory just made. It is one clock for all kernels that
share the pool; it also serves where the process that makes the pool can't read its own offset.

A process that can't read its offset (no /proc, or it has just left its time namespace) may meet a pool of the first
kind. It goes behind all who wait there, and later calls go behind it. So it passes nobody and nobody passes it.
"""

from __future__ import annotations

from leasecap._decisions.entry import parse_entry
from leasecap._decisions.places import PARKED, QUEUE, STAGING
from leasecap._faults import faults
from leasecap._file_store.layout import BOOT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.layout import Pool
    from leasecap._host.directory import Directory
    from leasecap._host.effects import Effects

_STEP = 3 * 10**9
"""Nanoseconds; a little more than the coarsest clock of a file system (2 s on FAT)."""

_LATEST = 2**63  # a later place was planted: a place behind it might not fit into the name


class Order:
    """The places of one process's calls in one pool."""

    def __init__(self, effects: Effects, pool: Pool) -> None:
        self._effects = effects
        self._pool = pool
        self._last = 0

    def next(self, began: float | None = None) -> int:
        """The place of a call that is made now.

        :param began: when its task began, in seconds since 1970: its place is that of a call made then. Not in the
            future, so nobody goes behind those who come later.
        :raises StoreError: when the pool can't be read, or written for the file system's time stamp.
        """
        boot = self._pool.order == BOOT
        offset = self._effects.me().boot_offset
        if boot and offset is not None:
            return self._effects.boot_clock() - offset - self._age(began)
        with faults(self._pool.directory.path):
            place = self._behind_all(boot)
        return place if boot else place - self._age(began)  # in a pool of boot times this place is no time

    def _age(self, began: float | None) -> int:
        """Nanoseconds since then; taken off a place, so that no two clocks are compared."""
        return 0 if began is None else max(int((self._effects.wall_clock() - began) * 1e9), 0)

    def _behind_all(self, boot: bool) -> int:
        stamp = 0 if boot else self._stamp()
        # The place is behind all who wait, whatever the stamp says: that is a wall clock, which may be coarse or set
        # back.
        behind = 1 + max(self._waiting(), default=-1)
        # It is also behind this process's own calls that have no ticket yet (tasks that wait for their turn).
        if boot or self._last - stamp < _STEP:
            behind = max(behind, self._last + 1)
        self._last = max(stamp, behind)
        return self._last

    def _stamp(self) -> int:
        directory: Directory = self._pool.directory
        # A directory is made and no file: a network client may stamp a file itself until it has sent the content.
        name = f"{STAGING}/{self._effects.token()}"
        directory.make(name)
        try:
            return directory.stat(name).st_mtime_ns
        finally:
            directory.rmdir(name)

    def _waiting(self) -> list[int]:
        names = [name for where in (QUEUE, PARKED) for name in self._pool.directory.list(where)]
        return [order for order in (parse_entry(name).order for name in names) if order < _LATEST]
