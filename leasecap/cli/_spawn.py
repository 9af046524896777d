"""The command under ``leasecap run``, started so that the lease's record names it before it runs.

The slot is the command's for as long as it runs, even when we are killed. Its pid in the record says so, since the
command may close the lock that it inherits (sudo and daemons close all descriptors that they don't know). So the child
waits for a word after the fork, and becomes the command once its pid is written down. If we are killed before that, the
word never comes, and the child ends.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import warnings

assert sys.platform != "win32"  # `run` refuses there

from leasecap._host.process import child_has_ended
from leasecap._redact import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import NoReturn

    from leasecap.cli._signals import SignalGate

CANNOT_START, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127

# Python ignores these before our first line runs, so their earlier state can't be known. The command gets the default,
# as from almost every other parent. Without that `leasecap run yes | head -1` never ends.
_IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
# These say that a directory of PATH doesn't have the command; the next one may. The last three come from network
# mounts.
_NOT_HERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ESTALE, errno.ETIMEDOUT})


class SpawnError(Exception):
    """The command could not be started.

    :ivar status: what to exit with, as shells and ``env`` do: 127 if it is not there, 126 if it is but can't be
        executed, 125 if the machine could not make a process at all.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Outcome:
    """How the command ended: by ``exit_status``, or by ``signal`` (``core``: it dumped core); the other one is None.

    :ivar overdue: its time was over before it ended.
    :ivar unsure: it was told to end since nobody could tell whether its slot was still its own.
    """

    __slots__ = ("core", "exit_status", "overdue", "signal", "unsure")

    def __init__(self, exit_status: int | None = None, signal: int | None = None, core: bool = False) -> None:
        self.exit_status = exit_status
        self.signal = signal
        self.core = core
        self.overdue = False
        self.unsure = False


class Child:
    """The running command. Only `supervise` waits for it, so until then its pid can't become another process's.

    :ivar pid: its process id.
    :ivar outcome: how it ended; None until then.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.outcome: Outcome | None = None

    def look(self) -> int | None:
        """What has happened to it since the last look. A number: it was stopped by that signal. 0: it goes on, or has
        ended. None: nothing has happened.

        The kernel reports each change once, so a stop that was dealt with is not seen again.
        """
        news = None
        while self.outcome is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if pid == 0:
                break
            news = os.WSTOPSIG(status) if os.WIFSTOPPED(status) else 0
            if os.WIFSIGNALED(status):
                self.outcome = Outcome(signal=os.WTERMSIG(status), core=os.WCOREDUMP(status))
            elif os.WIFEXITED(status):
                self.outcome = Outcome(exit_status=os.WEXITSTATUS(status))
        return news

    def has_ended(self) -> bool:
        """Whether it has ended. `look` still sees that."""
        return self.outcome is not None or child_has_ended(self.pid)


def spawn(
    gate: SignalGate,
    argv: Sequence[str],
    env: Mapping[str, str],
    inherit_fd: int | None = None,
    note: Callable[[int], None] = lambda pid: None,
) -> Child:
    """Start ``argv`` with ``env``, found along the PATH *of env*, in our process group and on our terminal.

    The command gets the signal mask and the dispositions that we were started with. ``inherit_fd`` (the descriptor of
    the lease's liveness lock) is inherited on a number over 9, out of the way of what scripts redirect; it stays open
    here as well. Everything else that Python opened is closed on exec. A command that can't be executed says so by
    itself and ends with 126 or 127.

    :param note: is given the command's pid, and returns once that is written down. If it raises, nothing is started.
    :raises Interrupted: a signal to end has arrived already; nothing was started.
    :raises SpawnError: no process could be made; it has the exit status to use.
    """
    gate.wait(0)  # a Ctrl-C in the moment of the grant must not start the command first
    opened: list[int] = []
    try:
        if inherit_fd is not None:
            import fcntl

            # It is inheritable in this process too while the spawn lasts, but nothing else here starts processes.
            opened.append(fcntl.fcntl(inherit_fd, fcntl.F_DUPFD, 10))
        word, say = os.pipe()
        opened += (word, say)
        pid = _fork()
        if pid == 0:
            _become(argv, env, gate.inherited_mask, word, say)
        try:
            note(pid)
            os.write(say, b"\n")
        except BrokenPipeError:
            pass  # the child was killed meanwhile; `supervise` finds out by what
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
    except OSError as e:
        # F_DUPFD says EINVAL if the limit of descriptors is not above the number.
        what = os.strerror(errno.EMFILE) if e.errno == errno.EINVAL else e.strerror
        hint = "; raise `ulimit -n`" if e.errno in (errno.EINVAL, errno.EMFILE) else ""
        raise SpawnError(f"cannot start a process for {argv[0]!r}: {what}{hint}", CANNOT_START) from e
    finally:
        for fd in opened:
            os.close(fd)
    return Child(pid)


def _fork() -> int:
    # Python warns of a fork beside threads: the child may need a lock that one of them held. This child only makes
    # system calls.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _become(argv: Sequence[str], env: Mapping[str, str], mask: Iterable[int], word: int, say: int) -> NoReturn:
    """In the child: become the command once ``word`` can be read from, or end if nothing will come."""
    status = CANNOT_START
    try:
        os.close(say)  # else the read below would never see the end of the pipe
        if os.read(word, 1):
            # Handlers are reset before the mask: a Ctrl-C that has come meanwhile is for the command.
            for signum in signal.valid_signals():
                if signum in _IGNORED_BY_PYTHON or callable(signal.getsignal(signum)):
                    signal.signal(signum, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _exec_along_path(argv, env)
    except OSError as e:
        failure = _explain(argv[0], e)
        status = failure.status
        os.write(2, f"leasecap: {printable(str(failure), 2000)}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(status)


def _exec_along_path(argv: Sequence[str], env: Mapping[str, str]) -> None:
    """:raises OSError: with the path that it is about; with none where no directory of PATH has the command."""
    # execvpe would not say that an interpreter is missing.
    name = argv[0]
    if "/" in name:
        candidates = [name]
    elif name:
        candidates = [os.path.join(entry, name) for entry in env.get("PATH", os.defpath).split(":")]
    else:
        candidates = []
    denied: OSError | None = None
    for candidate in candidates:
        try:
            os.execve(candidate, list(argv), env)  # noqa: S606  # no shell, on purpose
        except OSError as e:
            e.filename = candidate
            if "/" in name:
                raise
            if e.errno == errno.ENOENT and os.path.exists(candidate):
                raise  # the file is here, so its interpreter is missing
            if e.errno == errno.EACCES:
                denied = denied or e  # as execvp, try on: a later directory may have one that can be executed
            elif e.errno not in _NOT_HERE:
                raise
    raise denied or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _explain(name: str, e: OSError) -> SpawnError:
    path = e.filename
    reason = os.strerror(e.errno or 0)
    if e.errno in (errno.EAGAIN, errno.ENOMEM):
        return SpawnError(f"cannot start a process for {name!r}: {reason}", CANNOT_START)
    if e.errno == errno.ENOENT:
        if path is None:  # a file of that name in the current directory is another one
            return SpawnError(f"{name!r}: command not found in PATH", NOT_FOUND)
        if os.path.exists(path):
            # 127 is what shells, env and timeout exit with here.
            interpreter = _interpreter(path)
            what = f"its interpreter {interpreter!r} is" if interpreter else "its interpreter or dynamic loader is"
            return SpawnError(f"cannot execute {path!r}: {what} missing", NOT_FOUND)
        if not os.path.isabs(name):
            try:
                os.getcwd()
            except OSError:
                return SpawnError(f"{name!r} not found: the current directory no longer exists", NOT_FOUND)
        return SpawnError(f"{name!r}: {reason}", NOT_FOUND)
    if e.errno == errno.ENOEXEC:
        # Shells and env would feed it to /bin/sh. We pass nothing to a shell, least of all a binary for another CPU.
        hint = f"a script needs a #! line (or: sh {path}), a program must be built for this machine"
        return SpawnError(f"cannot execute {path!r}: {reason}; {hint}", NOT_EXECUTABLE)
    if e.errno == errno.EACCES and os.path.isdir(path):
        reason = os.strerror(errno.EISDIR)
    return SpawnError(f"cannot execute {path!r}: {reason}", NOT_EXECUTABLE)


def _interpreter(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            first = file.read(256).partition(b"\n")[0]
    except OSError:
        return None
    if not first.startswith(b"#!"):
        return None
    # Split as the kernel does, at blanks alone: what is missing is most often "/bin/sh\r", saved with DOS line ends.
    return os.fsdecode(first[2:].strip(b" \t").replace(b"\t", b" ").partition(b" ")[0]) or None
