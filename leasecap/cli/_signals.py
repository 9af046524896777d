"""The process's signals, held for the life of ``leasecap run``.

Signals stay *blocked* and are taken one by one where the main thread says so: in `SignalGate.wait` while queued, in
`SignalGate.take` while the command runs. Nothing is ever interrupted anywhere else, so the critical section of a pool
can't be cut in two by Ctrl-C, nor a process be stopped by Ctrl-Z while it holds the lock that all others wait for.
Threads inherit the mask of the thread that starts them, so the gate must be made before any other thread.

Two ways to take a blocked signal:

- Linux: ``sigwaitinfo``. It alone tells *who* sent a signal: the kernel (the terminal sent it to the whole foreground
  group, the command has got it already) or a process (it was meant for leasecap alone and must be passed on). The
  process's alarm ends a wait that has an end. ``sigtimedwait`` would do that, but when it is interrupted (SIGSTOP, a
  frozen container, a debugger) and goes on after its time, Python returns whatever stands in memory as the signal.
- elsewhere: macOS has no ``sigwaitinfo`` and its ``sigwait`` no time-out, so the signals are unblocked round a
  ``select`` on a pipe that the C-level handler writes to. Who sent it is then a guess: the terminal, if our group is in
  its foreground.
"""

from __future__ import annotations

import _thread
import math
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from leasecap._host.deferred_signals import DeferredSignals
    from leasecap._store.wakeup import Wakeup

#: Ask us to end. While queued, they withdraw the ticket. SIGALRM is among them because an alarm survives exec:
#: ``perl -e 'alarm 60; exec @ARGV' leasecap run ...`` is the ``timeout`` of systems that have none.
ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGALRM, signal.SIGTERM})
#: What a terminal sends to every process of its foreground group. SIGHUP is one of them when the leader of the session
#: has died; when the terminal itself goes away, the leader alone gets it.
FROM_TERMINAL = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP})
#: Stop a process by default, and are left to do that, but never at an arbitrary moment.
STOPPING = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})

_QUEUED = ENDING | {signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT, signal.SIGCHLD}
_RUNNING = _QUEUED | {signal.SIGTSTP}
# Linux only. Ignored by default, so one that a stray `wake` sends late hurts nobody, and hardly anybody sends it.
_WAKE = signal.SIGURG

_HAS_SIGINFO = sys.platform == "linux"
_SI_KERNEL = 0x80  # si_code of Linux (asm-generic/siginfo.h); the signal module doesn't name it
_LONGEST = 86400.0  # seconds; time_t and select overflow on what a person may give as "for ever"


class Interrupted(BaseException):
    """A signal asked us to end while queued.

    Not an `Exception`: like `KeyboardInterrupt`, no handler for errors may swallow it.

    :ivar signum: the signal. Withdraw the ticket, then die of it (`leasecap.cli._supervise.die_like`).
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Taken:
    """One signal that has been taken.

    :ivar signum: which.
    :ivar from_terminal: True if the terminal sent it, to our whole process group.
    :ivar sender: the pid that sent it; 0 if unknown.
    """

    __slots__ = ("from_terminal", "sender", "signum")

    def __init__(self, signum: int, from_terminal: bool, sender: int) -> None:
        self.signum = signum
        self.from_terminal = from_terminal
        self.sender = sender


class SignalGate:
    """Owns the process's signals. Make one, in the main thread, before any other thread starts; it is never undone.

    What was ignored at the start stays ignored, for the command too: ``nohup leasecap run ...`` survives a hang-up
    in the queue as well, and ``leasecap run ... &`` in a script is not withdrawn by a Ctrl-C meant for others.

    :ivar inherited_mask: the signals that were blocked when we were started; the command gets this mask back.
    """

    def __init__(self) -> None:
        self._thread = _thread.get_ident()
        self.inherited_mask = signal.pthread_sigmask(signal.SIG_BLOCK, _RUNNING | STOPPING | {_WAKE})
        # With SIGCHLD ignored the kernel reaps our child itself and its exit status is lost; some supervisors start
        # their children so. The command gets the default too: POSIX leaves open what exec does to an ignored SIGCHLD,
        # and setting it here for the time of the spawn would lose a quick exit.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # An alarm that was set before an exec is kept here, since the waits need the timer.
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        self._alarm_at = time.monotonic() + left if left else math.inf
        self._ignored = frozenset(s for s in _RUNNING if signal.getsignal(s) is signal.SIG_IGN)
        self._pipe = None if _HAS_SIGINFO else _Pipe(_QUEUED - self._ignored)

    def listen(self, watch: Wakeup) -> bool:
        """Have a thread hear what is said to this process: this one can't wait for signals and a pipe at once."""
        return watch.start()

    def wait(self, timeout: float | None = None, interrupts: DeferredSignals | None = None) -> None:
        """Wait in the queue: until `wake`, any signal, or ``timeout`` seconds (None: for ever). May return early.

        HUP, INT, QUIT, TERM and ALRM raise `Interrupted`, nowhere but here. TSTP, TTIN and TTOU stop the process,
        as they would without us, and SIGCONT returns from here: somebody may have passed us meanwhile. USR1 and USR2
        are dropped: they are meant for the command, which isn't there yet, and kept for later they would kill it before
        it could install its handlers. ``wait(0)`` looks at what has arrived.
        """
        if interrupts is not None:
            with interrupts.lifted():
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
        if self._pipe is not None:
            self._pipe.note(0)
        else:
            signal.pthread_kill(self._thread, _WAKE)

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
        if signal.SIGCONT in signal.sigpending() or (self._pipe is not None and self._pipe.holds(signal.SIGCONT)):
            return False
        signal.signal(signum, signal.SIG_DFL)
        signal.pthread_kill(self._thread, signum)  # to this thread, so that no other one can get it
        if not still():
            signal.signal(signum, signal.SIG_IGN)  # discards what is pending, blocked or not (POSIX)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})  # here we are stopped, and here we go on
        signal.pthread_sigmask(signal.SIG_BLOCK, {signum})
        continued = signal.SIGCONT in signal.sigpending()
        signal.signal(signal.SIGCONT, signal.signal(signal.SIGCONT, signal.SIG_IGN))  # discards it
        return continued

    def _next(self, signals: frozenset[signal.Signals], timeout: float | None) -> Taken | None:
        if timeout is not None:
            timeout = min(max(timeout, 0.0), _LONGEST)
        if self._pipe is not None:
            return self._pipe.take(signals - self._ignored, timeout)
        info = self._wait(signals | {_WAKE}, timeout)
        while info is not None and info.si_signo == _WAKE:
            # Linux hands out a thread's own signals before those of the process: a TERM may have come long before.
            info = self._wait(signals | {_WAKE}, 0)
        if info is None:
            return None
        # An alarm comes from the kernel, too, but to us alone.
        from_terminal = info.si_code == _SI_KERNEL and info.si_signo in FROM_TERMINAL and not _led_by_us(info.si_signo)
        return Taken(info.si_signo, from_terminal, info.si_pid)

    def _wait(self, wanted: frozenset[signal.Signals], timeout: float | None) -> signal.struct_siginfo | None:
        """One of the signals, or None after ``timeout`` seconds."""
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            info = signal.sigtimedwait(wanted, 0)  # it doesn't sleep, so nothing can interrupt it
            if info is None and timeout != 0:
                self._set_alarm(min(end, self._alarm_at))
                info = signal.sigwaitinfo(wanted)
                self._set_alarm(self._alarm_at)
            if info is None or info.si_signo != signal.SIGALRM or info.si_code != _SI_KERNEL:
                return info
            now = time.monotonic()
            if now >= self._alarm_at:
                self._alarm_at = math.inf
                return info
            if now >= end:
                return None
            # Else it is the alarm of an earlier wait, which something else ended in that moment.

    @staticmethod
    def _set_alarm(moment: float) -> None:
        """Have the kernel send SIGALRM at that moment; at an infinite one never."""
        left = 0.0 if moment == math.inf else max(moment - time.monotonic(), 1e-6)
        signal.setitimer(signal.ITIMER_REAL, left)


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


class _Pipe:
    """Takes signals where there is no ``sigtimedwait``: the C-level handler writes each one's number to a pipe."""

    def __init__(self, signals: Iterable[int]) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)  # a handler must not block; a full pipe wakes as well as one byte more
        self._noted: list[int] = []
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for signum in signals:
            signal.signal(signum, _noted_in_the_pipe)

    def note(self, signum: int) -> None:
        try:
            os.write(self._write, bytes((signum,)))
        except BlockingIOError:
            pass  # full: the reader has enough to wake up for

    def holds(self, signum: int) -> bool:
        return signum in self._noted

    def take(self, signals: frozenset[signal.Signals], timeout: float | None) -> Taken | None:
        import select

        if signal.SIGTSTP in signals:  # only while the command runs; in the queue its default action is wanted
            signal.signal(signal.SIGTSTP, _noted_in_the_pipe)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        try:
            select.select([self._read], [], [], 0 if self._noted else timeout)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            self._noted += os.read(self._read, 4096).replace(b"\0", b"")  # a `wake` needs no more than this
        except BlockingIOError:
            pass  # nothing new
        if not self._noted:
            return None
        signum = self._noted.pop(0)
        from_terminal = signum in FROM_TERMINAL and not _led_by_us(signum) and _in_foreground()
        return Taken(signum, from_terminal, 0)


def _noted_in_the_pipe(_signum: int, _frame: FrameType | None) -> None:
    """Do nothing; a handler must be there for the number to be written."""


def _led_by_us(signum: int) -> bool:
    """Whether this is a SIGHUP sent to the leader of the session alone, which is us (``xterm -e leasecap run ...``)."""
    return signum == signal.SIGHUP and os.getsid(0) == os.getpid()


def _in_foreground() -> bool:
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False  # no terminal, or it hung up
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
