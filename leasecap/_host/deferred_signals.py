"""Signal handlers that wait while the protocol is in the middle of something.

A handler that raises (KeyboardInterrupt by default, a TimeoutError for an alarm, ``sys.exit`` for TERM) does so between
any two bytecodes of the main thread: also between taking the pool's lock and the ``try`` that gives it back, between a
grant and the first line that knows of it, or inside an ``except OSError`` that isn't meant for it. In a process that
lives on (a notebook, a prompt) that would keep everybody out of the pool, or leak the slot.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module in Python wraps each call
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

_NAMES = ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


def surely(step: Callable[[], object]) -> None:
    """Do ``step`` with signals deferred, even if a handler raises before or after it; that exception is raised in the
    end.

    :param step: may be called a second time, and must do nothing once it is done.
    """
    try:
        with DeferredSignals():
            step()
    except BaseException:
        with DeferredSignals():
            step()
        raise


class DeferredSignals:
    """A block at whose end the signal handlers are called for what came in it.

    In a thread that isn't the main one it does nothing: Python calls handlers in the main thread alone. One object
    serves one block after the other.
    """

    __slots__ = ("_came", "_taken")

    def __init__(self) -> None:
        self._came: list[tuple[int, Any]] = []
        self._taken: dict[int, Any] = {}  # the handlers

    def __enter__(self) -> Self:
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def delivered(self) -> _Delivered:
        """A block in which signals are delivered again, first of all those that have come meanwhile.

        If a handler raises at the very end of it, signals stay delivered: clean up in a `DeferredSignals` of its own.
        """
        return _Delivered(self)

    def deliver(self) -> None:
        """Call the handlers of the signals that have come; they may raise."""
        if self._came:
            signum, handler = self._came.pop(0)
            try:
                handler(signum, None)
            finally:
                self.deliver()

    def _take(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        try:
            look, put, note, taken = signal.getsignal, signal.signal, self._note, self._taken
            for signum in _SIGNALS:
                handler = look(signum)
                if callable(handler):
                    taken[signum] = handler
                    put(signum, note)
        except ValueError:
            self._taken.clear()  # this is the main thread of another interpreter, which has no signal handlers either
        except BaseException:  # a handler that wasn't taken yet has raised
            self._give_back()
            raise

    def _note(self, signum: int, _frame: object) -> None:
        if all(signum != come for come, _ in self._came):
            self._came.append((signum, self._taken[signum]))

    def _give_back(self) -> None:
        taken = self._taken
        try:
            for signum in tuple(taken):
                signal.signal(signum, taken[signum])
                del taken[signum]
            if self._came:
                self.deliver()
        except BaseException:  # a handler that was given back already has raised
            self._give_back()
            raise


class _Delivered:
    """One `DeferredSignals.delivered`."""

    __slots__ = ("_held",)

    def __init__(self, held: DeferredSignals) -> None:
        self._held = held

    def __enter__(self) -> None:
        try:
            self._held._give_back()
        except BaseException:
            self._held._take()
            raise

    def __exit__(self, *_: object) -> None:
        self._held._take()
