"""What a process listens to: its named pipe, and handles on other processes."""

from __future__ import annotations

import os
import threading

from leasecap._host.directory import inode
from leasecap._host.exits import close_exit
from leasecap._store.wakeup import Received

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Lookout(Protocol):
        """Whoever receives runs this when it is due.

        :ivar due: when, on the monotonic clock.
        """

        due: float

        def run(self, now: float) -> None:
            """Look, if that is due."""


_PIPE_HOLDS = 65536  # bytes, on Linux; if a pipe holds more, the rest is read next

_abandoned: list[object] = []


class Receiver:
    """The pipe and the handles, each with what to call when it can be read from.

    :ivar taken: the lock of whoever receives.
    :ivar has_thread: whether a thread receives, or is about to.
    """

    def __init__(self, pipe: int) -> None:
        """It imports, so call it under the lock that forks wait for.

        :raises OSError: when no descriptor is left; the pipe is closed.
        """
        from selectors import EVENT_READ, DefaultSelector

        self.pipe = pipe
        self._inodes: tuple[tuple[int, int] | None, ...] = (inode(pipe),)
        self.calls: dict[int, Callable[[], None]] = {}
        self.taken = threading.Lock()
        self.has_thread = False
        self._changing = threading.RLock()  # a garbage collection may end a wait while this is held
        try:
            self._selector = DefaultSelector()
            self._selector.register(pipe, EVENT_READ)
        except BaseException:
            os.close(pipe)
            raise

    def receive(self, timeout: float | None = None) -> Received:
        """Block until something comes, ``timeout`` seconds at most."""
        if not self.is_own():
            return Received(b"", [])
        try:
            ready = {key.fd: key.data for key, _ in self._selector.select(timeout)}
        except OSError:
            if self.is_own():
                raise
            return Received(b"", [])
        with self._changing:
            for handle, call in ready.items():
                if call is not None and self.calls.get(handle) is call:  # else the number is another handle's by now
                    self._selector.unregister(handle)  # once a process has exited, its handle is ready for ever
        calls = [call for call in ready.values() if call is not None]
        return Received(self._read() if self.pipe in ready else b"", calls)

    def is_own(self) -> bool:
        """Whether the pipe is still open; the program may have closed all descriptors (`os.closerange`)."""
        return inode(self.pipe) in self._inodes

    @property
    def inode(self) -> tuple[int, int] | None:
        """Device and inode of the pipe."""
        return self._inodes[-1]

    def _read(self) -> bytes:
        if not self.is_own():
            return b""
        try:
            return os.read(self.pipe, _PIPE_HOLDS)
        except BlockingIOError:
            return b""  # the pipe was made anew meanwhile

    def add(self, handle: int, call: Callable[[], None]) -> bool:
        """Wait for this handle too, and make ``call`` when it can be read from.

        Returns whether whoever receives has to begin anew: poll and select take nothing new while they wait.

        :raises OSError: when the handle can't be waited for.
        """
        from selectors import EVENT_READ

        with self._changing:
            self._selector.register(handle, EVENT_READ, call)
            self.calls[handle] = call
        return not hasattr(self._selector, "fileno")

    def drop(self, handle: int) -> None:
        """Wait for the handle no longer, and close it."""
        with self._changing:
            if self.calls.pop(handle, None) is None:
                return
            if not self.is_own():
                return  # the program has closed all of it, and the numbers may be its own by now
            if handle in self._selector.get_map():
                self._selector.unregister(handle)  # closing isn't enough: an epoll goes on if a fork's child has a copy
        close_exit(handle)

    def write(self, what: bytes) -> None:
        """Write to this process's own pipe."""
        if not self.is_own():
            return
        try:
            os.write(self.pipe, what)
        except BlockingIOError:
            pass  # the pipe is full, so whoever receives wakes up anyway

    def renew(self, pipe: int) -> None:
        """Receive from this pipe in place of the other one, under the same number."""
        self.write(b"\n")  # whoever waits for the old pipe begins anew
        self._inodes = (self.inode, inode(pipe))  # until it is done either may be found there, by any thread
        os.dup2(pipe, self.pipe, inheritable=False)
        self._inodes = self._inodes[1:]
        os.close(pipe)
        from selectors import EVENT_READ

        self._selector.unregister(self.pipe)  # the epoll still has it if a fork's child has a copy
        self._selector.register(self.pipe, EVENT_READ)

    def close(self) -> None:
        """Close everything. No selector is changed, since a fork's child shares it with its parent."""
        if not self.is_own():
            # The program has closed all of it, and the numbers may be its own by now. The selector is kept from the
            # garbage collector, since it would close its number.
            _abandoned.append(self._selector)
            return
        while self.calls:
            close_exit(self.calls.popitem()[0])
        self._selector.close()
        os.close(self.pipe)
