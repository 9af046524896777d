"""Who a process is, and what is seen of it."""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    Presence: TypeAlias = Literal["runs", "stopped", "gone", "unseen"]
    Process: TypeAlias = tuple[int, int]  # pid and start


class Identity(NamedTuple):
    """What must be equal for two processes to mean the same thing by a pid; None is unknown and equals nothing.

    :ivar start: the start time in raw clock ticks since boot (Linux), else in microseconds since the epoch.
    :ivar boot: the kernel's boot id.
    :ivar machine: the machine id.
    :ivar pid_ns: the pid namespace; pids of two namespaces are different things.
    :ivar time_ns: the time namespace, which shifts the start ticks.
    :ivar sees_processes: whether the process table in view is this process's own.
    :ivar boot_offset: how far the time namespace has moved the boot clock (ns); None where that can't be told.
    """

    pid: int
    start: int | None
    uid: int
    boot: str | None
    machine: str | None
    pid_ns: str | None
    time_ns: str | None
    sees_processes: bool
    boot_offset: int | None = 0
