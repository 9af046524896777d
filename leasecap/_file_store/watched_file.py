"""A plain file that watchdog watches: what wakes a process where no named pipe is to be had.

Whoever notifies the process changes the file; a change says only that something has happened. The observer is started
late: most waits are over before its import would have paid. Until then polling serves, and also where no observer can
be had, as past the inotify limit. On some file systems an observer sees nothing. So wake-ups count as reaching the
process only once it has seen a change that it made itself.
"""

from __future__ import annotations

import os
import threading
import time

from leasecap._host.file_changes import FileChanges, load
from leasecap._loading import loading
from leasecap._threads import await_end, start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

_START_AFTER = 1.0
"""Seconds of waiting after which the observer is started."""

_RETRY_AFTER = 60.0
"""Seconds after which the observer is started once more, if it sees nothing."""


class WatchedFile:
    """The file of this process under one root, from the first wait to `close`."""

    def __init__(
        self,
        path: str,
        make: Callable[[], int | None],
        change: Callable[[], None],
        on_change: Callable[[], None],
        fork_lock: AbstractContextManager[object],
    ) -> None:
        """
        :param path: the file's path.
        :param make: puts the file in place; returns the descriptor whose lock shows that this process lives, if any.
        :param change: changes the file.
        :param on_change: called in a thread of the observer's.
        :param fork_lock: keeps forks off while it is held, since a child must not copy an import half done.
        """
        self._path = path
        self._make = make
        self._change = change
        self._on_change = on_change
        self._fork_lock = fork_lock
        self._lock = threading.RLock()  # a garbage collection may end a wait while this is held
        self._start_at = time.monotonic() + _START_AFTER
        self._changes: FileChanges | None = None
        self._alive: int | None = None
        self._threads: list[threading.Thread] = []
        self._has_seen = self._is_closed = False

    @property
    def stands(self) -> bool:
        """Whether the file is watched, as far as this process knows."""
        return self._changes is not None

    def reaches(self) -> bool:
        """Whether a change of the file wakes this process. Once that is due, a thread is made to start the observer."""
        changes = self._changes
        if changes is not None and self._has_seen and changes.is_alive():
            return True
        with self._lock:
            if time.monotonic() < self._start_at or self._is_closed:
                return False
            self._start_at = time.monotonic() + _RETRY_AFTER
        self._apart(self._start)  # not in the waiter, which may be an event loop
        return False

    def _apart(self, call: Callable[[], None]) -> None:
        try:
            thread = start_thread("observer", call)
        except RuntimeError:
            return  # this user may have no more threads; or the interpreter ends, and with it the observer
        self._threads = [*(one for one in self._threads if one.is_alive()), thread]

    def _start(self) -> None:
        try:
            with loading(self._fork_lock):
                load()
            with self._fork_lock:
                self._drop()  # another thread may have started one meanwhile
                self._alive = self._make()
                self._changes = FileChanges(os.path.dirname(self._path), self._see)
            self._change()
        except Exception:  # if watchdog doesn't work, or can't even be imported, polling serves
            self._drop()
        if self._is_closed:
            self._drop()

    def _see(self, path: str) -> None:
        if os.path.basename(path) == os.path.basename(self._path):  # and no mark beside it
            self._has_seen = True
            self._on_change()

    def renew(self) -> None:
        """Make the file anew, since it was removed."""
        self._drop()
        with self._lock:
            self._start_at = min(self._start_at, time.monotonic() + _START_AFTER)

    def close(self) -> None:
        """Stop watching; whoever made the file removes it."""
        with self._lock:
            self._is_closed = True
        self._drop()

    def forget(self) -> None:
        """In a fork's child: drop the observer without stopping it. Its threads aren't there, and its locks may be
        held."""
        self._changes = None
        if self._alive is not None:
            os.close(self._alive)
            self._alive = None

    def await_end(self) -> None:
        """After `close`: wait for the threads that start and stop observers, and so for the observers' own threads."""
        while self._threads:
            await_end(self._threads.pop())

    def _drop(self) -> None:
        with self._lock:
            changes, self._changes = self._changes, None
            alive, self._alive = self._alive, None
            self._has_seen = False
        if alive is not None:
            os.close(alive)
        if changes is not None:
            # In a thread of its own: `stop` waits for a thread, and a garbage collection may have brought that very one
            # here.
            self._apart(changes.stop)
