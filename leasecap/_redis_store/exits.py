"""Handles on processes, for one thread that waits until one of them exits."""

from __future__ import annotations

import socket
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import TypeAlias

    from leasecap._host.effects import Effects

    Process: TypeAlias = tuple[int, int]  # pid and start

_MOST = 64
"""Handles at most. Each one is a descriptor of this process, of which some systems give it 256."""


class Exits:
    """What one thread waits for. It alone calls `cover` and `wait`."""

    def __init__(self, effects: Effects) -> None:
        """:raises OSError: when no descriptor is left."""
        self._effects = effects
        self._handles: dict[Process, int] = {}
        self._roused, self._rouse = socket.socketpair()
        try:
            self._rouse.setblocking(False)
            self._selector = DefaultSelector()
            self._selector.register(self._roused, EVENT_READ)
        except BaseException:
            self._roused.close()
            self._rouse.close()
            raise

    def cover(self, processes: Collection[Process]) -> set[Process]:
        """Have handles on these processes and on no others; returns those without one.

        These have exited, or no handle is to be had.
        """
        for process in self._handles.keys() - processes:
            self._drop(process)
        return {one for one in processes if one not in self._handles and not self._attach(one)}

    def wait(self, seconds: float) -> None:
        """Wait until a process exits, or `rouse` is called, ``seconds`` at most."""
        for key, _ in self._selector.select(max(seconds, 0.0)):
            if key.data is None:
                self._roused.recv(64)
            else:
                self._drop(key.data)  # once a process has exited, its handle is ready for ever

    def rouse(self) -> None:
        """End `wait`; from another thread."""
        with suppress(OSError):  # it is roused already, or over
            self._rouse.send(b".")

    def close(self) -> None:
        """Close everything. No selector is changed, since a fork's child shares it with its parent."""
        while self._handles:
            self._effects.close_exit(self._handles.popitem()[1])
        with suppress(OSError):  # a kqueue isn't inherited
            self._selector.close()
        self._roused.close()
        self._rouse.close()

    def _attach(self, process: Process) -> bool:
        found = self._effects.exit_of(*process) if len(self._handles) < _MOST else None
        if found is None:
            return False
        try:
            self._selector.register(found[0], EVENT_READ, process)
        except BaseException:
            self._effects.close_exit(found[0])
            raise
        self._handles[process] = found[0]
        return True

    def _drop(self, process: Process) -> None:
        handle = self._handles.pop(process)
        self._selector.unregister(handle)  # closing isn't enough: an epoll goes on if a fork's child has a copy
        self._effects.close_exit(handle)
