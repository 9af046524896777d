"""An entry of this process."""

from __future__ import annotations

from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from leasecap._decisions.entry import Entry
    from leasecap._liveness.record import Record

    class Home(Protocol):
        """The pool that an entry is in."""

        def close(self, own_entry: OwnEntry) -> None:
            """Close the entry's descriptor."""


class OwnEntry:
    """An entry of this process, from before it is published until after it is gone.

    :ivar home: the pool that it is in, as this process uses it.
    :ivar inode: device and inode of what is open as ``fd``.
    :ivar lent: whether another process has, or may get, a copy of the descriptor.
    :ivar granted: when it was granted, on the boot clock (ns); ``since`` on the monotonic one (seconds).
    :ivar asked: when it was asked for, on the boot clock (ns).
    :ivar answered: when the answer began of the HTTP request that it is for, likewise; 0: not yet, or there is none.
    :ivar thread: the thread that asked for it.
    :ivar size: the bytes of the record as it is written.
    """

    __slots__ = (
        "answered",
        "asked",
        "entry",
        "fd",
        "granted",
        "home",
        "inode",
        "lent",
        "record",
        "since",
        "size",
        "thread",
    )

    def __init__(self, home: Home, entry: Entry, record: Record) -> None:
        self.home = home
        self.entry = entry
        self.record = record
        self.fd: int | None = None
        self.inode: tuple[int, int] | None = None
        self.granted = 0
        self.asked = 0
        self.answered = 0
        self.since = 0.0
        self.lent = False
        self.size = 0
        self.thread = get_ident()

    @property
    def name(self) -> str:
        return self.entry.name
