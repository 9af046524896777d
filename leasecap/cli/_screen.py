"""The terminal of `status --watch`: it draws on the alternate screen, and leaves the terminal as it was found."""

from __future__ import annotations

import os
import signal
import sys

import click

from leasecap.cli._picture import render
from leasecap.cli._tables import cells, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, Self

    from leasecap._status.model import Status
    from leasecap.cli._tables import Line

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[H\x1b[2J"  # the alternate screen, without a cursor, empty
_LEAVE = "\x1b[?25h\x1b[?1049l"
_CLEAR, _CLEAR_BELOW = "\x1b[K", "\x1b[J"  # clear the rest of the line, and all below it


def _present(*names: str) -> frozenset[int]:
    return frozenset(getattr(signal, f"SIG{name}") for name in names if hasattr(signal, f"SIG{name}"))


ENDING = _present("INT", "TERM", "HUP", "QUIT")
_STOPPING = _present("TSTP")
_NOTED = ENDING | _STOPPING | _present("WINCH", "CONT")
_USUAL = (80, 24)  # columns, rows


def is_screen() -> bool:
    """Whether stdout is a terminal that can do more than show text."""
    return _is_terminal() and os.environ.get("TERM", "dumb") not in ("dumb", "")


def columns() -> int | None:
    """How wide stdout is; None if that can't be told."""
    return _size()[0] if _is_terminal() else None


def home() -> str:
    """The user's home directory; empty if to show it as ``~`` would say nothing."""
    found = os.path.expanduser("~")
    return "" if found in ("~", "/") else found


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _size() -> tuple[int, int]:
    # `shutil` would go by COLUMNS and LINES, which don't follow when a window is resized.
    try:
        wide, high = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return _USUAL
    return wide or _USUAL[0], high or _USUAL[1]


def paint(line: Line) -> str:
    """The line as stdout shows it."""
    if not is_screen() or os.environ.get("NO_COLOR"):
        return text(line)
    return "".join(_styled(part, style) for part, style in line)


def _styled(part: str, style: str) -> str:
    if style in ("bold", "dim"):
        return click.style(part, **{style: True})
    return click.style(part, fg=style) if style else part


class Screen:
    """The alternate screen, for the block. Signals are only noted, so that none comes between a picture and its end.

    :ivar ended: the signal that asks this process to end.
    :ivar resized: the picture is to be drawn anew at once.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """:param wake: called, in a signal handler, when the screen has to be looked at."""
        self.ended: int | None = None
        self.resized = False
        self._wake = wake
        self._stopped = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        try:
            for signum in _NOTED:
                if (
                    signal.getsignal(signum) is not signal.SIG_IGN
                ):  # as nohup, and the shell for a job in the background
                    self._before[signum] = signal.signal(signum, self._note)
            self._write(_ENTER)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _restore(self) -> None:
        try:
            self._write(_LEAVE)
        except (OSError, ValueError):
            pass  # the terminal is gone
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def draw(self, found: Status) -> None:
        """Show the picture, as much of it as fits now."""
        if self._stopped:
            self._stop()
        self.resized = False
        wide, high = _size()
        lines = [
            paint(line) + ("" if cells(text(line)) >= wide else _CLEAR) for line in render(high, wide, found, home())
        ]
        # The cursor goes home and the rest is cleared after drawing, so nothing flickers. Without a line feed after the
        # last line nothing scrolls.
        self._write("\x1b[H" + "\r\n".join(lines) + ("" if len(lines) >= high else _CLEAR_BELOW))

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if signum in ENDING:
            self.ended = signum
        else:
            self._stopped = self._stopped or signum in _STOPPING
            self.resized = True
        self._wake()

    def _stop(self) -> None:
        """Stop as Ctrl-Z asks, on the screen of the shell; go on when continued."""
        self._stopped = False
        self._write(_LEAVE)
        for signum in _STOPPING:
            noting = signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)  # here it stops, and here it goes on
            signal.signal(signum, noting)
        self._write(_ENTER)

    def _write(self, what: str) -> None:
        sys.stdout.write(what)
        sys.stdout.flush()
