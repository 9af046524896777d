"""The call that a program wants when its lease is lost."""

from __future__ import annotations

import threading
from functools import partial

from leasecap._log import apart, log_warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Lost(Protocol):
        """The lease."""

        id: str


HEAR_OUT = 1.0
"""Seconds for which a release waits for the call, at most."""


class OnLost:
    """Made once, in a thread of its own: it is the program's code, and may take its time."""

    __slots__ = ("_calls", "_ended", "_thread")

    def __init__(self, call: Callable[[Any], object]) -> None:
        self._calls = [call]  # taken out in one step, since two threads may find the loss at once
        self._ended = threading.Event()
        self._thread: int | None = None

    def tell(self, lease: Lost) -> None:
        """Make the call, unless it was made."""
        try:
            call = self._calls.pop()
        except IndexError:
            return
        apart("on-lost", partial(self._run, call, lease))

    def _run(self, call: Callable[[Any], object], lease: Lost) -> None:
        self._thread = threading.get_ident()
        try:
            call(lease)
        except BaseException as error:
            log_warning(f"on_lost of lease {lease.id} raised {error!r}")
        finally:
            self._ended.set()

    def hear_out(self) -> None:
        """Give it time while it is made, since the process may end right after a release."""
        if not self._calls and self._thread != threading.get_ident():
            self._ended.wait(HEAR_OUT)
