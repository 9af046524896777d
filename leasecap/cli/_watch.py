"""`leasecap status --watch`: draws again at once when something has changed, and moves the ages on in between."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress

from leasecap._config.root import root_path
from leasecap._host.file_changes import FileChanges, load
from leasecap.cli._picture import aged, render
from leasecap.cli._screen import Screen, home, is_screen
from leasecap.cli._tables import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._status.model import Holder, Status

_TICK = 1.0
"""Seconds after which ages are moved on, and between two readings where changes can't be seen."""

_APART = 0.1
"""The least seconds between two readings."""

_READ_EVERY = 5.0
"""Seconds after which all is read though no change was seen: on some file systems an observer starts and sees
nothing."""

_NO_CHANGE = frozenset({"alive", "sweep", "lock", "config.lock", "asked"})
"""Files whose change the picture doesn't show: heartbeats, stamps, locks and marks. Nor does it show hidden names."""

_ASIDE = frozenset({"staging", "trash", "lock.d", "stolen", "latency"})
"""Directories of a pool whose contents the picture doesn't show, or which change with every answer."""


def watch(look: Callable[[], Status]) -> None:
    """Show what ``look`` finds until a signal ends this process."""
    watching = _Watching(look)
    signal.set_wakeup_fd(watching.fileno(), warn_on_full_buffer=False)
    if not is_screen():
        watching.run(_print)
    with Screen(watching.wake) as screen:
        watching.run(screen.draw, screen)
    assert screen.ended is not None
    signal.signal(screen.ended, signal.SIG_DFL)
    os.kill(os.getpid(), screen.ended)


def is_change(path: str) -> bool:
    """Whether a change of the file at this path, in the root, can show in the picture."""
    parts = path.split(os.sep)
    if parts[-1] in _NO_CHANGE or parts[-1][0] == ".":
        return False
    return not (parts[0] == "pools" and parts[2:3] and parts[2] in _ASIDE)


class _Watching:
    """The loop."""

    def __init__(self, look: Callable[[], Status]) -> None:
        self._look = look
        # A signal that comes right before a wait for a lock is seen only after it. So the interpreter itself writes a
        # byte here when one comes.
        self._asleep, self._rouse = socket.socketpair()
        self._asleep.setblocking(False)
        self._rouse.setblocking(False)
        self._changed = False
        self._awaits = False
        self._root = os.path.realpath(root_path())
        self._changes: FileChanges | None = None

    def fileno(self) -> int:
        """What the interpreter is to write to when a signal comes."""
        return self._rouse.fileno()

    def wake(self) -> None:
        """Have the loop look at the screen; from any thread, and from a signal handler."""
        with suppress(BlockingIOError):  # it was woken already, many times
            self._rouse.send(b".")

    def run(self, show: Callable[[Status], None], screen: Screen | None = None) -> None:
        """Show pictures until a signal ends it. ``screen`` notes the signal; without a screen its handler raises
        here."""
        while screen is None or screen.ended is None:
            self._observe()
            self._changed = False  # set before the reading: what changes meanwhile is read once more
            found = self._look()
            self._awaits = any(_awaits_answer(holder) for pool in found.pools for holder in pool.holders)
            read_at = drawn_at = time.monotonic()
            show(found)
            while (now := time.monotonic()) < read_at + self._interval() and not (screen and screen.ended):
                if now >= drawn_at + _TICK or (screen and screen.resized):
                    show(aged(found, now - read_at))
                    drawn_at = now
                until = min(read_at + self._interval(), drawn_at + _TICK)
                self._sleep(max(until - time.monotonic(), 0.0))

    def _sleep(self, seconds: float) -> None:
        if select.select([self._asleep], [], [], seconds)[0]:
            self._asleep.recv(4096)

    def _interval(self) -> float:
        """The seconds from a reading to the next one."""
        if self._changed:
            return _APART
        if self._awaits or self._changes is None or not self._changes.is_alive():
            return _TICK
        return _READ_EVERY

    def _observe(self) -> None:
        """Start an observer if there is none, as far as one can be had."""
        if self._changes is not None:
            if self._changes.is_alive():
                return
            self._changes.stop()
        try:
            load()
            self._changes = FileChanges(self._root, self._see, recursive=True)
        except Exception:  # no inotify instance is left, the root isn't there yet: it reads every second
            self._changes = None

    def _see(self, path: str) -> None:
        if not self._changed and is_change(os.path.relpath(path, self._root)):
            self._changed = True
            self.wake()


def _awaits_answer(holder: Holder) -> bool:
    """Whether the holder waits for a request's first byte: where that is noted, heartbeats are, and these are no
    change."""
    return holder.request is not None and holder.request.phase == "sent"


def _print(found: Status) -> None:
    sys.stdout.write("\n".join(map(text, render(None, None, found, home()))) + "\n\n")
    sys.stdout.flush()
