"""``info.json``: what an entry says of its owner, for people and for proof of life.

A record is never parsed under the pool lock and never trusted: one that is truncated, changed, oversized or of wrong
types reads as None, and its entry counts as held until there is proof of death.

A later version may add fields, and then raises ``version``. A reader ignores fields that it doesn't know, whatever the
version says, and takes a missing one as unknown: `_MISSING` has the defaults, none of which proves a death. A change
that an earlier reader would misunderstand (another meaning, a field gone) needs another format of the whole pool
(`layout.FORMAT`); then no earlier reader comes here.
"""

from __future__ import annotations

import json
import math
from binascii import crc32

from leasecap._liveness.stamp import HEARTBEAT, STALE_AFTER
from leasecap._named_tuple import NamedTuple, from_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
MAX_BYTES = 16_384
"""A record is below 2 kB; leasecap has written nothing that is larger than this."""


class Child(NamedTuple):
    """A process that a record names beside its owner; ``pid`` 0: it can't be seen in the process table."""

    pid: int
    start: int


PENDING = Child(0, 0)


class Purpose(NamedTuple):
    """The HTTP request that a slot is for. Each is a printable name; None: not known.

    :ivar agent: the program that sends it.
    :ivar provider: where it goes.
    """

    agent: str | None = None
    provider: str | None = None
    model: str | None = None


class Record(NamedTuple):
    """See `presence.Identity` for the meaning of pid, start, boot, machine, pid_ns and time_ns.

    The entry's token stands in its name alone, so the record of a spare is right for the entry that is made of it.

    :ivar proof: "lock" where the holder keeps the OS lock on ``alive`` and heartbeats, "pid" where only the process
        table speaks for it (`leasecap acquire --for-pid`).
    :ivar local: whether the writer's root was on a local file system.
    :ivar child: the command that `leasecap run` started.
    :ivar command: argv, shortened, with what looks like a key masked; "" where it isn't told, as ``cwd``.
    :ivar max_hold: seconds for which it may be held, or None; after ``kill_after`` more see `max_hold`.
    :ivar agent: the process that the slot is asked for (`leasecap acquire --for-pid`), until that process holds it.
    :ivar heartbeat: seconds between the heartbeats that its owner writes.
    :ivar stale_after: seconds without one after which its owner counts as dead where nothing else speaks for it.
    :ivar purpose: the request that the slot is for, if it is for a single one.
    """

    pool: str
    pid: int
    start: int | None
    uid: int
    boot: str | None
    machine: str | None
    pid_ns: str | None
    time_ns: str | None
    host: str
    local: bool
    proof: str
    label: str | None
    command: str
    cwd: str
    child: Child | None = None
    max_hold: float | None = None
    kill_after: float | None = None
    agent: Child | None = None
    heartbeat: float = HEARTBEAT
    stale_after: float = STALE_AFTER
    version: int = VERSION
    purpose: Purpose | None = None


_PARTS: Mapping[str, type] = {"child": Child, "agent": Child, "purpose": Purpose}
_MISSING: dict[str, object] = {
    **Record._field_defaults,
    **dict.fromkeys(("start", "boot", "machine", "pid_ns", "time_ns", "label")),
    **dict.fromkeys(("pool", "host", "command", "cwd"), ""),
    "uid": 0,
    "local": False,
}
"""The defaults of missing fields. A record must have ``pid`` and ``proof``."""


def encode_record(record: Record) -> bytes:
    """The bytes of ``info.json``."""
    # Surrogates (undecodable bytes in argv or cwd) are escaped by ensure_ascii and come back as they were.
    parts = {name: part._asdict() for name in _PARTS if (part := getattr(record, name)) is not None}
    text = _checked({**record._asdict(), **parts})
    return b'%s,"check":%d}' % (text[:-1], crc32(text))


def checksum(raw: Mapping[str, object]) -> int:
    """What ``check`` must say in a record with these fields.

    One changed bit could name another process, which doesn't run, and that overrules even a lock that is held.
    """
    return crc32(_checked(raw))


def _checked(raw: Mapping[str, object]) -> bytes:
    return json.dumps({name: raw.get(name) for name in Record._fields}, separators=(",", ":")).encode("ascii")


def _is_as_written(data: bytes) -> bool:
    # To check the bytes is far cheaper than to write the fields again, and a granter reads records inside the section.
    text, _, check = data.rpartition(b',"check":')
    return check.rstrip() == b"%d}" % crc32(text + b"}")


def decode_record(data: bytes) -> Record | None:
    """The record, or None for anything that isn't one."""
    if len(data) > MAX_BYTES:
        return None
    try:
        raw = json.loads(data.decode())
        if not isinstance(raw, dict) or not (_is_as_written(data) or raw.get("check") == checksum(raw)):
            return None
        found = from_json(Record, raw, defaults=_MISSING, parts=_PARTS, in_bounds=_in_bounds)
    except (ValueError, RecursionError):
        return None
    if found.version < VERSION or found.proof not in ("lock", "pid"):
        return None
    beside = [process.pid for process in (found.child, found.agent) if process is not None]
    if not (0 < found.pid < 2**31 and all(0 <= pid < 2**31 for pid in beside)):
        return None
    # A hold of NaN seconds would be over from the start, since no moment is before it.
    if not all(limit is None or 0 <= limit < math.inf for limit in (found.max_hold, found.kill_after)):
        return None
    # With an interval of 0 its owner would be dead at once, with an infinite one never.
    if not (0 < found.heartbeat < math.inf and 0 < found.stale_after < math.inf):
        return None
    return found


def _in_bounds(value: object) -> bool:
    # An int that no float can hold could not be added to a time.
    return type(value) is not int or -(2**64) < value < 2**64


def name_of(record: Record) -> str:
    """What people know the work by: its label, else its request's agent and model, else the command."""
    return record.label or _request(record.purpose) or record.command


def _request(purpose: Purpose | None) -> str:
    return "" if purpose is None else " ".join(filter(None, (purpose.agent, purpose.model)))


def called(record: Record) -> str:
    """A process as it is named to people: ``pid 4711 (claude -p)``."""
    name = name_of(record)
    return f"pid {record.pid} ({name if len(name) <= 40 else name[:39] + '…'})" if name else f"pid {record.pid}"
