"""Entries: building one, moving it, keeping it alive, ending it. None of this needs the critical section."""

from __future__ import annotations

import errno
import threading

from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE, STAGING, TRASH
from leasecap._file_store.own_entry import OwnEntry
from leasecap._liveness.record import encode_record
from leasecap._liveness.stamp import encode_stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from leasecap._decisions.entry import Entry
    from leasecap._file_store.layout import Pool
    from leasecap._host.effects import Effects
    from leasecap._liveness.record import Record

    InBackground = Callable[[Callable[[], object]], bool]


MOST_SPARES = 16
"""Spares that one process keeps, each with a descriptor. The tasks of one event loop can end all at once, as many as a
usual limit allows; with far fewer spares most of their next entries would have to be made anew."""

_CROWD = 64
"""With so many entries in ``staging/``, whoever needs a new one removes some of the dead first."""

_PLACES = (STAGING, QUEUE, GRANTED, PARKED, LEASES)
"""Where an entry may stand. Others move it only from left to right: looking once in this order finds it."""


class Entries:
    """The entries of one pool, and what may be done to them outside the critical section.

    :ivar most_spares: how many spares are kept at a time.
    :ivar in_background: has something called in the background, if that is possible; False: it isn't.
    """

    most_spares = MOST_SPARES
    _crowd = _CROWD

    def __init__(self, effects: Effects, pool: Pool, in_background: InBackground) -> None:
        self.effects = effects
        self.pool = pool
        self.directory = pool.directory
        self.in_background = in_background
        self._spares: list[OwnEntry] = []
        self._released = 0
        self._amending = threading.Lock()

    def names(self, where: str) -> list[str]:
        """The names in ``where``."""
        return self.directory.list(where)

    def stage(self, entry: Entry, record: Record, asked: int = 0) -> OwnEntry:
        """Build the entry in ``staging/``, its record inside and its liveness lock held.

        :param asked: when it was asked for, on the boot clock (ns); 0: now.
        :raises OSError: with nothing left behind that counts.
        """
        own_entry = OwnEntry(self, entry, record)
        own_entry.asked = asked or self.effects.boot_clock()
        path = f"{STAGING}/{entry.name}"
        if self._reuse(own_entry, path):
            return own_entry
        self._thin_out()
        self.directory.make(path)
        try:
            fd = self.directory.open(f"{path}/alive", create=True)
            try:
                if self.pool.kind == "os" and not self.effects.lock(fd):
                    raise OSError(errno.EAGAIN, "somebody holds the lock of a lease just made", path)
                self.effects.write_at_start(fd, self._stamp(own_entry))
            except BaseException:
                self.effects.close(fd)
                raise
            if self.pool.kind == "os":
                own_entry.fd, own_entry.inode = fd, self.effects.inode(fd)
            else:
                # Without an OS lock nothing is gained by keeping the file open, and Windows renames no directory in
                # which a file is open.
                self.effects.close(fd)
            data = encode_record(record)
            self.directory.write(f"{path}/info.json", data)
            own_entry.size = len(data)
        except BaseException:
            self._discard(own_entry)
            raise
        return own_entry

    def _reuse(self, own_entry: OwnEntry, path: str) -> bool:
        """Make the entry out of a spare, which gets the entry's name; False if there is no spare."""
        try:
            spare = self._spares.pop()
            self.directory.rename(f"{STAGING}/{spare.name}", path)
        except IndexError:
            return False
        except OSError:
            self.close(spare)  # somebody cleared it away
            return False
        self._keep_own(spare)
        own_entry.fd, own_entry.inode, spare.fd = spare.fd, spare.inode, None
        if own_entry.fd is None:
            self._discard(own_entry)
            return False
        try:
            self.effects.write_at_start(own_entry.fd, self._stamp(own_entry))
            own_entry.size = spare.size
            if own_entry.record != spare.record:  # it mostly is the same, and each acquire would write it for nothing
                data = encode_record(own_entry.record).ljust(spare.size)  # blanks cover the end of a longer record
                self.directory.overwrite(f"{path}/info.json", data)
                own_entry.size = len(data)
        except BaseException:
            self._discard(own_entry)
            raise
        return True

    def _thin_out(self) -> None:
        """Remove spares of dead processes, if there are many: a process that ends by ``os._exit`` leaves its own
        behind.

        To leave one behind a process has to make a new entry, and that comes here. So they stay few, even where nobody
        waits and so nobody sweeps.
        """
        if self.pool.kind != "os":
            return  # no spares
        crowd = len(self.names(STAGING))
        if crowd > self._crowd:
            from leasecap._file_store.staging import dead_in_staging

            cleared = [name for name in dead_in_staging(self.effects, self.pool) if self.discard(STAGING, name)]
            for name in cleared:
                self.delete(name)
            # If all of them live, the next look waits until there are twice as many.
            self._crowd = _CROWD if cleared else 2 * crowd

    def _discard(self, own_entry: OwnEntry) -> None:
        try:
            self.drop(own_entry, [STAGING])
        except OSError:
            self.close(own_entry)  # in staging/ it counts for nothing, and it is swept once this process is gone

    def retire(self, own_entry: OwnEntry) -> bool | None:
        """End a lease of this process. True: it is kept as a spare. None: it was gone. False: follow it with `delete`.

        A spare goes back to ``staging/``, where no entry counts, with its lock held. An acquire that finds one needs
        neither to make nor to delete a directory and two files, which is most of what an acquire costs. The first
        release keeps none: most processes acquire once, and would leave it behind.
        """
        self._released += 1
        keep = (
            own_entry.fd is not None
            and not own_entry.lent
            and self._released > 1
            and len(self._spares) < self.most_spares
        )
        if not self.remove(LEASES, own_entry.name, STAGING if keep else TRASH):
            return None
        if keep:
            self._spares.append(own_entry)
        return keep

    @property
    def descriptors(self) -> int:
        """How many descriptors the pool takes while nothing of this process is in it."""
        return 2 + len(self._spares)

    def forget_spares(self) -> None:
        """In a fork's child: close the spares and never unlock them, since they are the parent's."""
        for spare in self._spares:
            self.close(spare)
        self._spares = []

    def drop_spares(self) -> None:
        """Remove the spares, at the process's end."""
        try:
            while self._spares:
                self.drop(self._spares.pop(), [STAGING])
        except OSError:
            pass  # swept like any other leftover

    def rewrite(self, own_entry: OwnEntry, record: Record, where: str = LEASES) -> None:
        """Put another record in place of the one of the entry in ``where``."""
        data = encode_record(record)
        self.directory.replace(f"{where}/{own_entry.name}/info.json", data)
        own_entry.record, own_entry.size = record, len(data)

    def amend(self, own_entry: OwnEntry, where: str = LEASES, **fields: Any) -> None:
        """`rewrite` with these fields changed; the heartbeat thread and the holder's own may do so at once."""
        with self._amending:
            self.rewrite(own_entry, own_entry.record._replace(**fields), where)

    def remove(self, where: str, name: str, to: str = TRASH) -> bool:
        """The one step that ends an entry; False: it isn't (or no longer) there. Follow it with `delete`."""
        try:
            self.directory.rename(f"{where}/{name}", f"{to}/{name}")
        except FileNotFoundError:
            return self._make_place(to) and self.remove(where, name, to)
        return True

    def _make_place(self, place: str) -> bool:
        """Make the directory that a rename was to move something into, if that is missing."""
        try:
            self.directory.stat(place)  # before mkdir, which locks the pool's directory even if it then fails
        except FileNotFoundError:
            try:
                self.directory.make(place)
            except OSError:
                return False
            return True
        return False

    def discard(self, where: str, name: str, to: str = TRASH) -> bool:
        """`remove` that doesn't raise: an entry that can't be removed goes on to count, and fails nobody's request."""
        try:
            return self.remove(where, name, to)
        except OSError:
            return False

    def delete(self, name: str) -> None:
        """Delete the entry from ``trash/``. If it can't be deleted it stays there and harms nobody."""
        path = f"{TRASH}/{name}"
        try:
            for file in self.directory.list(path):
                self.directory.unlink(f"{path}/{file}")
            self.directory.rmdir(path)
        except NotADirectoryError:
            self.unlink(path)
        except OSError:
            pass

    def unlink(self, path: str) -> None:
        """Remove a file; never raises."""
        try:
            self.directory.unlink(path)
        except OSError:
            pass

    def stands(self, own_entry: OwnEntry) -> bool:
        """Whether the entry stands in one of the places, and was not swept away."""
        for where in _PLACES:
            try:
                self.directory.stat(f"{where}/{own_entry.name}")
            except FileNotFoundError:
                continue
            return True
        return False

    def drop(self, own_entry: OwnEntry, places: Sequence[str] = _PLACES) -> str | None:
        """Remove the entry from wherever it is; return where that was, or None if it was nowhere.

        Others move an entry only from left to right in ``places``, so looking once in that order finds it.
        """
        where = next((where for where in places if self.remove(where, own_entry.name)), None)
        self.close(own_entry)
        if where is not None:
            self.delete(own_entry.name)
        return where

    def close(self, own_entry: OwnEntry) -> None:
        """Close the liveness lock's descriptor, after the entry is gone.

        It isn't unlocked: a command that inherited the open file description would lose the lock as well.
        """
        self._keep_own(own_entry)
        fd, own_entry.fd = own_entry.fd, None
        if fd is not None:
            self.effects.close(fd)

    def _keep_own(self, own_entry: OwnEntry) -> None:
        """Forget the descriptor if the program has closed it (`os.closerange`): the number may be the program's by
        now."""
        if own_entry.fd is not None and self.effects.inode(own_entry.fd) != own_entry.inode:
            own_entry.fd = None

    def beat(self, own_entry: OwnEntry) -> bool:
        """Write a heartbeat; False: the entry is gone.

        :raises OSError: when it can't be written.
        """
        for where in (LEASES, QUEUE, GRANTED, PARKED, LEASES):  # leases/ once more: it may have moved there meanwhile
            try:
                self.directory.stat(f"{where}/{own_entry.name}")
                self._write_beat(own_entry, where)
            except FileNotFoundError:
                continue
            return True
        return False

    def acknowledge(self, own_entry: OwnEntry) -> bool:
        """Turn a grant into a lease; False if there is none to turn."""
        try:
            self.directory.rename(f"{GRANTED}/{own_entry.name}", f"{LEASES}/{own_entry.name}")
        except FileNotFoundError:
            return False
        self.note_grant(own_entry)
        return True

    def note_grant(self, own_entry: OwnEntry) -> None:
        """Write down since when the lease is held."""
        own_entry.granted, own_entry.since = self.effects.boot_clock(), self.effects.monotonic()
        try:
            self._write_beat(own_entry, LEASES)
        except OSError:
            pass  # nobody needs it at once, and the next heartbeat writes it too and warns if that fails

    def note_answer(self, own_entry: OwnEntry) -> None:
        """Write down that the answer has begun of the HTTP request that the lease is for."""
        own_entry.answered = self.effects.boot_clock()
        try:
            self._write_beat(own_entry, LEASES)
        except OSError:
            pass  # as above

    def _write_beat(self, own_entry: OwnEntry, where: str) -> None:
        content = self._stamp(own_entry)
        self._keep_own(own_entry)
        if own_entry.fd is not None:
            self.effects.write_at_start(own_entry.fd, content)
        else:
            self.directory.overwrite(f"{where}/{own_entry.name}/alive", content)

    def _stamp(self, own_entry: OwnEntry) -> bytes:
        one = own_entry
        return encode_stamp(self.effects.boot_clock(), one.granted, one.since, one.asked, one.answered)

    def unpark(self, own_entry: OwnEntry) -> bool:
        """Go back into the queue after a grant that was taken back; False if not parked."""
        try:
            self.directory.rename(f"{PARKED}/{own_entry.name}", f"{QUEUE}/{own_entry.name}")
        except FileNotFoundError:
            return False
        return True
