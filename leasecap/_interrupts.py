"""Ctrl-C, held back while the protocol is in the middle of something.

Python raises KeyboardInterrupt between any two bytecodes of the main thread: also between taking the pool's lock and
the ``try`` that gives it back, and between a lease's grant and the first line that knows of it. In a process that lives
on (a notebook, a prompt) that would keep everybody out of the pool, or leak the slot.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module in Python adds 4 us to each call
import threading
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Self


class HeldBack:
    """Until the block's end, in the main thread; elsewhere no signal handler runs. Then the handler is called."""

    __slots__ = ("_came", "_handler")

    def __init__(self) -> None:
        self._came = False
        self._handler: Any = None

    def __enter__(self) -> Self:
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Let it in again for a block, first of all what has come meanwhile."""
        try:
            self._give_back()
            yield
        finally:
            self._take()

    def deliver(self) -> None:
        """Call the handler now if a Ctrl-C has come; it raises KeyboardInterrupt, unless it is the user's own."""
        if self._came:
            self._came = False
            self._handler(signal.SIGINT, None)

    def _take(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        if callable(handler):
            try:
                signal.signal(signal.SIGINT, self._note)
            except ValueError:
                return  # the main thread of another interpreter: it has no signal handlers either
            self._handler = handler

    def _note(self, _signum: int, _frame: object) -> None:
        self._came = True

    def _give_back(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self.deliver()
