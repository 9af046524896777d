"""Gathering the evidence about entries: records, locks, processes, heartbeats."""

from __future__ import annotations

import threading

from leasecap import _record
from leasecap._hold import hold_of
from leasecap._liveness import Facts, Finding, comparable, judge, same_clocks
from leasecap._pool import LEASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import TypeAlias

    from leasecap._effects import Effects
    from leasecap._hold import Hold
    from leasecap._pool import Pool
    from leasecap._process import Presence
    from leasecap._record import Child, Record

    Ask: TypeAlias = Callable[[int, int], Presence]
    Look: TypeAlias = tuple[Finding, Record | None, bytes]

BEAT_BYTES = 67
_SHORT_BYTES = 50  # of one that doesn't say when the slot was asked for
_BEAT = 2**64
_BLANK = ord(" ")


def beat(now: int, granted: int = 0, since: float = 0.0, asked: int = 0) -> bytes:
    """The content of ``alive``, in fixed width: boot clock (ns) of this heartbeat and of the grant (0: not yet).

    And ``since``, the grant on the monotonic clock (ns), which stands while the machine sleeps (`_hold`); and when the
    slot was asked for, on the boot clock (ns) of who asked. What a later version appends is not read.

    A clock that was moved (libfaketime moves these, too) can be negative, and must go on to change from beat to beat:
    hence the two's complement.
    """
    return b"%016x %016x %016x %016x" % (now % _BEAT, granted % _BEAT, int(since * 1e9) % _BEAT, asked % _BEAT)


def read_beat(data: bytes) -> tuple[int, int, float, int] | None:
    """What was given to `beat`, or None for anything else."""
    try:
        raw = bytes.fromhex(data.decode("ascii"))  # skips blanks: hence where they are is looked at below
    except ValueError:
        return None
    if (len(raw), len(data)) not in ((32, BEAT_BYTES), (24, _SHORT_BYTES)):
        return None
    if any(blank != _BLANK for blank in data[16::17]):
        return None
    beaten, granted, since, *asked = [int.from_bytes(raw[at : at + 8], signed=True) for at in range(0, len(raw), 8)]
    return beaten, granted, since / 1e9, asked[0] if asked else 0


def _version(found: os.stat_result) -> tuple[int, int]:
    return found.st_ino, found.st_mtime_ns


class Observer:
    """One process's view of who lives in one pool.

    It remembers heartbeats with the time on its *own* monotonic clock, so no clock of another process, no wall clock
    and no suspend can make a live lease look stale: a gap between two looks starts the count again.
    """

    def __init__(
        self,
        effects: Effects,
        pool: Pool,
        *,
        stale_after: float,
        heartbeat: float,
        presence: Ask | None = None,
    ) -> None:
        """:param presence: what to ask in place of ``effects.presence``."""
        self._effects = effects
        self._ask = presence or effects.presence
        self._pool = pool
        self._directory = pool.directory
        self.stale_after = stale_after
        self.heartbeat = heartbeat
        self._lock = threading.Lock()
        self._beats: dict[str, tuple[bytes, float, float]] = {}  # bytes, first seen, last looked
        self._records: dict[str, tuple[tuple[int, int], Record]] = {}

    def judge(self, where: str, name: str) -> Finding:
        """Whether the owner of the entry ``where/name`` lives.

        An entry that has just moved is found alive ("vanished"): whoever moved it is responsible for it.
        """
        return self.look(where, name)[0]

    def look(self, where: str, name: str) -> Look:
        """`judge`'s finding, with what it rests on: the record and the content of ``alive``."""
        path = f"{where}/{name}"
        record = self.record(where, name)
        if self._pool.kind == "directory":
            held, content = None, self._content(where, name)
        else:
            held, content = self._directory.probe(f"{path}/alive", BEAT_BYTES)
        if not held:  # else it was there just now
            try:
                self._directory.stat(path)
            except FileNotFoundError:
                return Finding(True, "vanished"), record, content
            except OSError:
                pass  # unreadable: counts, and goes on to the heartbeat row
        return judge(self._facts(name, record, held, content)), record, content

    def lives(self, where: str, name: str) -> bool:
        """`judge`'s verdict alone, at a sixth of the time where the process is seen to run: that is enough for "alive".

        A sweep asks for every holder.
        """
        record = self.record(where, name)
        seen = record is not None and comparable(record, self._effects.me())
        if seen and record is not None and self._presence(record.pid, record.start) in ("runs", "stopped"):
            return True
        return self.judge(where, name).alive

    def visible(self, record: Record) -> tuple[int, int] | None:
        """Pid and start of the record's process, if these mean here what they meant to it."""
        if record.start is None or not comparable(record, self._effects.me()):
            return None
        return record.pid, record.start

    def speakers(self, name: str) -> list[tuple[int, int]]:
        """Pid and start of the processes that can be seen from here, each of which keeps the lease while it runs."""
        record = self.record(LEASES, name)
        if record is None or not comparable(record, self._effects.me()):
            return []
        command = record.child or _record.PENDING
        return [(pid, start) for pid, start in ((record.pid, record.start), command) if pid and start is not None]

    def granted_at(self, where: str, name: str) -> float | None:
        """When the lease was granted, by the boot clock (seconds); None if it doesn't say."""
        stamp = read_beat(self._content(where, name))
        return stamp[1] / 1e9 if stamp and stamp[1] else None

    def _content(self, where: str, name: str) -> bytes:
        try:
            return self._directory.read(f"{where}/{name}/alive", BEAT_BYTES)
        except OSError:
            return b""

    def judge_record(self, path: str) -> Finding:
        """The same for a bare record without a liveness lock: the holder of a lock directory."""
        try:
            data = self._directory.read(path, _record.MAX_BYTES + 1)
        except FileNotFoundError:
            return Finding(True, "vanished")
        except OSError:
            data = b""
        return judge(self._facts(path, _record.decode(data), None, data))

    def _facts(self, key: str, record: Record | None, held: bool | None, content: bytes) -> Facts:
        me = self._effects.me()
        holder: Presence = "unseen"
        child: Presence | None = None
        if record is not None:
            can = comparable(record, me)
            holder = self._presence(record.pid, record.start) if can else "unseen"
            if record.child is not None:
                child = self._child(record.child) if can else "unseen"
        return Facts(
            record=record,
            observer=me,
            local=self._pool.local,
            lock={True: "held", False: "free", None: "unknown"}[held],  # type: ignore[arg-type]
            holder=holder,
            child=child,
            unchanged=self._unchanged(key, content),
            stale_after=self.stale_after,
        )

    def _presence(self, pid: int, start: int | None) -> Presence:
        return "unseen" if start is None else self._ask(pid, start)

    def _child(self, child: Child) -> Presence:
        return "unseen" if child == _record.PENDING else self._presence(child.pid, child.start)

    def _unchanged(self, key: str, content: bytes) -> float:
        now = self._effects.monotonic()
        with self._lock:
            known, since, looked = self._beats.get(key, (None, now, now))
            if known != content or now - looked > self.heartbeat:
                since = now
            self._beats[key] = (content, since, now)
        return now - since

    def hold(self, name: str) -> Hold | None:
        """When the time of the lease of that name is over; None if it has no such end, or none that is known here."""
        record = self.record(LEASES, name)
        if record is None or record.max_hold is None:
            return None
        try:
            content = self._directory.read(f"{LEASES}/{name}/alive", BEAT_BYTES)
        except OSError:
            return None
        return self.hold_by(name, record, content)

    def hold_by(self, name: str, record: Record | None, content: bytes) -> Hold | None:
        """The same by its record and the content of ``alive``."""
        if record is None or record.max_hold is None or not same_clocks(record, self._effects.me()):
            return None
        stamp = read_beat(content)
        if stamp is not None and stamp[2]:
            return hold_of(record, stamp[2])
        # Its holder was stopped before it could note the grant, or the stamp is corrupt: since I first saw it so.
        return hold_of(record, self._effects.monotonic() - self._unchanged(name, content))

    def record(self, where: str, name: str) -> Record | None:
        """The entry's record; None if it is missing or corrupt. Parsed again only when the file has changed."""
        path = f"{where}/{name}/info.json"
        known = self._records.get(name)
        try:
            if known is not None and known[0] == _version(self._directory.stat(path)):
                return known[1]
            data, found = self._directory.read_and_stat(path, _record.MAX_BYTES + 1)
        except OSError:
            return None
        record = _record.decode(data)
        if record is not None:  # else it may be half written, with the mark of time it will have when whole
            with self._lock:
                self._records[name] = _version(found), record
        return record

    def forget_all_but(self, names: set[str]) -> None:
        """Drop what is remembered of entries that are no more.

        And of holders of the lock directory, which it doesn't name, once a gap would start their count again anyway.
        """
        recently = self._effects.monotonic() - self.heartbeat
        with self._lock:
            self._beats = {
                name: seen
                for name, seen in self._beats.items()
                if name in names or ("/" in name and seen[2] >= recently)
            }
            self._records = {name: known for name, known in self._records.items() if name in names}
