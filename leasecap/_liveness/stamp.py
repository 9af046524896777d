"""Heartbeats: the bytes of ``alive``, and how often they are written."""

from __future__ import annotations

HEARTBEAT = 10.0
"""Seconds between an owner's heartbeats."""

STALE_AFTER = 30.0
"""Seconds without a heartbeat after which the owner counts as dead where nothing else speaks for it."""

BEATS = 3
"""Heartbeats that must fit into ``stale_after``: one may be late, one may be lost."""

STAMP_BYTES = 84
_FIELD = 17  # bytes of one number with the blank before it; earlier versions wrote three or four of them
_FEWEST, _MOST = 3, 5
_RANGE = 2**64
_BLANK = ord(" ")


def encode_stamp(now: int, granted: int = 0, since: float = 0.0, asked: int = 0, answered: int = 0) -> bytes:
    """The content of ``alive``, in fixed width: boot clock (ns) of this heartbeat and of the grant (0: not yet).

    They are followed by ``since``, the grant on the monotonic clock (ns), which stands while the machine sleeps
    (`max_hold`), by when the slot was asked for, on the boot clock (ns) of whoever asked, and by when the answer began
    of the HTTP request that it is for (likewise; 0: not yet, or there is none). What a later version appends is not
    read.

    A clock that was moved (libfaketime moves these too) can be negative, and has to go on changing from beat to beat.
    So numbers are written as two's complements.
    """
    fields = (now, granted, int(since * 1e9), asked, answered)
    return b"%016x %016x %016x %016x %016x" % tuple([field % _RANGE for field in fields])


def decode_stamp(data: bytes) -> tuple[int, int, float, int, int] | None:
    """What was given to `encode_stamp`, or None for anything else."""
    try:
        raw = bytes.fromhex(data.decode("ascii"))  # it skips blanks, so their places are checked below
    except ValueError:
        return None
    fields = len(raw) // 8
    if not _FEWEST <= fields <= _MOST or (len(raw), len(data)) != (fields * 8, fields * _FIELD - 1):
        return None
    if any(blank != _BLANK for blank in data[16::17]):
        return None
    numbers = [int.from_bytes(raw[at : at + 8], signed=True) for at in range(0, len(raw), 8)]
    beaten, granted, since, asked, answered = (*numbers, 0, 0)[:_MOST]
    return beaten, granted, since / 1e9, asked, answered
