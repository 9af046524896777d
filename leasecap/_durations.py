"""Durations as people write and read them. Inside leasecap a duration is a float of seconds."""

from __future__ import annotations

ALLOWED = "seconds (1.5) or a number with a unit (500ms, 30s, 5m, 1h), a year at most"

# Below what select(), Condition.wait() and time.sleep() can take on any platform; a longer wait is a slip of the pen.
LONGEST = 365 * 86400.0

# The longest suffix first: "ms" also ends in "s".
_UNITS = (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0))


def parse_duration(text: str) -> float:
    """The seconds that ``text`` means: ``1.5``, ``500ms``, ``30s``, ``5m``, ``1h``; fractions allowed.

    :raises ValueError: for anything else (nan, infinity, a sign, an exponent, an unknown unit, more than a year); it
        says what is allowed.
    """
    number, factor = text, 1.0
    for suffix, unit in _UNITS:
        if text.endswith(suffix):
            number, factor = text[: -len(suffix)], unit
            break
    # float() alone would take "nan", "1e9", "1_0", " 1" and digits of other scripts.
    whole, point, fraction = number.partition(".")
    digits = whole + fraction
    if digits.isascii() and digits.isdigit() and (fraction or not point):
        seconds = float(number) * factor
        if seconds <= LONGEST:
            return seconds
    shown = text if len(text) <= 40 else text[:39] + "…"
    raise ValueError(f"{shown!a} is not a duration; allowed: {ALLOWED}")


def format_duration(seconds: float) -> str:
    """A short text for people, cut and not rounded: ``0.4s``, ``12s``, ``3m05s``, ``2h10m``, ``4d03h``.

    What is below zero (two clocks that disagree) is shown as ``0.0s``.
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
