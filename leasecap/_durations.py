"""Durations as people write and read them. Inside leasecap a duration is a float of seconds."""

from __future__ import annotations

import math

ALLOWED = "seconds (1.5) or numbers with units (500ms, 30s, 1m30s, 5m, 1h, 1d), a year at most"

# This is below what select(), Condition.wait() and time.sleep() can take on any platform. Nobody means a longer wait.
LONGEST = 365 * 86400.0

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER = "0123456789."


def parse_duration(text: str) -> float:
    """The seconds that ``text`` means: ``1.5``, ``500ms``, ``30s``, ``1m30s``, ``1d03h``. Only the last number may have
    a fraction. All that `format_duration` shows can be read.

    :raises ValueError: for anything else (nan, infinity, a sign, an exponent, an unknown unit, units that don't
        fall, more than a year); it says what is allowed.
    """
    seconds = _seconds(text)
    if seconds is not None and seconds <= LONGEST:
        return seconds
    shown = text if len(text) <= 40 else text[:39] + "…"
    raise ValueError(f"{shown!a} is not a duration; allowed: {ALLOWED}")


def _seconds(text: str) -> float | None:
    total, least, rest = 0.0, math.inf, text
    while True:
        after = rest.lstrip(_NUMBER)
        number, tail = rest[: len(rest) - len(after)], after.lstrip("dhms")
        unit, rest = after[: len(after) - len(tail)], tail
        # float() alone would take "nan", "1e9", "1_0", " 1" and digits of other scripts.
        whole, point, fraction = number.partition(".")
        if not (whole + fraction).isdigit() or (point and not fraction) or (point and rest):
            return None
        factor = _UNITS.get(unit) if unit or least < math.inf or rest else 1.0
        if factor is None or factor >= least:
            return None
        total, least = total + float(number) * factor, factor
        if not rest:
            return total


def format_duration(seconds: float) -> str:
    """A short text for people, cut and not rounded: ``0.4s``, ``12s``, ``3m05s``, ``2h10m``, ``4d03h``.

    A negative duration (two clocks disagree) is shown as ``0.0s``.
    """
    if seconds < 10:
        tenths = max(0, int(seconds * 10))
        return f"{tenths // 10}.{tenths % 10}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole // 60 % 60:02}m"
    return f"{whole // 86400}d{whole // 3600 % 24:02}h"
