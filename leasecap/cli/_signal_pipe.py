"""Blocked signals taken from a pipe, into which Python's C handler writes their numbers.

This is for platforms without ``sigwaitinfo``, as macOS, whose ``sigwait`` has no time-out either. The signals are
unblocked round a ``select`` on the pipe. Who sent one is then a guess: the terminal, if our group is in its foreground.
"""

from __future__ import annotations

import os
import select
import signal
import sys

assert sys.platform != "win32"  # `run` refuses there

from leasecap.cli._taken import FROM_TERMINAL, STOPPING, Taken, led_by_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


class SignalSource:
    """Takes the signals that the main thread has blocked, which must be the one that makes it."""

    def __init__(self, ignored: frozenset[signal.Signals]) -> None:
        """:param ignored: signals that were ignored when the process started; they stay ignored."""
        self._ignored = ignored
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)  # a handler must not block; a full pipe wakes as well as one byte more
        self._noted: list[int] = []
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def wake(self) -> None:
        """Make the present `take`, or else the next one, return. From any thread; never blocks, never raises."""
        try:
            os.write(self._write, b"\0")
        except BlockingIOError:
            pass  # the pipe is full, so the reader wakes up anyway

    def holds(self, signum: signal.Signals) -> bool:
        """Whether it has come and waits to be taken."""
        return signum in self._noted or signum in signal.sigpending()

    def continued(self) -> None:
        """A SIGCONT came: drop the stop signals that wait to be taken, as the kernel drops those that are pending."""
        self._noted = [signum for signum in self._noted if signum not in STOPPING]

    def take(self, signals: frozenset[signal.Signals], timeout: float | None) -> Taken | None:
        """One of ``signals``, or None after ``timeout`` seconds or a `wake`."""
        signals -= self._ignored
        for signum in signals:  # set each time: in the queue, and for a stop, SIGTSTP has its default action
            signal.signal(signum, _noted_in_the_pipe)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        try:
            select.select([self._read], [], [], 0 if self._noted else timeout)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            new = os.read(self._read, 4096).replace(b"\0", b"")  # a `wake` writes zeros
            if signal.SIGCONT in new:
                self.continued()
            self._noted += new
        except BlockingIOError:
            pass  # nothing new
        if not self._noted:
            return None
        first = self._noted.pop(0)
        from_terminal = first in FROM_TERMINAL and not led_by_us(first) and _in_foreground()
        return Taken(first, from_terminal, 0)


def _noted_in_the_pipe(_signum: int, _frame: FrameType | None) -> None:
    """Do nothing; a handler must be there for the number to be written."""


def _in_foreground() -> bool:
    try:
        terminal = os.open(os.ctermid(), os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False  # there is no terminal, or it hung up
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
