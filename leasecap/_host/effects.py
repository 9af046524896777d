"""Every effect the protocol has on the world, one thin method each.

The store itself calls nothing of ``os`` or ``time``. So a test can put other objects in place of `Effects` and
`Directory`, and interleave processes, or stop them, between any two effects. What differs by platform is in this room.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial

from leasecap._host.directory import Directory, inode, write_all
from leasecap._host.exits import OTHERS_SEE_EXITS, SEES_EXITS, close_exit, exit_of
from leasecap._host.file_lock import try_lock, unlock
from leasecap._host.process import presence, this_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._liveness.presence import Identity, Presence

_read_boot_clock: Callable[[], int] = time.monotonic_ns
if sys.platform == "darwin":
    _read_boot_clock = partial(time.clock_gettime_ns, time.CLOCK_MONOTONIC_RAW)  # mach_continuous_time()
elif sys.platform == "linux":
    _read_boot_clock = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)


_LOADED_AT = _read_boot_clock()


class Effects:
    """The rest of the world: clocks, chance, locks on descriptors, and the process table."""

    __slots__ = ()

    def directory(self, path: str) -> Directory:
        return Directory(path)

    def boot_clock(self) -> int:
        """Nanoseconds since boot, suspended time included; one clock for all processes of a kernel."""
        return _read_boot_clock()

    def loaded_at(self) -> int:
        """When this program had leasecap loaded, by the boot clock."""
        return _LOADED_AT

    def wall_clock(self) -> float:
        """Seconds since 1970; only to carry times over a reboot."""
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def token(self) -> str:
        """64 random bits as 16 hexadecimal digits."""
        return os.urandom(8).hex()

    def lock(self, fd: int) -> bool:
        """Try once to take the exclusive OS lock; False while another holds it.

        :raises OSError: one of `file_lock.NO_OS_LOCKS` where the file system has none.
        """
        return try_lock(fd)

    def unlock(self, fd: int) -> None:
        unlock(fd)

    def write_at_start(self, fd: int, data: bytes) -> None:
        os.lseek(fd, 0, os.SEEK_SET)  # os.pwrite is missing on Windows; nobody else uses this description's offset
        write_all(fd, data)

    def inode(self, fd: int) -> tuple[int, int] | None:
        """Device and inode of what is open there; None: nothing is."""
        return inode(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def give_way(self) -> None:
        """Let those run who have just been woken.

        Linux takes a write to a pipe for the last thing that a process does before it sleeps, and lets the reader wait
        for the writer's processor. Without this, that wait is most of the time that a slow hand-off takes.
        """
        if hasattr(os, "sched_yield"):
            os.sched_yield()

    def me(self) -> Identity:
        return this_process()

    def presence(self, pid: int, start: int) -> Presence:
        return presence(pid, start)

    def namespaces(self) -> frozenset[str] | None:
        """The pid namespaces in which a process lives; None where that can't be told for sure."""
        from leasecap._host.namespaces import populated  # only processes in containers need it, or who looks at theirs

        return populated()

    @property
    def sees_exits(self) -> bool:
        """Whether `exit_of` is to be had in this process."""
        return SEES_EXITS

    @property
    def others_see_exits(self) -> bool:
        """Whether processes with another Python may have it, and so rest until they are told of something."""
        return OTHERS_SEE_EXITS

    def exit_of(self, pid: int, start: int) -> tuple[int, Presence] | None:
        return exit_of(pid, start)

    def close_exit(self, handle: int) -> None:
        close_exit(handle)
