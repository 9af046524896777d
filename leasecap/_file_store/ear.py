"""What a process listens to: its named pipe, and handles on other processes."""

from __future__ import annotations

import errno
import os
import threading

from leasecap._host.directory import inode
from leasecap._store.wakeup import Heard

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable

_PIPE_HOLDS = 65536  # bytes, on Linux; what is left over is read next

_abandoned: list[object] = []


class Ear:
    """The pipe, and handles, each with what to call when it can be read from.

    An epoll takes more of them while it is waited for. It is made with the first: most waits are over before.

    :ivar taken: by the one who hears.
    :ivar has_thread: a thread hears, or is about to.
    :ivar inode: of the pipe.
    """

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self.inode = inode(pipe)
        self.calls: dict[int, Callable[[], None]] = {}
        self.taken = threading.Lock()
        self.has_thread = False
        self._all: select.epoll | None = None
        self._pipe_alone: select.poll | None = None

    def prepare(self) -> None:
        """Before the first `hear`. It imports: call it under the lock that forks wait for."""
        if self._pipe_alone is None:
            import select

            self._pipe_alone = select.poll()
            self._pipe_alone.register(self.pipe, select.POLLIN)

    def hear(self, timeout: float | None = None) -> Heard:
        """Block until something comes, ``timeout`` seconds at most."""
        if not self.is_own():
            return Heard(b"", [])
        try:
            ready = self._wait(timeout)
        except OSError:
            if self.is_own():
                raise
            return Heard(b"", [])
        calls = [call for call in map(self.calls.get, ready) if call is not None]
        return Heard(self._read() if self.pipe in ready else b"", calls)

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

    def _wait(self, timeout: float | None) -> list[int]:
        if self._all is not None:
            return [handle for handle, _ in self._all.poll(timeout)]
        assert self._pipe_alone is not None
        return [handle for handle, _ in self._pipe_alone.poll(None if timeout is None else timeout * 1000)]

    def add(self, handle: int, call: Callable[[], None]) -> bool:
        """Returns whether it is the first: who hears only the pipe has to begin anew.

        :raises OSError: when it can't be waited for.
        """
        try:
            from select import EPOLLIN, EPOLLONESHOT, epoll
        except ImportError:  # another platform; or gevent, which takes it away
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
        first = self._all is None
        if self._all is None:
            everything = epoll()
            everything.register(self.pipe, EPOLLIN)
            self._all = everything
        self.calls[handle] = call
        try:
            self._all.register(handle, EPOLLIN | EPOLLONESHOT)  # it can be read from for ever after
        except OSError:
            del self.calls[handle]
            raise
        return first

    def drop(self, handle: int) -> None:
        """Wait for it no longer, and close it."""
        if self._all is not None and self.calls.pop(handle, None) is not None and self.is_own():
            self._all.unregister(handle)  # a fork's child may still have a copy, which would go on to call
            os.close(handle)

    def tell(self, what: bytes) -> None:
        """Write to the own pipe."""
        if not self.is_own():
            return
        try:
            os.write(self.pipe, what)
        except BlockingIOError:
            pass  # full: whoever hears has enough to wake up for

    def renew(self, pipe: int) -> None:
        """Hear this pipe in place of the other one, under the same number."""
        self.tell(b"\n")  # who waits for the old one begins anew
        os.dup2(pipe, self.pipe, inheritable=False)
        os.close(pipe)
        self.inode = inode(self.pipe)
        if self._all is not None:
            from select import EPOLLIN

            try:
                self._all.unregister(self.pipe)  # a fork's child may still have a copy, and then it is still there
            except OSError:
                pass
            self._all.register(self.pipe, EPOLLIN)

    def close(self) -> None:
        """Close everything; touches no epoll, which a fork's child shares with its parent."""
        if not self.is_own():
            # All of it was closed, and the numbers may be the program's by now. An epoll object would close its own.
            _abandoned.append(self._all)
            return
        while self.calls:
            os.close(self.calls.popitem()[0])
        if self._all is not None:
            self._all.close()
        os.close(self.pipe)
