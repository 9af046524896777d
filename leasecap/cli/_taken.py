"""A signal that ``leasecap run`` has taken, and what is known of its sender."""

from __future__ import annotations

import os
import signal
import sys

assert sys.platform != "win32"  # `run` refuses there


#: What a terminal sends to every process of its foreground group. SIGHUP is one of them when the leader of the session
#: has died; when the terminal itself goes away, the leader alone gets it.
FROM_TERMINAL = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP})


#: Stop a process by default, and are left to do that, but never at an arbitrary moment.
STOPPING = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})


class Taken:
    """One signal that has been taken.

    :ivar signum: its number.
    :ivar from_terminal: True if the terminal sent it, to our whole process group.
    :ivar sender: the pid that sent it; 0 if unknown.
    """

    __slots__ = ("from_terminal", "sender", "signum")

    def __init__(self, signum: int, from_terminal: bool, sender: int) -> None:
        self.signum = signum
        self.from_terminal = from_terminal
        self.sender = sender


def led_by_us(signum: int) -> bool:
    """Whether this is a SIGHUP sent to the leader of the session alone, which is us (``xterm -e leasecap run ...``)."""
    return signum == signal.SIGHUP and os.getsid(0) == os.getpid()
