"""Which boot this is, as Windows tells it."""

from __future__ import annotations

import ctypes
import os
import sys

_TIME_OF_DAY = 3  # SystemTimeOfDayInformation


class _TimeOfDay(ctypes.Structure):
    """SYSTEM_TIMEOFDAY_INFORMATION. Times are in units of 100 ns."""

    _fields_ = (
        ("boot_time", ctypes.c_int64),
        ("current_time", ctypes.c_int64),
        ("time_zone_bias", ctypes.c_int64),
        ("time_zone_id", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("boot_time_bias", ctypes.c_uint64),
        ("sleep_time_bias", ctypes.c_uint64),
    )


def boot_session() -> str | None:
    """A name for this boot; None where none can be had.

    It is the time of the boot. Where the clock is set, Windows moves that time as well, and says by how much: that is
    taken off. A container has a view of its own on the process table, and another name for the computer.
    """
    found = _TimeOfDay()
    if sys.platform != "win32":
        return None
    try:
        refused = ctypes.WinDLL("ntdll").NtQuerySystemInformation(
            _TIME_OF_DAY, ctypes.byref(found), ctypes.sizeof(found), None
        )
    except (AttributeError, OSError):
        return None
    if refused or not found.boot_time:
        return None
    return f"{found.boot_time - found.boot_time_bias:x}@{os.environ.get('COMPUTERNAME', '')}"
