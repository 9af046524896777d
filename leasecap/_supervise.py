"""The command under ``leasecap run``: started, watched, and its end passed on.

The command is a plain child in *our* process group: it has the terminal, job control and resizing exactly as it would
have them without us, and what the terminal sends reaches it without our help. What is left to do: pass on the signals
that were sent to leasecap alone; stop when the command stops, or the shell would wait for a job that doesn't run; and
end as the command ended.

The use, in order (the first before any thread starts)::

    gate = SignalGate()                      # from leasecap._signals
    ... queue: gate.wait(seconds), and gate.wake() from other threads ...
    outcome = supervise(gate, spawn(gate, argv, env, inherit_fd))
    ... release ...
    return die_like(outcome)
"""

from __future__ import annotations

import errno
import os
import signal
import time

from leasecap._durations import format_duration
from leasecap._report import tell
from leasecap._signals import STOPPING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from leasecap._hold import Hold
    from leasecap._signals import SignalGate, Taken

HELD_TOO_LONG = 124  # what timeout(1) exits with
CANNOT_START, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127

# Python ignores these before the first line of ours runs, so what they were is not to be known; the default is what
# the command would have got from almost everybody. Without it `leasecap run yes | head -1` never ends.
_IGNORED_BY_PYTHON = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
# Says that this directory of PATH doesn't have it; the next one may. The last three come from network mounts.
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
    """

    __slots__ = ("core", "exit_status", "overdue", "signal")

    def __init__(self, exit_status: int | None = None, signal: int | None = None, core: bool = False) -> None:
        self.exit_status = exit_status
        self.signal = signal
        self.core = core
        self.overdue = False


class Child:
    """The running command. Only `supervise` reaps it, so until then its pid can't become somebody else's.

    :ivar pid: its process id.
    :ivar outcome: how it ended; None until then.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.outcome: Outcome | None = None

    def look(self) -> int | None:
        """What has become of it since the last look: the signal by which it has stopped; 0: it goes on, or has ended.

        None: nothing new. A report is given once, so a stop that was dealt with is not seen again.
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
        """Whether it has; without taking the report from `look`."""
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return self.outcome is not None or os.waitid(os.P_PID, self.pid, options) is not None


def spawn(gate: SignalGate, argv: Sequence[str], env: Mapping[str, str], inherit_fd: int | None = None) -> Child:
    """Start ``argv`` with ``env``, found along the PATH *of env*, in our process group and on our terminal.

    The command gets the signal mask and the dispositions that we were started with. ``inherit_fd`` (the descriptor of
    the lease's liveness lock) is inherited on a number over 9, out of the way of what scripts redirect; it stays open
    here as well. Everything else that Python opened is closed on exec.

    :raises Interrupted: a signal to end has arrived already; nothing was started.
    :raises SpawnError: with the exit status to use.
    """
    gate.wait(0)  # a Ctrl-C in the moment of the grant must not start the command first
    inherited = None
    if inherit_fd is not None:
        import fcntl

        # Inheritable in this process too, for as long as the spawn takes: nobody else here starts processes.
        inherited = fcntl.fcntl(inherit_fd, fcntl.F_DUPFD, 10)
    try:
        return Child(_spawn_along_path(argv, env, gate.inherited_mask))
    except OSError as e:
        raise _explain(argv[0], e) from e
    finally:
        if inherited is not None:
            os.close(inherited)


def _spawn_along_path(argv: Sequence[str], env: Mapping[str, str], mask: Iterable[int]) -> int:
    # posix_spawn rather than fork: no copy of our page tables, safe beside our threads, reports the errno of exec.
    # posix_spawnp is of no use: it would search the PATH of this process.
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
            return os.posix_spawn(candidate, list(argv), env, setsigmask=mask, setsigdef=_IGNORED_BY_PYTHON)
        except OSError as e:
            e.filename = candidate
            if "/" in name:
                raise
            if e.errno == errno.ENOENT and os.path.exists(candidate):
                raise  # it is here, its interpreter is not
            if e.errno == errno.EACCES:
                denied = denied or e  # a later directory may have one that can be executed (as execvp does)
            elif e.errno not in _NOT_HERE:
                raise
    raise denied or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _explain(name: str, e: OSError) -> SpawnError:
    path = e.filename
    reason = os.strerror(e.errno or 0)
    if e.errno in (errno.EAGAIN, errno.ENOMEM):
        return SpawnError(f"cannot start a process for {name!r}: {reason}", CANNOT_START)
    if e.errno == errno.ENOENT:
        if os.path.exists(path):
            # 127 is what shells, env and timeout exit with here.
            interpreter = _interpreter(path)
            what = f"its interpreter {interpreter!r} is" if interpreter else "its interpreter or dynamic loader is"
            return SpawnError(f"cannot execute {path!r}: {what} missing", NOT_FOUND)
        if "/" not in name:
            return SpawnError(f"{name!r}: command not found in PATH", NOT_FOUND)
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


def supervise(gate: SignalGate, child: Child, hold: Hold | None = None) -> Outcome:
    """Wait for the command's end, passing signals on and stopping as it stops. Never raises because of a signal.

    If we are told to end (TERM to leasecap alone), the command is told, and we still wait for it: the slot is in use
    for as long as it runs. The same goes for a command that is told, and then killed, since its time by ``hold`` is
    over.
    """
    due = [] if hold is None else [(hold.over_at, signal.SIGTERM), (hold.kill_at, signal.SIGKILL)]
    overdue = False
    while True:
        left = due[0][0] - time.monotonic() if due else None
        if left is not None and left <= 0:
            ending = due.pop(0)[1]
            if hold is not None and not child.has_ended():  # one that has ended in time may not have been noticed yet
                overdue = True
                _end(child, ending, hold)
            continue
        taken = gate.take(left)
        if taken is None:
            continue
        if taken.signum != signal.SIGCHLD:
            _pass_on(child, taken)
            continue
        news = child.look()
        # Without a terminal there is no `fg`: who stopped as well would sleep through the end of the command's time.
        while news and (hold is None or _has_terminal()):
            # By the same signal, so that the shell says "Stopped (tty input)" where it would without us.
            signum = news if news in STOPPING else signal.SIGTSTP
            continued = gate.stop(signum, lambda: child.look() != 0)
            news = child.look()
            # `fg` continues the whole group. If the command still stands where it stood, the continue was for us alone.
            # Otherwise none may follow: it would undo the Ctrl-Z that stopped the command again in the meantime.
            if continued and news is None:
                _send(child, signal.SIGCONT)
        if child.outcome is not None:
            child.outcome.overdue = overdue
            return child.outcome


def _has_terminal() -> bool:
    try:
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _end(child: Child, signum: signal.Signals, hold: Hold) -> None:
    if signum == signal.SIGTERM:
        over, patience = format_duration(hold.max_hold), format_duration(hold.kill_after)
        what = f"held too long (max_hold is {over}): pid {child.pid} gets TERM, and KILL in {patience}"
    else:
        what = f"pid {child.pid} still runs: it gets KILL"
    sent = _send(child, signum)
    tell(what if sent else f"{what}, but may not be signalled by us: it runs on")
    # As timeout(1) does: what is stopped takes no TERM before it is continued.
    if signum != signal.SIGKILL:
        _send(child, signal.SIGCONT)


def _pass_on(child: Child, taken: Taken) -> None:
    if taken.sender == child.pid:
        return  # the command signalled its whole group, itself included, as vim does for Ctrl-Z
    # The terminal's signal reached the command as well, unless that has moved to a group of its own (timeout(1) does):
    # then we are the only one in the foreground who can tell it.
    if not (taken.from_terminal and _in_our_group(child)):
        _send(child, taken.signum)


def _in_our_group(child: Child) -> bool:
    try:
        return os.getpgid(child.pid) == os.getpgrp()
    except (PermissionError, ProcessLookupError):
        return True  # it has just ended (macOS has no group for a zombie); nobody is left to be told


def _send(child: Child, signum: int) -> bool:
    """False: it may not be signalled by us. sudo runs as somebody else, and only its own terminal can tell it."""
    try:
        os.kill(child.pid, signum)
    except PermissionError:
        return False
    except ProcessLookupError:
        pass  # it has just ended
    return True


def die_like(outcome: Outcome) -> int:
    """End as the command ended: return its exit status, or die of its signal, so that our parent sees the same.

    Does not return for a signal: flush and release before. Returns 128 + n where the signal can't kill us (pid 1). One
    whose time was over is 124 whatever it made of that: what it exits with would look like its own failure or success.
    """
    if outcome.overdue:
        return HELD_TOO_LONG
    if outcome.signal is None:
        return outcome.exit_status or 0
    _dump_no_core()
    if outcome.signal != signal.SIGKILL:
        signal.signal(outcome.signal, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {outcome.signal})
    os.kill(os.getpid(), outcome.signal)
    return 128 + outcome.signal


def _dump_no_core() -> None:
    """The command's core dump is of use; ours on top would hide it, or overwrite it."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # Not 0: Linux ignores that limit where core_pattern is a pipe (systemd-coredump, apport). 1 is its special case
    # for "not even to a pipe", and for a file it is less than the smallest core.
    soft = 1 if hard == resource.RLIM_INFINITY or hard >= 1 else 0
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
