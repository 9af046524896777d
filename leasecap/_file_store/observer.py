"""Gathering the evidence about entries: records, locks, processes, heartbeats."""

from __future__ import annotations

import math
import threading

from leasecap._decisions.places import LEASES
from leasecap._host.directory import NO_FILE
from leasecap._host.namespaces import INITIAL
from leasecap._liveness.max_hold import hold_of
from leasecap._liveness.record import MAX_BYTES, PENDING, decode_record
from leasecap._liveness.stamp import BEATS, HEARTBEAT, STALE_AFTER, STAMP_BYTES, decode_stamp
from leasecap._liveness.verdict import Facts, Finding, comparable, judge, left_by_exec, same_clocks
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import TypeAlias

    from leasecap._file_store.layout import Pool
    from leasecap._host.effects import Effects
    from leasecap._liveness.max_hold import Hold
    from leasecap._liveness.presence import Presence
    from leasecap._liveness.record import Child, Record

    Ask: TypeAlias = Callable[[int, int], Presence]
    Look: TypeAlias = tuple[Finding, Record | None, bytes | None]

_MOST_RECORDS = 8192
"""Records that one observer remembers; more than there are entries for a sweep to look at."""


def _version(found: os.stat_result) -> tuple[int, int]:
    return found.st_ino, found.st_mtime_ns


LONGEST_PAUSE = 2.5
"""Seconds. An observer that looks at nothing for longer was not running: an idle waiter looks every second or two."""

_NAMESPACES_EVERY = 1.0
"""Seconds between two looks at the pid namespaces of all processes, which are slow: they read the link of each one."""


class _Seen(NamedTuple):
    """One heartbeat as the observer saw it; moments are by the observer's own monotonic clock.

    :ivar first: when it was first seen, ``last``: when it was last seen.
    :ivar unchanged: the seconds that count for which it has stood still.
    """

    content: bytes
    first: float
    last: float
    unchanged: float


class Observer:
    """One process's view of who lives in one pool.

    It remembers heartbeats with the time by its *own* monotonic clock. So no clock of another process, no wall clock
    and no suspend can make a live lease look stale. How long a heartbeat must stand still is said by its owner's
    record.
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
        """
        :param stale_after, heartbeat: the intervals by which this process writes its own heartbeats.
        :param presence: what to ask in place of ``effects.presence``.
        """
        self._effects = effects
        self._ask = presence or effects.presence
        self._pool = pool
        self._directory = pool.directory
        self.stale_after = stale_after
        self.heartbeat = heartbeat
        # An RLock, since a garbage collection while it is held may end a generator, which then releases and looks.
        self._lock = threading.RLock()
        self._beats: dict[str, _Seen] = {}
        self._looked_at = self._paused_until = self._namespaces_until = -math.inf
        self._namespaces: frozenset[str] | None = None
        self._records: dict[str, tuple[tuple[int, int], Record]] = {}

    def judge(self, where: str, name: str) -> Finding:
        """Whether the owner of the entry ``where/name`` lives.

        An entry that has just moved is found alive ("vanished"): whoever moved it is responsible for it.
        """
        return self.look(where, name)[0]

    def look(self, where: str, name: str) -> Look:
        """The finding of `judge` with its evidence: the record and the content of ``alive``."""
        path = f"{where}/{name}"
        held: bool | None = None
        content: bytes | None
        if self._pool.kind == "directory":
            content = self._read(f"{path}/alive", STAMP_BYTES)
        else:
            held, content = self._directory.probe(f"{path}/alive", STAMP_BYTES)
        # Read after the probe: who hands its lease to a process writes that down before it lets go of the lock.
        record, readable = self._record(where, name)
        if not held:  # if the lock is held the entry was there just now
            try:
                self._directory.stat(path)
            except FileNotFoundError:
                return Finding(True, "vanished"), record, content
            except OSError:
                pass  # it can't be read, so it counts
        facts = self._facts(name, record, held, content if readable else None)
        finding = judge(facts)
        if finding.alive and not held and record is not None and self._namespace_has_ended(record):
            finding = judge(facts._replace(holder="gone", child=record.child and "gone"))
        return finding, record, content

    def lives(self, where: str, name: str) -> bool:
        """The verdict of `judge` alone. A process that is seen to run is enough for it, and that is far cheaper to ask.

        A sweep asks this of every holder.
        """
        record = self.record(where, name)
        seen = record is not None and comparable(record, self._effects.me())
        if seen and record is not None and self._presence(record.pid, record.start) in ("runs", "stopped"):
            return True
        return self.judge(where, name).alive

    def left_by_exec(self, where: str, name: str) -> bool:
        """Whether the entry is nobody's, since this process was another program when it made it."""
        if self._pool.kind != "os" or not self._pool.local:
            return False  # no lock says whether that program lives
        held, content = self._directory.probe(f"{where}/{name}/alive", STAMP_BYTES)
        record = self.record(where, name)  # read after the probe, as in `look`
        stamp = decode_stamp(content or b"")
        # Another interpreter of this process may have lost its lock, if the program has closed its descriptors. It
        # goes on to beat.
        beats = stamp is None or stamp[0] >= self._effects.loaded_at()
        return held is False and not beats and record is not None and left_by_exec(record, self._effects.me())

    def visible(self, record: Record) -> tuple[int, int] | None:
        """Pid and start of the record's process; None if they mean nothing here (another boot or namespace)."""
        if record.start is None or not comparable(record, self._effects.me()):
            return None
        return record.pid, record.start

    def speakers(self, name: str) -> list[tuple[int, int]]:
        """Pid and start of each process that keeps the lease while it runs, and can be seen from here."""
        record = self.record(LEASES, name)
        if record is None or not comparable(record, self._effects.me()):
            return []
        command = record.child or PENDING
        return [(pid, start) for pid, start in ((record.pid, record.start), command) if pid and start is not None]

    def granted_at(self, where: str, name: str) -> float | None:
        """When the lease was granted, by the boot clock (seconds); None if its entry doesn't say."""
        stamp = decode_stamp(self._read(f"{where}/{name}/alive", STAMP_BYTES) or b"")
        return stamp[1] / 1e9 if stamp and stamp[1] else None

    def _read(self, path: str, limit: int) -> bytes | None:
        """At most ``limit`` bytes of the file, none where there is no such file; None if it can't be read."""
        try:
            return self._directory.read(path, limit)
        except OSError as error:
            return b"" if error.errno in NO_FILE else None

    def judge_record(self, path: str) -> Finding:
        """`judge` for a bare record without a liveness lock, which the holder of a lock directory leaves."""
        try:
            data = self._directory.read(path, MAX_BYTES + 1)
        except FileNotFoundError:
            return Finding(True, "vanished")
        except OSError:
            return judge(self._facts(path, None, None, None))
        return judge(self._facts(path, decode_record(data), None, data))

    def _facts(self, key: str, record: Record | None, held: bool | None, content: bytes | None) -> Facts:
        me = self._effects.me()
        holder: Presence = "unseen"
        child: Presence | None = None
        if record is not None:
            can = comparable(record, me)
            holder = self._presence(record.pid, record.start) if can else "unseen"
            if record.child is not None:
                child = self._child(record.child) if can else "unseen"
        heartbeat, stale_after = self._intervals(record)
        seen = self._see(key, content, heartbeat, stale_after)
        return Facts(
            record=record,
            observer=me,
            local=self._pool.local,
            lock={True: "held", False: "free", None: "unknown"}[held],  # type: ignore[arg-type]
            holder=holder,
            child=child,
            unchanged=None if seen is None else seen.unchanged,
            stale_after=stale_after,
            one_kernel=self._pool.local and self._pool.kind == "os",
        )

    def _presence(self, pid: int, start: int | None) -> Presence:
        return "unseen" if start is None else self._ask(pid, start)

    def _child(self, child: Child) -> Presence:
        return "unseen" if child == PENDING else self._presence(child.pid, child.start)

    def _namespace_has_ended(self, record: Record) -> bool:
        """Whether no process is left in the pid namespace of ``record``; then those that it names are gone as well."""
        me = self._effects.me()
        if me.pid_ns != INITIAL or record.pid_ns in (None, INITIAL) or record.boot is None or record.boot != me.boot:
            return False
        now = self._effects.monotonic()
        # What was seen a moment ago is good for "alive" only: a namespace that isn't in it may have begun since.
        if now >= self._namespaces_until or (self._namespaces and record.pid_ns not in self._namespaces):
            self._namespaces, self._namespaces_until = self._effects.namespaces(), now + _NAMESPACES_EVERY
        return self._namespaces is not None and record.pid_ns not in self._namespaces

    def _intervals(self, record: Record | None) -> tuple[float, float]:
        """Seconds between its owner's heartbeats, and after how many seconds without one the owner counts as dead.

        They are the owner's own: the configuration may have been edited since, or be another one on the owner's
        machine.
        """
        if record is None:
            return max(self.heartbeat, HEARTBEAT), max(self.stale_after, STALE_AFTER)
        return record.heartbeat, max(record.stale_after, BEATS * record.heartbeat)

    def _see(self, key: str, content: bytes | None, heartbeat: float, stale_after: float) -> _Seen | None:
        """Count for how long ``content`` has stood still; None where it can't be read.

        Only time counts in which its owner could have written another one, as far as this process can know. If this
        process looked at nothing for `LONGEST_PAUSE`, it was stopped or suspended. The owner may have been as well, so
        the count starts again. A shorter stop falls into one gap between two looks. No gap counts for more than
        ``stale_after`` divided by `BEATS`, so a death takes that many looks at least.
        """
        now = self._effects.monotonic()
        with self._lock:
            if now - self._looked_at > LONGEST_PAUSE:
                self._paused_until = now
            self._looked_at = now
            if content is None:
                self._beats.pop(key, None)
                return None
            seen = self._beats.get(key)
            if seen is None or seen.content != content:
                seen = _Seen(content, now, now, 0.0)
            elif seen.last < self._paused_until and now - seen.last > heartbeat:
                seen = seen._replace(last=now, unchanged=0.0)
            else:
                gap = min(now - seen.last, stale_after / BEATS)
                seen = seen._replace(last=now, unchanged=seen.unchanged + gap)
            self._beats[key] = seen
        return seen

    def hold(self, name: str) -> Hold | None:
        """When the time of the lease of that name is over; None if it has no such end, or if that isn't known here."""
        record = self.record(LEASES, name)
        if record is None or record.max_hold is None:
            return None
        return self.hold_by(name, record, self._read(f"{LEASES}/{name}/alive", STAMP_BYTES))

    def hold_by(self, name: str, record: Record | None, content: bytes | None) -> Hold | None:
        """`hold` by the record and the content of ``alive``."""
        if record is None or record.max_hold is None or content is None:
            return None
        if not same_clocks(record, self._effects.me()):
            return None
        stamp = decode_stamp(content)
        if stamp is not None and stamp[2]:
            return hold_of(record, stamp[2])
        # Its holder was stopped before it could note the grant, or the stamp is corrupt. Then the time is counted from
        # when this observer first saw it so.
        seen = self._see(name, content, *self._intervals(record))
        return None if seen is None else hold_of(record, seen.first)

    def record(self, where: str, name: str) -> Record | None:
        """The entry's record; None if it is missing or corrupt. Parsed again only when the file has changed."""
        return self._record(where, name)[0]

    def _record(self, where: str, name: str) -> tuple[Record | None, bool]:
        """`record`, and whether the file could be read."""
        path = f"{where}/{name}/info.json"
        known = self._records.get(name)
        try:
            if known is not None and known[0] == _version(self._directory.stat(path)):
                return known[1], True
            data, found = self._directory.read_and_stat(path, MAX_BYTES + 1)
        except OSError as error:
            return None, error.errno in NO_FILE
        record = decode_record(data)
        if record is not None:  # a file that isn't whole yet may have the very time stamp that it will have when it is
            with self._lock:
                if len(self._records) >= _MOST_RECORDS:
                    self._records.clear()  # a process that never sweeps here would forget none of them
                self._records[name] = _version(found), record
        return record, True

    def forget_all_but(self, names: set[str]) -> None:
        """Drop what is remembered of entries that are gone, and of holders of the lock directory not seen for a
        while."""
        recently = self._effects.monotonic() - max(self.heartbeat, LONGEST_PAUSE)
        with self._lock:
            self._beats = {
                name: seen
                for name, seen in self._beats.copy().items()  # a copy, as above
                if name in names or ("/" in name and seen.last >= recently)
            }
            self._records = {name: known for name, known in self._records.copy().items() if name in names}
