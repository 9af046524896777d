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

    It is the time of the boot, as the clock was set then: where the clock is set, Windows moves the time of the boot with
    it, and says by how much. A container has its own view of the process table, and another name of the computer.
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
    return f"{found.boot_time - found.boot_time_bias:x} {os.environ.get('COMPUTERNAME', '')}"
