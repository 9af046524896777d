"""Which pid namespaces have a process in them, where that can be known for sure (Linux).

A process that died with its namespace leaves a pid that means nothing in any other. Only the initial namespace sees all
others. A namespace lives as long as its first process: once that one is gone, the kernel has killed all others in it.
"""

from __future__ import annotations

import os

INITIAL = "pid:[4026531836]"
"""The namespace that the kernel starts with (PROC_PID_INIT_INO)."""


def populated() -> frozenset[str] | None:
    """The pid namespaces in which a process lives; None unless each process is surely seen with its namespace."""
    try:
        # A /proc of another namespace shows only some processes, and hidepid hides those of other users.
        if os.readlink("/proc/self/ns/pid") != INITIAL or os.readlink("/proc/self") != str(os.getpid()):
            return None
        if _hides_processes():
            return None
        # The initial namespace has the first process of all, whose own link few may read.
        found = {INITIAL}
        for pid in os.listdir("/proc"):
            if pid.isdigit() and pid != "1":
                try:
                    found.add(os.readlink(f"/proc/{pid}/ns/pid"))
                except (FileNotFoundError, ProcessLookupError):
                    if os.path.lexists(f"/proc/{pid}"):
                        return None
    except OSError:
        return None
    return frozenset(found)


def _hides_processes() -> bool:
    options = None
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            before, _, after = line.partition(b" - ")
            if before.split(b" ")[4] == b"/proc":  # a later one lies over an earlier one
                options = after.split()[-1].split(b",")
    return options is None or any(one.startswith(b"hidepid=") and one[8:] not in (b"0", b"off") for one in options)
