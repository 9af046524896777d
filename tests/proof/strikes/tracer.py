"""A signal whose handler raises, at one chosen position of the package's own code in the main thread."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

_PLACES = (f"{Path(leasecap.__file__).parent}{os.sep}", contextlib.__file__, threading.__file__)
"""What a position may be in: the package, and what runs in its ``with`` statements."""


class Struck(Exception):
    """A handler's own error."""


class StruckInTime(TimeoutError):
    """A handler's own error that is an OSError, of which the package handles many of its own."""


KINDS = (KeyboardInterrupt, Struck, StruckInTime, SystemExit)


class Striker:
    """Counts the positions that are passed, and sends the signal at one of them.

    :ivar passed: positions passed so far.
    :ivar where: the position that was struck, for a message; None if it wasn't reached.
    """

    def __init__(self, at: int | None) -> None:
        self.passed = 0
        self.where: str | None = None
        self._at = at
        self.kind: type[BaseException] = KINDS[(at or 0) % len(KINDS)]

    def run(self, act: Callable[[], object]) -> None:
        """Call ``act``, traced; what the handler raises comes out of it as ``act`` lets it."""

        def handler(signum: int, frame: object) -> None:
            raise self.kind("struck")

        signal.signal(signal.SIGALRM, handler)
        self._handler = handler
        # Python 3.12 gives opcode events only if a frame has asked for them before the tracing starts; 3.13 not in the
        # first traced call of a function after others, so there it goes on between the calls, and counts nothing.
        sys._getframe().f_trace_opcodes = True
        self._counts = True
        sys.settrace(self._begin)
        try:
            act()
        finally:
            self._counts = False
            sys.settrace(self._begin if sys.version_info >= (3, 13) else None)

    def handler_stands(self) -> bool:
        """Whether the handler is where it was."""
        return signal.getsignal(signal.SIGALRM) is self._handler

    def _begin(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(_PLACES):
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self._step

    def _step(self, frame: FrameType, event: str, _: object) -> Any:
        if event == "opcode" and self._counts:
            self.passed += 1
            if self.passed == self._at:
                code = frame.f_code
                self.where = f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_qualname}+{frame.f_lasti}"
                self._at = None
                signal.raise_signal(signal.SIGALRM)
        return self._step
