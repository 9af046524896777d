"""Being woken: a named pipe for each process that waits, into which a granter writes the ticket that it granted.

A blocked read costs nothing, and a pipe needs no observer. Watching a file instead takes 40 ms of imports, two more
threads, and one of the 128 inotify instances that a user has; to put that off, waiters had to look every 1.5 ms, which
was half of their CPU time (`scripts/bench`, C). Wake-ups are hints; whoever waits looks by itself as well.
"""

from __future__ import annotations

import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._effects import Directory

_MOST_CLEARED = 4
"""Pipes that whoever opens its own looks at, which is 13 us each. More than are left behind on average."""
_END = b"\0"  # in no ticket's name
_PIPE_HOLDS = 65536  # bytes, on Linux; what is left over is read next


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
        self._fd: int | None = None

    def start(self) -> bool:
        """Listen, or join who does; False if no pipe is to be had. Pair it with `stop`."""
        with self._lock:
            if self._fd is None and not self._open():
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

    def _open(self) -> bool:
        self._starts += 1
        try:
            try:
                self._root.make("wake")
            except FileExistsError:
                pass
            fd = self._fd = self._root.listen(self._place)
        except OSError:
            # A file system without pipes, or a platform: looking alone serves, only slower.
            return False
        try:
            threading.Thread(target=self._listen, args=(fd,), name="leasecap-wake", daemon=True).start()
        except RuntimeError:
            self._close()  # no more threads for this user
            os.close(fd)
            return False
        self._clear_leftovers()
        return True

    def _listen(self, fd: int) -> None:
        try:
            while _END not in (said := os.read(fd, _PIPE_HOLDS)):
                self._on_wake(said)
        finally:
            os.close(fd)  # here, so that its number is nobody else's while it is read from or the end is written to it

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                self._root.unlink(self._place)
            except OSError:
                pass  # at worst a pipe without a reader stays until somebody clears up
            os.write(fd, _END)

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
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
