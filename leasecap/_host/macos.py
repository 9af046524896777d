"""Which machine and which boot this is, as macOS tells it.

The C library is asked: the commands `sysctl` and `ioreg` would say the same, but cost each `leasecap run` a process.
"""

from __future__ import annotations

import ctypes

_ROOM = 64  # bytes; a UUID as text has 36


def boot_session() -> str | None:
    """The UUID of this boot, kern.bootsessionuuid; None where it can't be had (a sandbox)."""
    text, size = ctypes.create_string_buffer(_ROOM), ctypes.c_size_t(_ROOM)
    try:
        ask = ctypes.CDLL(None).sysctlbyname
    except (AttributeError, OSError):
        return None
    if ask(b"kern.bootsessionuuid", text, ctypes.byref(size), None, ctypes.c_size_t(0)):
        return None
    return text.value.decode("ascii", "replace") or None


def host_uuid() -> str | None:
    """The UUID of this machine, IOPlatformUUID; None where it can't be had."""
    found = (ctypes.c_ubyte * 16)()
    patience = (ctypes.c_long * 2)(1, 0)  # struct timespec: a second, while the machine starts
    try:
        ask = ctypes.CDLL(None).gethostuuid
    except (AttributeError, OSError):
        return None
    if ask(found, patience):
        return None
    return bytes(found).hex()
