"""Watching the command under ``leasecap run``, which `_spawn` has started, and ending as it ended.

The command is a plain child in *our* process group: it has the terminal, job control and resizing exactly as it would
have them without us, and what the terminal sends reaches it without our help. What is left to do: pass on the signals
that were sent to leasecap alone; stop when the command stops, or the shell would wait for a job that doesn't run; and
end as the command ended.

The use, in order (the first before any thread starts)::

    gate = SignalGate()                      # from leasecap.cli._signals
    ... queue: gate.wait(seconds), and gate.wake() from other threads ...
    outcome = supervise(gate, spawn(gate, argv, env, inherit_fd, note))
    ... release ...
    return die_like(outcome)
"""

from __future__ import annotations

import os
import signal
import sys

assert sys.platform != "win32"  # `run` refuses there

from leasecap.cli._endings import Endings, send
from leasecap.cli._signals import STOPPING, reap_orphans
from leasecap.cli._spawn import CANNOT_START, Child, Outcome, SpawnError, spawn

__all__ = ["Child", "Outcome", "SpawnError", "die_like", "spawn", "supervise"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._liveness.max_hold import Hold
    from leasecap.cli._signals import SignalGate
    from leasecap.cli._taken import Taken

HELD_TOO_LONG = 124  # what timeout(1) exits with


def _never() -> float | None:
    return None


def supervise(
    gate: SignalGate, child: Child, hold: Hold | None = None, ends_in: Callable[[], float | None] = _never
) -> Outcome:
    """Wait for the command's end, passing signals on and stopping as it stops. Never raises because of a signal.

    If leasecap alone gets a signal to end, it passes that on and still waits for the command: the slot is in use for as
    long as the command runs. The same goes for a command that gets TERM, and then KILL, since its time by ``hold`` is
    over, or its slot may be another's (``ends_in``, see `Lease.ends_in`, which the gate is woken for).
    """
    endings = Endings(child, hold, ends_in)
    while True:
        taken = gate.take(endings.act())
        if taken is None:
            continue
        if taken.signum != signal.SIGCHLD:
            _pass_on(child, taken)
            continue
        news = child.look()
        reap_orphans(child.pid)
        # Without a terminal there is no `fg`, so leasecap doesn't stop too: it would miss the end of the command's
        # time.
        while news and (hold is None or _has_terminal()):
            # It stops by the same signal, so that the shell says "Stopped (tty input)" where it would without us.
            signum = news if news in STOPPING else signal.SIGTSTP
            continued = gate.stop(signum, lambda: child.look() != 0)
            news = child.look()
            # `fg` continues the whole group. If the command is still stopped as before, the CONT was for leasecap alone
            # and is passed on. Otherwise it must not be: it would undo a Ctrl-Z that has stopped the command again
            # since.
            if continued and news is None:
                send(child, signal.SIGCONT)
        if child.outcome is not None:
            child.outcome.overdue, child.outcome.unsure = endings.overdue, endings.unsure
            return child.outcome


def _has_terminal() -> bool:
    try:
        os.close(os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _pass_on(child: Child, taken: Taken) -> None:
    if taken.sender == child.pid:
        return  # the command signalled its whole group, itself included, as vim does for Ctrl-Z
    # A signal of the terminal has reached the command as well, unless that has moved to a group of its own, as
    # timeout(1) does. Then only leasecap can pass it on.
    if not (taken.from_terminal and _in_our_group(child)):
        send(child, taken.signum)


def _in_our_group(child: Child) -> bool:
    try:
        return os.getpgid(child.pid) == os.getpgrp()
    except (PermissionError, ProcessLookupError):
        return True  # it has just ended (macOS has no group for a zombie), so there is nobody to pass it on to


def die_like(outcome: Outcome) -> int:
    """End as the command ended: return its exit status, or die of its signal, so that our parent sees the same.

    For a signal it doesn't return, so flush and release before. It returns 128 + n if the signal can't kill this
    process (pid 1). For a command whose time was over it returns 124 in any case, for one that was ended since the
    store was away 125: the command's own status would look like its success or failure.
    """
    if outcome.overdue:
        return HELD_TOO_LONG
    if outcome.unsure:
        return CANNOT_START
    if outcome.signal is None:
        return outcome.exit_status or 0
    _dump_no_core()
    if outcome.signal != signal.SIGKILL:
        signal.signal(outcome.signal, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {outcome.signal})
    os.kill(os.getpid(), outcome.signal)
    return 128 + outcome.signal


def _dump_no_core() -> None:
    """Dump no core of our own: it would hide or overwrite the command's, which is of use."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # The limit isn't 0, which Linux ignores if core_pattern is a pipe (systemd-coredump, apport). 1 is its special case
    # for "not even to a pipe", and for a file it is less than the smallest core.
    soft = 1 if hard == resource.RLIM_INFINITY or hard >= 1 else 0
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
