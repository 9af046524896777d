"""Being woken: a named pipe for each process that waits, into which a granter writes the ticket that it granted.

A blocked read costs nothing, and a pipe needs no observer. Watching a file instead takes 40 ms of imports, two more
threads, and one of the 128 inotify instances that a user has; to put that off, waiters had to look every 1.5 ms, which
was half of their CPU time (`scripts/bench`, C). Wake-ups are hints; whoever waits looks by itself as well.

The same thread waits for the ends of processes, if it is given handles on them (`_ends`).
"""

from __future__ import annotations

import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    from collections.abc import Callable

    from leasecap._effects import Directory

_MOST_CLEARED = 4
"""Pipes that whoever opens its own looks at, which is 13 us each. More than are left behind on average."""
_END = b"\0"  # in no ticket's name
_NOBODY = b"\n"
_PIPE_HOLDS = 65536  # bytes, on Linux; what is left over is read next

MOST_HANDLES = 64
"""Handles that one process has open at a time: most may have 1024 descriptors, and need them for their work."""


class _Ear:
    """What the thread waits for: the pipe, and handles, each with what to call when it can be read from.

    An epoll takes more of them while it is waited for. It is made with the first: most waits are over before.
    """

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        self.calls: dict[int, Callable[[], None]] = {}
        self._poll: select.epoll | None = None

    def hear(self) -> bytes:
        """Block until something is written to the pipe."""
        while self._poll is not None:
            ready = [handle for handle, _ in self._poll.poll()]
            for handle in ready:
                call = self.calls.get(handle)
                if call is not None:
                    call()
            if self.pipe in ready:
                break
        return os.read(self.pipe, _PIPE_HOLDS)

    def add(self, handle: int, call: Callable[[], None]) -> None:
        """:raises OSError: when it can't be waited for."""
        from select import EPOLLIN, EPOLLONESHOT, epoll

        if self._poll is None:
            poll = epoll()
            poll.register(self.pipe, EPOLLIN)
            self._poll = poll
            self.tell(_NOBODY)  # from the read to the poll
        self.calls[handle] = call
        try:
            self._poll.register(handle, EPOLLIN | EPOLLONESHOT)  # it can be read from for ever after
        except OSError:
            del self.calls[handle]
            raise

    def drop(self, handle: int) -> None:
        if self._poll is not None and self.calls.pop(handle, None) is not None:
            self._poll.unregister(handle)  # a fork's child may still have a copy, which would go on to call
            os.close(handle)

    def tell(self, what: bytes) -> None:
        os.write(self.pipe, what)

    def close(self) -> None:
        """Close everything; touches no epoll, which a fork's child shares with its parent."""
        while self.calls:
            os.close(self.calls.popitem()[0])
        if self._poll is not None:
            self._poll.close()
        os.close(self.pipe)


class Watch:
    """This process's pipe under one root, open while somebody waits."""

    def __init__(self, root: Directory, process: str, on_wake: Callable[[bytes], None]) -> None:
        """
        :param on_wake: called in a thread of the watch with what was written: names, each with a line feed.
        """
        self._root = root
        self._place = f"wake/{process}"
        self._on_wake = on_wake
        self._lock = threading.Lock()
        self._users = self._starts = 0
        self._ear: _Ear | None = None

    def start(self) -> bool:
        """Listen, or join who does; False if no pipe is to be had. Pair it with `stop`."""
        with self._lock:
            if self._ear is None and not self._open():
                return False
            self._users += 1
            return True

    def stop(self) -> None:
        """The last user stops it the first time. Who has waited twice will again, and keeps it until `close`."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._starts == 1:
                self._close()

    def close(self) -> None:
        """At the process's end."""
        with self._lock:
            self._close()

    def add(self, handle: int, call: Callable[[], None]) -> bool:
        """Call ``call``, in the thread and once, when ``handle`` can be read from; False: not to be had, or too many.

        Only who has started it may; `drop` it, which closes it.
        """
        with self._lock:
            if self._ear is None or len(self._ear.calls) >= MOST_HANDLES:
                return False
            try:
                self._ear.add(handle, call)
            except OSError:
                return False
            return True

    def drop(self, handle: int) -> None:
        """Wait for ``handle`` no longer, and close it."""
        with self._lock:
            if self._ear is not None:
                self._ear.drop(handle)

    def _open(self) -> bool:
        self._starts += 1
        try:
            try:
                self._root.make("wake")
            except FileExistsError:
                pass
            ear = self._ear = _Ear(self._root.listen(self._place))
        except OSError:
            # A file system without pipes, or a platform: looking alone serves, only slower.
            return False
        try:
            threading.Thread(target=self._listen, args=(ear,), name="leasecap-wake", daemon=True).start()
        except RuntimeError:
            self._close()  # no more threads for this user
            ear.close()
            return False
        self._clear_leftovers()
        return True

    def _listen(self, ear: _Ear) -> None:
        try:
            while _END not in (said := ear.hear()):
                self._on_wake(said)
        finally:
            ear.close()  # here, so that no number is another file's while it is waited for or written to

    def _close(self) -> None:
        ear, self._ear = self._ear, None
        if ear is not None:
            try:
                self._root.unlink(self._place)
            except OSError:
                pass  # at worst a pipe without a reader stays until somebody clears up
            ear.tell(_END)

    def _clear_leftovers(self) -> None:
        try:
            names = self._root.list("wake")
            own = names.index(os.path.basename(self._place))  # anywhere, so that all of them are looked at some time
            for name in (names[own + 1 :] + names[:own])[:_MOST_CLEARED]:
                if name[0] != "." and self._root.hears(f"wake/{name}") is False:  # `Directory.listen` opens it later
                    self._root.unlink(f"wake/{name}")
        except (OSError, ValueError):
            pass  # another one was first

    def forget(self) -> None:
        """In a fork's child: the watch is the parent's, and so is its thread."""
        ear, self._ear = self._ear, None
        if ear is not None:
            ear.close()
