"""Entries: building one, moving it, keeping it alive, ending it. None of this needs the critical section."""

from __future__ import annotations

import errno

from leasecap import _record
from leasecap._observe import beat
from leasecap._pool import GRANTED, LEASES, PARKED, QUEUE, STAGING, TRASH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from leasecap._effects import Effects
    from leasecap._entry import Entry
    from leasecap._pool import Pool
    from leasecap._record import Record


class Claim:
    """An entry of this process, from before it is published until after it is gone."""

    __slots__ = ("entry", "fd", "granted", "record")

    def __init__(self, entry: Entry, record: Record) -> None:
        self.entry = entry
        self.record = record
        self.fd: int | None = None
        self.granted = 0

    @property
    def name(self) -> str:
        return self.entry.name


class Entries:
    """The entries of one pool, and what may be done to them without asking anybody."""

    def __init__(self, effects: Effects, pool: Pool) -> None:
        self.effects = effects
        self.pool = pool
        self.directory = pool.directory

    def stage(self, entry: Entry, record: Record) -> Claim:
        """Build the entry in ``staging/``, its record inside and its liveness lock held.

        :raises OSError: with nothing left behind that counts.
        """
        claim = Claim(entry, record)
        path = f"{STAGING}/{entry.name}"
        self.directory.make(path)
        try:
            fd = self.directory.open(f"{path}/alive", create=True)
            try:
                if self.pool.kind == "os" and not self.effects.lock(fd):
                    raise OSError(errno.EAGAIN, "somebody holds the lock of a lease just made", path)
                self.effects.write_at_start(fd, beat(self.effects.boot_clock(), 0))
            except BaseException:
                self.effects.close(fd)
                raise
            if self.pool.kind == "os":
                claim.fd = fd
            else:
                # Without an OS lock in it nothing is gained by keeping it open, and Windows couldn't rename around it.
                self.effects.close(fd)
            self.directory.write(f"{path}/info.json", _record.encode(record))
        except BaseException:
            self.drop(claim, [STAGING])
            raise
        return claim

    def rewrite(self, claim: Claim, record: Record) -> None:
        """Put another record in place of the one of a held lease."""
        self.directory.replace(f"{LEASES}/{claim.name}/info.json", _record.encode(record))
        claim.record = record

    def remove(self, where: str, name: str) -> bool:
        """The one step that ends an entry; False: it isn't (or no longer) there. Follow it with `delete`."""
        try:
            self.directory.rename(f"{where}/{name}", f"{TRASH}/{name}")
        except FileNotFoundError:
            return False
        return True

    def delete(self, name: str) -> None:
        """Delete from ``trash/``. What can't be deleted stays there, in nobody's way."""
        path = f"{TRASH}/{name}"
        try:
            for file in self.directory.list(path):
                self.directory.unlink(f"{path}/{file}")
            self.directory.rmdir(path)
        except NotADirectoryError:
            self._unlink(path)
        except OSError:
            pass

    def _unlink(self, path: str) -> None:
        try:
            self.directory.unlink(path)
        except OSError:
            pass

    def drop(self, claim: Claim, places: Sequence[str] = (STAGING, QUEUE, GRANTED, PARKED, LEASES)) -> str | None:
        """Remove the claim from wherever it is; return where that was, or None if it was nowhere.

        Others move an entry only from left to right in ``places``, so looking once in that order finds it.
        """
        where = next((where for where in places if self.remove(where, claim.name)), None)
        self.close(claim)
        if where is not None:
            self.delete(claim.name)
        return where

    def close(self, claim: Claim) -> None:
        """Close the liveness lock's descriptor, after the entry is gone.

        No unlock: it would drop the lock of the command as well, which inherited the open file description.
        """
        fd, claim.fd = claim.fd, None
        if fd is not None:
            self.effects.close(fd)

    def beat(self, claim: Claim) -> bool:
        """Write a heartbeat; False: the entry is gone.

        :raises OSError: when it can't be written.
        """
        for where in (LEASES, QUEUE, GRANTED, PARKED, LEASES):  # LEASES again: it may have moved there meanwhile
            try:
                self.directory.stat(f"{where}/{claim.name}")
                self._write_beat(claim, where)
            except FileNotFoundError:
                continue
            return True
        return False

    def acknowledge(self, claim: Claim) -> bool:
        """Turn a grant into a lease; False if there is none to turn."""
        try:
            self.directory.rename(f"{GRANTED}/{claim.name}", f"{LEASES}/{claim.name}")
        except FileNotFoundError:
            return False
        self.note_grant(claim)
        return True

    def note_grant(self, claim: Claim) -> None:
        """Write down since when the lease is held."""
        claim.granted = self.effects.boot_clock()
        try:
            self._write_beat(claim, LEASES)
        except OSError:
            pass  # only `status` reads it; the next heartbeat tries again and reports

    def _write_beat(self, claim: Claim, where: str) -> None:
        content = beat(self.effects.boot_clock(), claim.granted)
        if claim.fd is not None:
            self.effects.write_at_start(claim.fd, content)
        else:
            self.directory.overwrite(f"{where}/{claim.name}/alive", content)

    def unpark(self, claim: Claim) -> bool:
        """Go back into the queue after a grant that was taken back; False if not parked."""
        try:
            self.directory.rename(f"{PARKED}/{claim.name}", f"{QUEUE}/{claim.name}")
        except FileNotFoundError:
            return False
        return True
