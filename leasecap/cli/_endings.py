"""What ends the command under ``leasecap run`` before it ends by itself: TERM, and KILL for one that goes on.

It has held its slot for too long, or nobody can tell whether the slot is still its own.
"""

from __future__ import annotations

import os
import signal
import sys
import time

assert sys.platform != "win32"  # `run` refuses there

from leasecap._durations import format_duration
from leasecap._log import log_warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._liveness.max_hold import Hold
    from leasecap.cli._spawn import Child

_LOOK_EVERY = 1.0  # seconds, while nobody can tell: a moment given by another clock may come sooner


class Endings:
    """The ends that one command may come to.

    :ivar overdue, unsure: see `Outcome`.
    """

    def __init__(self, child: Child, hold: Hold | None, ends_in: Callable[[], float | None]) -> None:
        """:param ends_in: see `Lease.ends_in`."""
        self.overdue = False
        self.unsure = False
        self._child = child
        self._hold = hold
        self._due = None if hold is None else (hold.over_at, signal.SIGTERM)
        self._ends_in = ends_in
        self._doubted: signal.Signals | None = None  # what it got last, since nobody can tell

    def act(self) -> float | None:
        """Send what is due; returns the seconds until something else may be, None for never."""
        found = (self._act_on_hold(), self._act_on_doubt())
        return min((seconds for seconds in found if seconds is not None), default=None)

    def _act_on_hold(self) -> float | None:
        hold = self._hold
        while hold is not None and self._due is not None:
            when, signum = self._due
            left = when - time.monotonic()
            if left > 0:
                return left
            self._due = None
            if self._child.has_ended():  # it may have ended in time without having been noticed yet
                break
            self.overdue = True
            if signum == signal.SIGTERM:
                over = format_duration(hold.max_hold)
                self._end(signum, f"held too long (max_hold is {over})", hold.kill_after)
                # Counted from now: a leasecap that was stopped past both moments must not send both at once.
                self._due = time.monotonic() + hold.kill_after, signal.SIGKILL
            else:
                self._end(signum, "", 0.0)
        return None

    def _act_on_doubt(self) -> float | None:
        left = self._ends_in()
        if left is None or self._child.has_ended():
            self._doubted = None
            return None
        if self._doubted is None:
            self.unsure, self._doubted = True, signal.SIGTERM
            why = "the store doesn't answer, so the slot may be another's soon (when_unsure = \"end\")"
            self._end(signal.SIGTERM, why, max(left, 0.0))
            left = self._ends_in() or 0.0
        if left <= 0 and self._doubted != signal.SIGKILL:
            self._doubted = signal.SIGKILL
            self._end(signal.SIGKILL, "", 0.0)
        return _LOOK_EVERY if left <= 0 else min(left, _LOOK_EVERY)

    def _end(self, signum: signal.Signals, why: str, patience: float) -> None:
        if signum == signal.SIGTERM:
            what = f"{why}: pid {self._child.pid} gets TERM, and KILL in {format_duration(patience)}"
        else:
            what = f"pid {self._child.pid} still runs: it gets KILL"
        sent = send(self._child, signum)
        log_warning(what if sent else f"{what}, but may not be signalled by us: it runs on")
        # As timeout(1) does it: a stopped command takes no TERM before it is continued.
        if signum != signal.SIGKILL:
            send(self._child, signal.SIGCONT)


def send(child: Child, signum: int) -> bool:
    """Send the command a signal; False: leasecap may not. sudo runs as another user, whom only its terminal can
    signal."""
    try:
        os.kill(child.pid, signum)
    except PermissionError:
        return False
    except ProcessLookupError:
        pass  # it has just ended
    return True
