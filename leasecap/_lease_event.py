"""An event that happens to a lease, which threads and tasks can wait for."""

from __future__ import annotations

import threading
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator


class LeaseEvent:
    """An event that happens to a lease at most once: it can be tested, waited for and awaited.

    It takes no lock, which a signal handler that raises could leave taken.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_set = False
        self._unset = [True]  # whoever takes this out is the first to set the event
        self._waiters: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return self._is_set

    def __repr__(self) -> str:
        return f"<{self._name}: {bool(self)}>"

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is true, ``timeout`` seconds at most; returns whether it is."""
        event = threading.Event()
        with self._waking(event.set):
            return self._is_set or event.wait(timeout) or self._is_set

    def __await__(self) -> Generator[object, None, None]:
        """Suspend the task until it is true."""
        import asyncio

        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def end() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(end)
            except RuntimeError:
                pass  # the loop was closed meanwhile

        with self._waking(wake):
            if not self:
                yield from future

    @contextmanager
    def _waking(self, wake: Callable[[], None]) -> Iterator[None]:
        try:
            self._waiters.append(wake)
            yield
        finally:
            try:
                self._waiters.remove(wake)
            except ValueError:
                pass  # `_set` has called it

    def _set(self) -> bool:
        """Set the event; returns whether it wasn't set before."""
        try:
            self._unset.pop()
        except IndexError:
            return False
        self._is_set = True
        while self._waiters:  # a caller of `wait` that adds itself later finds `_is_set`
            try:
                self._waiters.pop()()
            except IndexError:
                break
        return True
