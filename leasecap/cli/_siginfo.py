"""Blocked signals taken with ``sigwaitinfo`` (Linux).

It alone tells *who* sent a signal: the kernel (the terminal sent it to the whole foreground group, so the command has
it already) or a process (it was meant for leasecap alone and must be passed on). A wait with a time-out is ended by the
process's alarm. ``sigtimedwait`` has a time-out of its own, but if it is interrupted (SIGSTOP, a frozen container, a
debugger) and goes on after its time, Python returns whatever stands in memory as the signal.
"""

from __future__ import annotations

import _thread
import math
import signal
import sys
import time

assert sys.platform == "linux"

from leasecap.cli._taken import FROM_TERMINAL, Taken, led_by_us

# It is ignored by default, so it does no harm if a `wake` sends it late, and hardly any other program sends it.
_WAKE = signal.SIGURG
_SI_KERNEL = 0x80  # si_code of Linux (asm-generic/siginfo.h); the signal module doesn't name it


class SignalSource:
    """Takes the signals that the main thread has blocked, which must be the one that makes it."""

    def __init__(self, ignored: frozenset[signal.Signals]) -> None:
        """:param ignored: signals that were ignored when the process started. They are taken all the same: the command
        may want them."""
        self._thread = _thread.get_ident()
        signal.pthread_sigmask(signal.SIG_BLOCK, {_WAKE})
        # An alarm may have been set before the exec. Its time is noted here, since the waits need the timer.
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        self._alarm_at = time.monotonic() + left if left else math.inf

    def wake(self) -> None:
        """Make the present `take`, or else the next one, return. From any thread; never blocks, never raises."""
        signal.pthread_kill(self._thread, _WAKE)

    def holds(self, signum: signal.Signals) -> bool:
        """Whether it has come and waits to be taken."""
        return signum in signal.sigpending()

    def continued(self) -> None:
        """A SIGCONT came: the kernel has dropped the stop signals that waited."""

    def take(self, signals: frozenset[signal.Signals], timeout: float | None) -> Taken | None:
        """One of ``signals``, or None after ``timeout`` seconds or a `wake`."""
        info = self._wait(signals | {_WAKE}, timeout)
        while info is not None and info.si_signo == _WAKE:
            # Linux gives out a thread's own signals before those of the process, so a TERM may have come long before.
            info = self._wait(signals | {_WAKE}, 0)
        if info is None:
            return None
        # An alarm comes from the kernel too, but to this process alone.
        from_terminal = info.si_code == _SI_KERNEL and info.si_signo in FROM_TERMINAL and not led_by_us(info.si_signo)
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
            # Otherwise it is the alarm of an earlier wait, which something else ended in that moment.

    @staticmethod
    def _set_alarm(moment: float) -> None:
        """Have the kernel send SIGALRM at that moment; at none if it is infinite."""
        left = 0.0 if moment == math.inf else max(moment - time.monotonic(), 1e-6)
        signal.setitimer(signal.ITIMER_REAL, left)
