"""The process's signals, held for the life of ``leasecap run``.

Signals stay *blocked* and are taken one by one where the main thread says so: in `SignalGate.wait` while queued, in
`SignalGate.take` while the command runs. Nothing is ever interrupted anywhere else, so the critical section of a pool
can't be cut in two by Ctrl-C, nor a process be stopped by Ctrl-Z while it holds the lock that all others wait for.
Threads inherit the mask of the thread that starts them, so the gate must be made before any other thread.

How a blocked signal is taken depends on the platform: `_siginfo`, `_signal_pipe`.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys

assert sys.platform != "win32"  # `run` refuses there

from leasecap.cli._taken import STOPPING as STOPPING

if sys.platform == "linux":
    from leasecap.cli._siginfo import SignalSource
else:
    from leasecap.cli._signal_pipe import SignalSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._host.deferred_signals import DeferredSignals
    from leasecap._store.wakeup import Wakeup
    from leasecap.cli._taken import Taken

#: Ask us to end. While queued, they withdraw the ticket. SIGALRM is among them because an alarm survives exec:
#: ``perl -e 'alarm 60; exec @ARGV' leasecap run ...`` is the ``timeout`` of systems that have none.
ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGALRM, signal.SIGTERM})

_QUEUED = ENDING | {signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGCHLD}
_RUNNING = _QUEUED | {signal.SIGTSTP}
_LONGEST = 86400.0  # seconds; time_t and select overflow on what a person may give as "for ever"


class Interrupted(BaseException):
    """A signal asked us to end while queued.

    Not an `Exception`: like `KeyboardInterrupt`, no handler for errors may swallow it.

    :ivar signum: the signal. Withdraw the ticket, then die of it (`leasecap.cli._supervise.die_like`).
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class SignalGate:
    """Owns the process's signals. Make one, in the main thread, before any other thread starts; it is never undone.

    What was ignored at the start stays ignored, for the command too: ``nohup leasecap run ...`` survives a hang-up
    in the queue as well, and ``leasecap run ... &`` in a script is not withdrawn by a Ctrl-C meant for others.

    :ivar inherited_mask: the signals that were blocked when we were started; the command gets this mask back.
    """

    def __init__(self) -> None:
        self._thread = _thread.get_ident()
        self.inherited_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _RUNNING | STOPPING)
        # With SIGCHLD ignored the kernel reaps our child itself and its exit status is lost; some supervisors start
        # their children so. The command gets the default too: POSIX leaves open what exec does to an ignored SIGCHLD,
        # and setting it here for the time of the spawn would lose a quick exit.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._ignored = frozenset(s for s in _RUNNING if signal.getsignal(s) is signal.SIG_IGN)
        self._source = SignalSource(self._ignored)

    def listen(self, watch: Wakeup) -> bool:
        """Have a thread receive this process's wake-ups: this one can't wait for signals and a pipe at once."""
        return watch.start()

    def wait(self, timeout: float | None = None, interrupts: DeferredSignals | None = None) -> None:
        """Wait in the queue: until `wake`, any signal, or ``timeout`` seconds (None: for ever). May return early.

        HUP, INT, QUIT, TERM and ALRM raise `Interrupted`, nowhere but here. TSTP, TTIN and TTOU stop the process,
        as they would without us, and SIGCONT returns from here: somebody may have passed us meanwhile. USR1 and USR2
        are dropped: they are meant for the command, which isn't there yet, and kept for later they would kill it before
        it could install its handlers. ``wait(0)`` looks at what has arrived.
        """
        if interrupts is not None:
            with interrupts.delivered():
                return self.wait(timeout)
        # The kernel itself stops and continues us. Taking a TSTP and then stopping ourselves would lose a SIGCONT
        # that arrives between the two, and we would stay stopped for good.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING - self.inherited_mask)
        try:
            taken = self._next(_QUEUED, timeout)
            while taken is not None:  # all that is there: a TERM must not hide behind a USR1
                if taken.signum == signal.SIGCHLD:
                    reap_orphans()
                if taken.signum in ENDING and taken.signum not in self._ignored:
                    raise Interrupted(taken.signum)
                taken = self._next(_QUEUED, 0)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)

    def wake(self) -> None:
        """Make the present `wait`, or else the next one, return. From any thread; never blocks, never raises."""
        self._source.wake()

    def take(self, timeout: float | None = None) -> Taken | None:
        """Take one signal while the command runs; None after ``timeout`` seconds or a `wake`."""
        return self._next(_RUNNING, timeout)

    def stop(self, signum: int, still: Callable[[], bool]) -> bool:
        """Stop this process by the default action of ``signum`` (one of `STOPPING`) if ``still()``; until continued.

        For the time while the command runs: what was to be done at ``signum`` is not restored. Returns whether a
        SIGCONT came; it is used up.

        Does nothing if a SIGCONT waits to be taken: a stop signal would cancel it, and nobody would send another.
        (SIGCHLD, 17, is taken before SIGCONT, 18: after a stop and a continue the report of the stop is seen first.)

        The order closes a race. The signal is made pending first, which is harmless as it is blocked; a SIGCONT from
        now on cancels it. Then ``still()`` looks whether the reason to stop stands: a SIGCONT before now has undone it.

        SIGSTOP would not do: in an orphaned process group the kernel drops the three in `STOPPING`, since nobody is
        left who would continue us, but obeys SIGSTOP.
        """
        if self._source.holds(signal.SIGCONT):
            return False
        signal.signal(signum, signal.SIG_DFL)
        signal.pthread_kill(self._thread, signum)  # to this thread, so that no other one can get it
        if not still():
            signal.signal(signum, signal.SIG_IGN)  # discards what is pending, blocked or not (POSIX)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})  # here we are stopped, and here we go on
        signal.pthread_sigmask(signal.SIG_BLOCK, {signum})
        continued = signal.SIGCONT in signal.sigpending()
        if continued:
            # A Ctrl-Z that was noted behind the report of the stop it made: taken after `bg`, it would be passed on.
            self._source.continued()
        signal.signal(signal.SIGCONT, signal.signal(signal.SIGCONT, signal.SIG_IGN))  # discards it
        return continued

    def _next(self, signals: frozenset[signal.Signals], timeout: float | None) -> Taken | None:
        return self._source.take(signals, None if timeout is None else min(max(timeout, 0.0), _LONGEST))


_OF_THIS_THREAD = 0x20000000  # __WNOTHREAD of Linux; the os module doesn't name it


def reap_orphans(command: int = 0) -> None:
    """As the first process of a container: wait for what others have left behind, since nobody else will.

    Call it in the main thread, whose children they become. What another thread has started (a question for the
    provider's usage) is for that thread to wait for, and ``command`` for whoever started it.
    """
    if os.getpid() != 1 or sys.platform != "linux":
        return
    try:
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _OF_THIS_THREAD):
            if found.si_pid == command:
                return  # it is the end of all
            os.waitpid(found.si_pid, os.WNOHANG)
    except ChildProcessError:
        pass
