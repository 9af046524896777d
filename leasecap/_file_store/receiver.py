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

_PIPE_HOLDS = 65536  # bytes, on Linux; what is left over is read next


_abandoned: list[object] = []


class Receiver:
    """The pipe, and handles, each with what to call when it can be read from.

    :ivar taken: by the one who receives.
    :ivar has_thread: a thread receives, or is about to.
    :ivar inode: of the pipe.
    """

    def __init__(self, pipe: int) -> None:
        """Imports: call it under the lock that forks wait for.

        :raises OSError: when no descriptor is left; the pipe is closed.
        """
        from selectors import EVENT_READ, DefaultSelector

        self.pipe = pipe
        self.inode = inode(pipe)
        self.calls: dict[int, Callable[[], None]] = {}
        self.taken = threading.Lock()
        self.has_thread = False
        self._changing = threading.RLock()  # a wait may be ended by the garbage collector, anywhere
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
                if call is not None and self.calls.get(handle) is call:  # and its number is not another one's by now
                    self._selector.unregister(handle)  # it can be read from for ever after
        calls = [call for call in ready.values() if call is not None]
        return Received(self._read() if self.pipe in ready else b"", calls)

    def is_own(self) -> bool:
        """Whether the pipe is still open; the program may have closed all (`os.closerange`)."""
        return inode(self.pipe) == self.inode

    def _read(self) -> bytes:
        if not self.is_own():
            return b""
        try:
            return os.read(self.pipe, _PIPE_HOLDS)
        except BlockingIOError:
            return b""  # made anew meanwhile

    def add(self, handle: int, call: Callable[[], None]) -> bool:
        """Returns whether who receives has to begin anew: a selector without a descriptor takes no more while it waits.

        :raises OSError: when it can't be waited for.
        """
        from selectors import EVENT_READ

        with self._changing:
            self._selector.register(handle, EVENT_READ, call)
            self.calls[handle] = call
        return not hasattr(self._selector, "fileno")

    def drop(self, handle: int) -> None:
        """Wait for it no longer, and close it."""
        with self._changing:
            if self.calls.pop(handle, None) is None:
                return
            if not self.is_own():
                return  # the numbers may be the program's by now
            if handle in self._selector.get_map():
                self._selector.unregister(handle)  # a fork's child may still have a copy, which would go on to call
        close_exit(handle)

    def write(self, what: bytes) -> None:
        """Write to the own pipe."""
        if not self.is_own():
            return
        try:
            os.write(self.pipe, what)
        except BlockingIOError:
            pass  # full: whoever receives has enough to wake up for

    def renew(self, pipe: int) -> None:
        """Hear this pipe in place of the other one, under the same number."""
        self.write(b"\n")  # who waits for the old one begins anew
        os.dup2(pipe, self.pipe, inheritable=False)
        os.close(pipe)
        self.inode = inode(self.pipe)
        from selectors import EVENT_READ

        self._selector.unregister(self.pipe)  # a fork's child may still have a copy, and then it is still there
        self._selector.register(self.pipe, EVENT_READ)

    def close(self) -> None:
        """Close everything; changes no selector, which a fork's child shares with its parent."""
        if not self.is_own():
            # All of it was closed, and the numbers may be the program's by now. A selector would close its own.
            _abandoned.append(self._selector)
            return
        while self.calls:
            close_exit(self.calls.popitem()[0])
        self._selector.close()
        os.close(self.pipe)
