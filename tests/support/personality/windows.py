"""Windows, as far as leasecap's library can meet it on Linux: its own modules see another `os`, `signal` and `sys`.

Loaded by every Python process of an environment before anything else (`scripts/test --as windows`). Only leasecap's
code sees it: the tests, pytest and the standard library go on as they are, since they have to work. What leasecap sees
lacks what Windows' Python lacks, and a directory in which this process has a file open can't be renamed, nor can that
file be replaced or removed. What can't be had so: paths with backslashes and drives, access lists, and files that other
processes have open.
"""

from __future__ import annotations

import builtins
import errno
import os
import sys
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

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
MISSING = frozenset({"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty"})


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


def _is_open_below(path: str) -> bool:
    """Whether this process has it open, or a file in it."""
    path = os.path.realpath(path)
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if target == path or target.startswith(path + os.sep):
            return True
    return False


def _refused(path: str) -> PermissionError:
    return PermissionError(errno.EACCES, "The process cannot access the file because it is being used", path)


def _rename(old: str, new: str, **_: None) -> None:
    if _is_open_below(old):
        raise _refused(old)
    if os.path.lexists(new):
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", old, None, new)
    os.rename(old, new)


def _replace(old: str, new: str, **_: None) -> None:
    if _is_open_below(old) or _is_open_below(new):
        raise _refused(new)
    if os.path.isdir(new):
        raise PermissionError(errno.EACCES, "Access is denied", old, None, new)
    os.replace(old, new)


def _unlink(path: str, **_: None) -> None:
    if _is_open_below(path):
        raise _refused(path)
    os.unlink(path)


def _rmdir(path: str, **_: None) -> None:
    if _is_open_below(path):
        raise _refused(path)
    os.rmdir(path)


def _kill(pid: int, signum: int) -> None:
    """There 0 is a Ctrl-C for the process's console, and any other signal but Ctrl-Break is its end."""
    if signum == 0:
        raise AssertionError(f"os.kill({pid}, 0) sends Ctrl-C on Windows")
    os.kill(pid, signum)


_SEEN = {
    "os": _Seen(
        os, LACKING["os"],
        name="nt", rename=_rename, replace=_replace, unlink=_unlink, remove=_unlink, rmdir=_rmdir, kill=_kill,
        supports_dir_fd=frozenset(), supports_fd=frozenset(), supports_follow_symlinks=frozenset({os.stat}), O_BINARY=0,
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
        _SEEN[first] = _Seen(module, LACKING[first])
    return _SEEN[first]


def _open(file: Any, *arguments: Any, **more: Any) -> Any:
    if isinstance(file, str) and file.startswith(("/proc", "/etc", "/var/lib")):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), file)
    return open(file, *arguments, **more)


def _load(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import, "open": _open}
    execute(module)
    if module.__name__ == "leasecap._kept_code":
        vars(module)["keep"] = lambda: None  # it loads by itself


class _Finder:
    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name.partition(".")[0] != "leasecap":
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            vars(spec.loader)["exec_module"] = partial(_load, spec.loader.exec_module)
        return spec


if not hasattr(sys, "leasecap_platform"):  # `site` may come here twice
    vars(sys)["leasecap_platform"] = "win32"
    sys.meta_path.insert(0, _Finder)
