"""Checks of the machine: clocks, the process table, notifications."""

from __future__ import annotations

import os
import sys
import time

from leasecap._doctor.check import Check
from leasecap._doctor.place import scratch
from leasecap._host.effects import Effects
from leasecap._host.process import this_process
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._doctor.check import Site

INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # a fixed number: PROC_PID_INIT_INO of the kernel's nsfs.h
_POLLING = "Those who wait then look by themselves: a little slower, just as correct."


def clock() -> Check:
    """Whether all processes can order their calls by one clock that counts suspended time."""
    if not hasattr(time, "CLOCK_BOOTTIME") and sys.platform not in ("darwin", "win32"):
        return Check("clock", "note", "no clock that counts suspended time: ages are too short after a suspend")
    offset = this_process().boot_offset
    if offset is None:
        return Check(
            "clock",
            "note",
            "the offsets of this process's time namespace can't be read (/proc/self/timens_offsets)",
            "it queues behind all who wait. A pool that is made from here is ordered by the file system's clock.",
        )
    if offset:
        moved = f"boot clock of a time namespace, {offset / 1e9:+.0f} s off: that is taken off where calls are ordered"
        return Check("clock", "ok", moved)
    monotonic = time.monotonic_ns()
    suspended = (Effects().boot_clock() - monotonic) // 10**9
    counted = f", {suspended} s suspended counted" if suspended else ""
    return Check("clock", "ok", f"boot clock, the same for all processes{counted}")


def processes() -> Check:
    """Whether a holder's exit can be seen in the process table."""
    me = this_process()
    if me.boot is None:
        return Check(
            "processes",
            "note",
            "this boot has no id that could be read: only heartbeats tell that a holder is dead",
            "a slot of a killed holder comes free after stale_after (30 s)."
            + (" Mount /proc to make that milliseconds." if sys.platform == "linux" else ""),
        )
    if not me.sees_processes:
        return Check(
            "processes",
            "note",
            "/proc is missing or of another pid namespace: locks tell who lives, pids don't",
            "what a command leaves running in the background may keep its slot. Mount a /proc of this namespace.",
        )
    if sys.platform == "linux":
        if me.pid_ns != INITIAL_PID_NAMESPACE:
            found = "in a pid namespace of its own (container or sandbox): agents outside are judged by their locks"
            return Check("processes", "ok", found)
        if not os.path.exists("/proc/1/stat"):
            return Check("processes", "ok", "only your own are visible (hidepid), which is enough")
    return Check("processes", "ok", "visible: a killed holder is noticed at once")


def notifications(site: Site) -> Check:
    """Whether a waiter is woken, in the way that is used when a slot comes free, and how fast."""
    with scratch(site.ground) as path:
        woken = runtime.health(site.root).wakeups(path)
    if woken.by == "no thread":
        return Check("notifications", "note", "none: no thread to be had", _POLLING)
    if woken.by == "nothing":
        return Check("notifications", "note", "none: no named pipes here, and no file is watched", _POLLING)
    times = sorted(woken.times)
    if len(times) < woken.wanted:
        remedy = f"one did not arrive within {woken.patience:g} s. {_POLLING}"
        return Check("notifications", "note", "unreliable here" if times else "none arrive here", remedy)
    kind = "" if woken.by == "pipe" else " at a watched file, for want of named pipes"
    figures = f"{times[len(times) // 2]:.2f} ms (p50), {times[-1]:.2f} ms (worst)"
    return Check("notifications", "ok", f"arrive{kind} after {figures}")
