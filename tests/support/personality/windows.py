"""Windows, as far as leasecap's library can meet it on Linux: its own modules see another `os`, `signal` and `sys`.

Loaded by every Python process of an environment before anything else (`scripts/test --as windows`). Only leasecap's
code sees it: the tests, pytest and the standard library go on as they are, since they have to work. What leasecap sees
lacks what Windows' Python lacks. What leasecap has open in any process can't be replaced or removed, and a directory
with it inside can't be renamed. What can't be had so: paths with backslashes and drives, access lists, and files that
others than leasecap have open.
"""

from __future__ import annotations

import _frozen_importlib as importing
import builtins
import errno
import fcntl
import os
import stat
import sys
import time
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

LACKING = {
    "os": """fork forkpty register_at_fork posix_spawn posix_spawnp execve_at mkfifo mknod geteuid getuid getegid getgid
        getpgid getpgrp setpgid setsid getsid killpg waitid wait wait3 wait4 statvfs fstatvfs fchmod fchown chown lchown
        pread pwrite set_blocking get_blocking pidfd_open eventfd memfd_create sched_yield sched_getaffinity uname
        sysconf ctermid tcgetpgrp openpty O_NOFOLLOW O_NONBLOCK O_CLOEXEC O_DIRECTORY O_NOCTTY O_PATH O_TMPFILE major
        minor getloadavg nice getpriority WNOHANG WUNTRACED WCONTINUED P_PID P_ALL P_PGID WEXITED WSTOPPED WNOWAIT
        WIFEXITED WIFSIGNALED WIFSTOPPED WEXITSTATUS WTERMSIG WSTOPSIG WCOREDUMP getresuid ST_RDONLY""",
    "signal": """SIGKILL SIGHUP SIGQUIT SIGALRM SIGUSR1 SIGUSR2 SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGPIPE
        SIGURG SIGWINCH SIGXFSZ SIGXCPU pthread_sigmask pthread_kill sigwait sigwaitinfo sigtimedwait sigpending
        setitimer getitimer alarm pause SIG_BLOCK SIG_UNBLOCK SIG_SETMASK siginterrupt ITIMER_REAL""",
    "select": "epoll poll PIPE_BUF EPOLLIN EPOLLOUT POLLIN POLLOUT",
    "time": "clock_gettime clock_gettime_ns CLOCK_BOOTTIME CLOCK_MONOTONIC CLOCK_MONOTONIC_RAW CLOCK_REALTIME",
}
LACKING["_signal"] = LACKING["signal"]
LACKING["ctypes"] = LACKING["psutil"] = ""
MISSING = frozenset({"fcntl", "posix", "pwd", "grp", "resource", "termios", "tty", "pty"})

O_BINARY = 0x8000  # as there; Linux ignores this bit


class _Seen(ModuleType):
    """A module as leasecap sees it."""

    def __init__(self, real: ModuleType, lacking: str, **instead: Any) -> None:
        super().__init__(real.__name__)
        vars(self).update(_real=real, _lacking=frozenset(lacking.split()), **instead)

    def __getattr__(self, name: str) -> Any:
        if name in self._lacking:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._real, name, value)  # what a test puts there for a while


# -- files that are in use -------------------------------------------------------------------------------------------
# Each descriptor that leasecap opens has a shared lock of the kind that leasecap doesn't take there. Whoever moves or
# removes a file tries an exclusive one, and so meets what any process has open, its own included.

_LOOKS, _PAUSE = 10, 0.0005
_AS_TEXT: set[int] = set()


def _mark(fd: int) -> int:
    """Have others see that this is open."""
    if stat.S_ISREG(os.fstat(fd).st_mode):
        for _ in range(_LOOKS):
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(_PAUSE)  # somebody looks at it; or it is filelock's, which locks it for longer
    return fd


def _is_open(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False  # a link, or gone
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _refuse_in_use(path: str) -> None:
    found = [path]
    if os.path.isdir(path) and not os.path.islink(path):
        found = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    for each in found:
        if _is_open(each):
            raise PermissionError(errno.EACCES, "The process cannot access the file because it is being used", each)


def _rename(old: str, new: str, **_: None) -> None:
    _refuse_in_use(old)
    if os.path.lexists(new):
        os.lstat(old)
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", old, None, new)
    os.rename(old, new)


def _replace(old: str, new: str, **_: None) -> None:
    _refuse_in_use(old)
    if os.path.isdir(new):
        raise PermissionError(errno.EACCES, "Access is denied", old, None, new)
    _refuse_in_use(new)
    os.replace(old, new)


def _unlink(path: str, **_: None) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        raise PermissionError(errno.EACCES, "Access is denied", path)
    _refuse_in_use(path)
    os.unlink(path)


def _refuse_system(path: Any) -> None:
    if isinstance(path, str) and path.startswith(("/proc", "/etc", "/var/lib")):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _list(path: str = ".") -> list[str]:
    _refuse_system(path)
    return os.listdir(path)


def _open_descriptor(path: str, flags: int, mode: int = 0o777, *, dir_fd: None = None) -> int:
    _refuse_system(path)
    if dir_fd is not None:
        raise NotImplementedError("dir_fd unavailable on this platform")
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)
    fd = os.open(path, flags, mode)
    (_AS_TEXT.discard if flags & O_BINARY else _AS_TEXT.add)(fd)
    return _mark(fd)


def _read(fd: int, most: int) -> bytes:
    _refuse_text(fd)
    return os.read(fd, most)


def _write(fd: int, data: Any) -> int:
    _refuse_text(fd)
    return os.write(fd, data)


def _refuse_text(fd: int) -> None:
    if fd in _AS_TEXT and stat.S_ISREG(os.fstat(fd).st_mode):
        raise AssertionError("without O_BINARY Windows changes line ends, and takes a Ctrl-Z for the end")


def _open(file: Any, *arguments: Any, **more: Any) -> Any:
    _refuse_system(file)
    opened = open(file, *arguments, **more)  # noqa: SIM115
    _mark(opened.fileno())
    return opened


class _Library:
    """What `ctypes.WinDLL("ntdll")` gives."""

    def __init__(self, name: str) -> None:
        assert name == "ntdll", name

    def NtQuerySystemInformation(self, kind: int, found: Any, size: int, _: None) -> int:  # noqa: N802
        assert (kind, size) == (3, 48), "SYSTEM_TIMEOFDAY_INFORMATION"
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            found._obj.boot_time = int(file.read(8), 16)
        return 0


def _process(pid: int) -> Any:
    """What `psutil.Process` gives: there nothing is left of a process that has ended."""
    import psutil

    found = psutil.Process(pid)
    if found.status() == psutil.STATUS_ZOMBIE:
        raise psutil.NoSuchProcess(pid)
    return found


def _kill(pid: int, signum: int) -> None:
    """There 0 is a Ctrl-C for the process's console, and any other signal but Ctrl-Break is its end."""
    if signum == 0:
        raise AssertionError(f"os.kill({pid}, 0) sends Ctrl-C on Windows")
    os.kill(pid, signum)


_SEEN = {
    "os": _Seen(
        os, LACKING["os"],
        name="nt", open=_open_descriptor, listdir=_list, read=_read, write=_write, kill=_kill,
        rename=_rename, replace=_replace, unlink=_unlink, remove=_unlink,
        supports_dir_fd=frozenset(), supports_fd=frozenset(), supports_follow_symlinks=frozenset({os.stat}),
        O_BINARY=O_BINARY,
    ),
    "sys": _Seen(sys, "", platform="win32"),
}  # fmt: skip


def _import(
    name: str,
    globals: Any = None,  # noqa: A002
    locals: Any = None,  # noqa: A002
    fromlist: Any = (),
    level: int = 0,
) -> ModuleType:
    """What `import` calls in leasecap's modules."""
    if level == 0 and name in MISSING:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = builtins.__import__(name, globals, locals, fromlist, level)
    first = name.partition(".")[0]
    if level or first not in LACKING.keys() | {"sys"} or (fromlist and name != first):
        return module
    if first not in _SEEN:
        more: dict[str, dict[str, Any]] = {"ctypes": {"WinDLL": _Library}, "psutil": {"Process": _process}}
        _SEEN[first] = _Seen(module, LACKING[first], **more.get(first, {}))
    return _SEEN[first]


def _prepare(spec: ModuleSpec, module: ModuleType, **more: Any) -> ModuleType:
    """What an import does to each module before its code runs, whoever loads it: pytest has a loader of its own."""
    _prepare_any(spec, module, **more)
    if spec.name.partition(".")[0] == "leasecap":
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import, "open": _open}
    return module


if not hasattr(sys, "leasecap_platform"):  # `site` may come here twice
    vars(sys)["leasecap_platform"] = "win32"
    _prepare_any = importing._init_module_attrs
    importing._init_module_attrs = _prepare
