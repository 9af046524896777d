"""macOS, as far as Linux can be it: what it lacks is taken away, and what only it has is there, made of what Linux has.

Loaded by every Python process of an environment before anything else (`scripts/test --as macos`): the environment has a
.pth file that runs this. What can't be had so: its errnos and signal numbers, its file systems, FSEvents, its kernel.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import sys
import time
import weakref
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

KEEP_LINUX = frozenset({"psutil", "watchdog", "gevent", "greenlet"})
"""Packages with a part in C for the platform that this really is."""

GONE: dict[ModuleType, str] = {
    os: """pidfd_open eventfd memfd_create pipe2 unshare setns splice copy_file_range getrandom
        getxattr setxattr listxattr removexattr posix_fadvise posix_fallocate fdatasync
        sched_getaffinity sched_setaffinity sched_getscheduler sched_setscheduler
        getresuid getresgid setresuid setresgid O_TMPFILE O_PATH O_DIRECT O_NOATIME O_LARGEFILE""",
    select: " ".join(name for name in vars(select) if name.lower().startswith("epoll")),
    signal: "sigtimedwait sigwaitinfo pidfd_send_signal SIGPWR SIGSTKFLT SIGRTMIN SIGRTMAX",
    time: "CLOCK_BOOTTIME CLOCK_TAI",
    fcntl: "F_SETPIPE_SZ F_GETPIPE_SZ F_OFD_SETLK F_OFD_SETLKW F_OFD_GETLK",
}
if sys.version_info < (3, 13):
    GONE[os] += " waitid P_PID P_PGID P_ALL WEXITED WSTOPPED WNOWAIT"

if sys.platform == "linux":
    _pidfd_open = os.pidfd_open
    _epoll, _IN, _OUT = select.epoll, select.EPOLLIN, select.EPOLLOUT
_mkfifo = os.mkfifo


def mkfifo(path: str, mode: int = 0o666, *, dir_fd: int | None = None) -> None:
    """As before macOS 13."""
    if dir_fd is not None:
        raise NotImplementedError("dir_fd unavailable on this platform")
    _mkfifo(path, mode)


# -- kqueue ---------------------------------------------------------------------------------------------------------

FILTER_READ, FILTER_WRITE, FILTER_PROC = -1, -2, -5
EV_ADD, EV_DELETE, EV_ENABLE, EV_DISABLE, EV_ONESHOT, EV_CLEAR, EV_EOF = 1, 2, 4, 8, 0x10, 0x20, 0x8000
NOTE_EXIT = 0x80000000


class kevent:  # noqa: N801
    def __init__(self, ident: Any, filter: int = FILTER_READ, flags: int = EV_ADD, fflags: int = 0) -> None:  # noqa: A002
        self.ident = ident if isinstance(ident, int) else ident.fileno()
        self.filter, self.flags, self.fflags = filter, flags, fflags


class kqueue:  # noqa: N801
    """Made of an epoll, with a pidfd for each process. As there, a fork's child has none."""

    def __init__(self) -> None:
        self._epoll = _epoll()
        self._filters: dict[int, set[int]] = {}
        self._processes: dict[int, int] = {}  # by pidfd
        _kqueues.add(self)

    @property
    def closed(self) -> bool:
        return self._epoll.closed

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        if not self.closed:
            self._epoll.close()
            for pidfd in self._processes:
                os.close(pidfd)

    def control(self, changes: Any, most: int, timeout: float | None = None) -> list[kevent]:
        for change in changes or ():
            if change.filter == FILTER_PROC:
                self._watch(change)
            else:
                self._change(change)
        if not most:
            return []
        found: list[kevent] = []
        for fd, mask in self._epoll.poll(timeout, most):
            if fd in self._processes:
                found.append(kevent(self._processes[fd], FILTER_PROC, EV_ADD | EV_EOF, NOTE_EXIT))
                self._epoll.unregister(fd)  # it is told once
                continue
            # What is closed, or fails, can be read from and written to.
            readable, writable = mask & ~_OUT, mask & ~_IN
            filters = self._filters.get(fd, set())
            found += [kevent(fd, one) for one in filters if (readable if one == FILTER_READ else writable)]
        return found

    def _change(self, change: kevent) -> None:
        filters = self._filters.setdefault(change.ident, set())
        if change.flags & EV_DELETE:
            if change.filter not in filters:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            filters.discard(change.filter)
        else:
            filters.add(change.filter)
        mask = (_IN if FILTER_READ in filters else 0) | (_OUT if FILTER_WRITE in filters else 0)
        try:
            if filters:
                self._set(change.ident, mask)
            else:
                del self._filters[change.ident]
                self._epoll.unregister(change.ident)
        except BaseException:
            self._filters.pop(change.ident, None)
            raise

    def _set(self, fd: int, mask: int) -> None:
        # The number may have been closed since and be another file's now: kqueue forgets what is closed, and epoll goes
        # on with it while a copy is open.
        try:
            self._epoll.register(fd, mask)
        except FileExistsError:
            self._epoll.modify(fd, mask)

    def _watch(self, change: kevent) -> None:
        try:
            with open(f"/proc/{change.ident}/stat", "rb") as file:
                state = file.read().rpartition(b")")[2].split()[0]
        except OSError:
            state = b"X"
        if state in b"ZX":
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        pidfd = _pidfd_open(change.ident)
        self._processes[pidfd] = change.ident
        self._epoll.register(pidfd, _IN)


_kqueues: weakref.WeakSet[kqueue] = weakref.WeakSet()


def _close_in_child() -> None:
    for queue in tuple(_kqueues):
        queue.close()


# -- the C library --------------------------------------------------------------------------------------------------


def _first_line(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.readline().strip()
    except OSError:
        return b"none"


class _Library:
    """What `ctypes.CDLL(None)` gives."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def sysctlbyname(self, name: bytes, text: Any, size: Any, new: None, new_size: Any) -> int:
        value = _first_line("/proc/sys/kernel/random/boot_id").upper()
        if name != b"kern.bootsessionuuid" or size._obj.value <= len(value):
            return -1
        text.value, size._obj.value = value, len(value) + 1
        return 0

    def gethostuuid(self, found: Any, timeout: Any) -> int:
        found[:] = bytes.fromhex(_first_line("/etc/machine-id").decode() or "0" * 32)[:16].ljust(16, b"\0")
        return 0


def _with_library(ctypes: Any) -> None:
    real: Any = ctypes.CDLL

    def __new__(cls: type, name: str | None = "", *args: Any, **more: Any) -> Any:  # noqa: N807
        return _Library(real(None, *args, **more)) if name is None else real.__new__(cls)

    ctypes.CDLL = type("CDLL", (real,), {"__new__": __new__})


# -- modules that are loaded later ------------------------------------------------------------------------------------


def _load(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Have it know the real platform; and change ctypes."""
    if module.__name__ == "ctypes":
        execute(module)
        _with_library(module)
        return
    sys.platform = "linux"
    try:
        execute(module)
    finally:
        sys.platform = "darwin"


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.startswith("_sysconfigdata_"):  # how this Python was built
            return PathFinder.find_spec(name.replace("darwin", "linux"), path, target)
        if name != "ctypes" and name.partition(".")[0] not in KEEP_LINUX:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            vars(spec.loader)["exec_module"] = partial(_load, spec.loader.exec_module)
        return spec


def _system_proxies() -> ModuleType:
    """What urllib asks for the proxies in the system's settings: there are none."""
    module = ModuleType("_scproxy")
    vars(module).update(_get_proxy_settings=dict, _get_proxies=dict)
    return module


def _no_proc(event: str, args: tuple[Any, ...]) -> None:
    """There is no /proc for leasecap's code."""
    if event not in ("open", "os.listdir") or not isinstance(args[0], str) or not args[0].startswith("/proc"):
        return
    if f"{os.sep}leasecap{os.sep}_" in sys._getframe(1).f_code.co_filename:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), args[0])


def become() -> None:
    """Be it from now on."""
    for module, names in GONE.items():
        for name in names.split():
            vars(module).pop(name, None)
    vars(os)["mkfifo"] = mkfifo
    os.supports_dir_fd.discard(_mkfifo)
    vars(select).update(PIPE_BUF=512, kqueue=kqueue, kevent=kevent)
    for name, value in globals().items():
        if name.startswith(("FILTER_", "EV_", "NOTE_")):
            setattr(select, f"KQ_{name}", value)
    os.register_at_fork(after_in_child=_close_in_child)
    sys.meta_path.insert(0, _Finder)
    sys.modules["_scproxy"] = _system_proxies()
    sys.platform = "darwin"
    sys.addaudithook(_no_proc)


if sys.platform != "darwin":  # `site` may come here twice
    become()
