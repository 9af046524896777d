"""Who this process is, and whether another one still runs, as far as that can be seen from here."""

from __future__ import annotations

import errno
import os
import sys

from leasecap._liveness.presence import Identity
from leasecap._liveness.verdict import CONTAINERS_BOOT

if sys.platform == "darwin":
    from leasecap._host import macos
elif sys.platform == "win32":
    from leasecap._host import windows

TYPE_CHECKING = False
if TYPE_CHECKING:
    import psutil

    from leasecap._liveness.presence import Presence

_LINUX = sys.platform == "linux"


_me: Identity | None = None


def this_process() -> Identity:
    """This process; computed once, and again after a fork."""
    global _me
    if _me is None or _me.pid != os.getpid():
        pid = os.getpid()
        _me = Identity(
            pid=pid,
            start=start_of(pid),
            uid=_uid(),
            boot=_boot_id(),
            machine=_machine_id(),
            pid_ns=_namespace("pid"),
            time_ns=_namespace("time"),
            sees_processes=_sees_processes(pid),
            boot_offset=_boot_offset(),
        )
    return _me


def _uid() -> int:
    if sys.platform == "win32":
        return 0
    return os.geteuid()


def forget() -> None:
    """Forget what `this_process` found; for a fork's child, which can have its parent's pid in another pid
    namespace."""
    global _me
    _me = None


def start_of(pid: int) -> int | None:
    """When ``pid`` started, as a number that is only good for comparing; None if it can't be seen or is a zombie.

    On Linux it is the raw tick count of /proc/PID/stat: psutil's create_time() adds the boot time, which moves with the
    wall clock.
    """
    if _LINUX:
        fields = _stat_fields(pid)
        return None if fields is None or _has_exited(pid, fields) else int(fields[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else _started(process)
    except psutil.Error:
        return None


def _started(process: psutil.Process) -> int:
    """The start by psutil. From 7.1 on, `create_time` on macOS adds by how much the wall clock was set since this
    process loaded psutil: two processes would read two starts of a third one. By what psutil itself compares it isn't
    added.
    """
    try:
        return int(process._proc.create_time(monotonic=True) * 1e6)  # type: ignore[attr-defined]
    except (AttributeError, TypeError):  # an earlier psutil, and Windows
        return int(process.create_time() * 1e6)


def presence(pid: int, start: int) -> Presence:
    """Whether the process that had this pid and start time runs, is stopped (SIGSTOP, Ctrl-Z) or has exited.

    "unseen" if that can't be told. A zombie has exited. A process that a debugger has stopped counts as running, since
    it goes on by itself. One in a frozen cgroup can't be told from one that runs.

    Ask only when pid namespace, time namespace and boot are known to be the same.
    """
    if _LINUX:
        fields = _stat_fields(pid)
        if fields is not None:
            if _has_exited(pid, fields) or int(fields[19]) != start:
                return "gone"
            return "stopped" if fields[0] == b"T" else "runs"
    if sys.platform == "win32":
        return _presence_on_windows(pid, start)
    try:
        os.kill(pid, 0)  # unlike a missing /proc entry, ESRCH can't come from a hidden process (hidepid)
    except ProcessLookupError:
        return "gone"
    except OSError as error:
        if error.errno != errno.EPERM:
            return "unseen"
    if _LINUX:
        return "unseen"
    import psutil

    try:
        process = psutil.Process(pid)
        status, found = process.status(), _started(process)
    except psutil.NoSuchProcess:
        return "gone"
    except psutil.Error:  # a sandbox that hides other processes
        return "unseen"
    if status == psutil.STATUS_ZOMBIE or found != start:
        return "gone"
    return "stopped" if status == psutil.STATUS_STOPPED else "runs"


def _presence_on_windows(pid: int, start: int) -> Presence:
    """`presence` where no signal may be sent to see whether a process is there: 0 is a Ctrl-C."""
    import psutil

    try:
        found = _started(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return "gone"
    except psutil.Error:  # somebody else's, of which no more is told
        return "unseen"
    return "runs" if found == start else "gone"


def child_has_ended(pid: int) -> bool:
    """Whether this child of ours has ended. It isn't waited for: while it is a zombie, pid and group can't be
    another's."""
    if sys.platform == "win32" or not hasattr(os, "waitid"):  # macOS before Python 3.13
        return start_of(pid) is None
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # SIGCHLD is ignored here, so the kernel has waited for it
        return True


def ancestors_of(pid: int) -> list[int]:
    """The parents of ``pid``, nearest first, as far as they can be seen (Linux; elsewhere by psutil)."""
    found: list[int] = []
    if not _LINUX:
        import psutil

        try:
            return [parent.pid for parent in psutil.Process(pid).parents()]
        except psutil.Error:
            return found
    while (fields := _stat_fields(pid)) is not None and (pid := int(fields[1])) > 0 and len(found) < 64:
        found.append(pid)
    return found


def command_of(pid: int) -> list[str]:
    """The command line of ``pid``; empty where it can't be seen."""
    if not _LINUX:
        import psutil

        try:
            return list(psutil.Process(pid).cmdline())
        except psutil.Error:
            return []
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().removesuffix(b"\0").split(b"\0")]
    except OSError:
        return []


def _stat_fields(pid: int) -> list[bytes] | None:
    # Field 3 (state) comes first: the command before it may hold blanks and parentheses, so cut at the last ")".
    # os.open makes fewer system calls than open() does, and a sweep or a `status` asks for every holder.
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
        try:
            return os.read(fd, 4096).rpartition(b")")[2].split()
        finally:
            os.close(fd)
    except OSError:  # ESRCH too: it ended in between
        return None


def _has_exited(pid: int, fields: list[bytes]) -> bool:
    if fields[0] not in (b"Z", b"X"):
        return False
    # A main thread that has exited (pthread_exit) shows as a zombie while the process's other threads work.
    try:
        return os.listdir(f"/proc/{pid}/task") in ([str(pid)], [])
    except OSError:
        return True


def _sees_processes(pid: int) -> bool:
    if not _LINUX:
        return True
    try:
        # A /proc of another pid namespace, or none at all, makes every pid look gone.
        return os.readlink("/proc/self") == str(pid)
    except OSError:
        return False


def _namespace(kind: str) -> str | None:
    if not _LINUX:
        return "none"  # the platform has no such namespaces: all processes share the one
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except FileNotFoundError:
        # A kernel without time namespaces (before 5.6) has /proc/self/ns, but not this one in it.
        return "none" if kind == "time" and os.path.isdir("/proc/self/ns") else None
    except OSError:
        return None


def _boot_offset() -> int | None:
    time_ns = _namespace("time")
    if time_ns == "none":
        return 0
    # The file has the offsets of the namespace in which *children* start: another one after unshare(CLONE_NEWTIME).
    if time_ns is None or time_ns != _namespace("time_for_children"):
        return None
    try:
        with open("/proc/self/timens_offsets", "rb") as file:
            return read_boot_offset(file.read())
    except OSError:
        return None


def read_boot_offset(content: bytes) -> int | None:
    """The boot clock's offset (ns) in what ``/proc/PID/timens_offsets`` says; None if it doesn't say."""
    for line in content.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[0] == b"boottime":
            try:
                return int(fields[1]) * 10**9 + int(fields[2])
            except ValueError:
                return None
    return None


def _boot_id() -> str | None:
    if _LINUX:
        path = "/proc/sys/kernel/random/boot_id"
        boot = _first_line(path)
        return CONTAINERS_BOOT + boot if boot and _is_mounted_over(path) else boot
    if sys.platform == "darwin":
        return macos.boot_session()
    if sys.platform == "win32":
        return windows.boot_session()
    return None


def _machine_id() -> str | None:
    if sys.platform == "darwin":
        return macos.host_uuid()
    return _first_line("/etc/machine-id") or _first_line("/var/lib/dbus/machine-id")


def _is_mounted_over(path: str) -> bool:
    """Whether a file in /proc is not the kernel's own."""
    try:
        return os.stat(path).st_dev != os.stat("/proc/self").st_dev
    except OSError:
        return True


def _first_line(path: str) -> str | None:
    try:
        with open(path, "rb") as file:  # as text it would load a codec, which a first acquire would feel
            return file.readline().decode("ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
