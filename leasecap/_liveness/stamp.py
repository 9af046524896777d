"""Heartbeats: the bytes of ``alive``, and how often they are written."""

from __future__ import annotations

HEARTBEAT = 10.0
"""Seconds between an owner's heartbeats."""

STALE_AFTER = 30.0
"""Seconds without a heartbeat after which the owner counts as dead where nothing else speaks for it."""

BEATS = 3
"""Heartbeats that must fit into ``stale_after``: one may be late, one may be lost."""

STAMP_BYTES = 67
_SHORT_BYTES = 50  # of a stamp that doesn't say when the slot was asked for
_RANGE = 2**64
_BLANK = ord(" ")


def encode_stamp(now: int, granted: int = 0, since: float = 0.0, asked: int = 0) -> bytes:
    """The content of ``alive``, in fixed width: boot clock (ns) of this heartbeat and of the grant (0: not yet).

    They are followed by ``since``, the grant on the monotonic clock (ns), which stands while the machine sleeps
    (`max_hold`), and by when the slot was asked for, on the boot clock (ns) of whoever asked. What a later version
    appends is not read.

    A clock that was moved (libfaketime moves these too) can be negative, and has to go on changing from beat to beat.
    So numbers are written as two's complements.
    """
    return b"%016x %016x %016x %016x" % (now % _RANGE, granted % _RANGE, int(since * 1e9) % _RANGE, asked % _RANGE)


def decode_stamp(data: bytes) -> tuple[int, int, float, int] | None:
    """What was given to `encode_stamp`, or None for anything else."""
    try:
        raw = bytes.fromhex(data.decode("ascii"))  # it skips blanks, so their places are checked below
    except ValueError:
        return None
    if (len(raw), len(data)) not in ((32, STAMP_BYTES), (24, _SHORT_BYTES)):
        return None
    if any(blank != _BLANK for blank in data[16::17]):
        return None
    beaten, granted, since, *asked = [int.from_bytes(raw[at : at + 8], signed=True) for at in range(0, len(raw), 8)]
    return beaten, granted, since / 1e9, asked[0] if asked else 0
