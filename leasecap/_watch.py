"""Being woken: one small watched directory per waiting process.

A granter writes a byte to ``wake/<process>/.wakeup``. The watch filters on modified events and stands on a directory of
its own: a rename out of a watched directory holds back every later event of watchdog by half a second. Wake-ups are
hints; whoever waits looks again by itself as well.
"""

from __future__ import annotations

import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._effects import Directory, Effects


class Watch:
    """This process's watch under one root, running while somebody waits near the head of a queue."""

    def __init__(self, effects: Effects, root: Directory, process: str, on_wake: Callable[[], None]) -> None:
        self._effects = effects
        self._root = root
        self._place = f"wake/{process}"
        self._on_wake = on_wake
        self._lock = threading.Lock()
        self._users = 0
        self._fd: int | None = None
        self._observer: object | None = None

    def start(self) -> bool:
        """Start watching, or join who does; False if no watcher is to be had. Pair it with `stop`."""
        with self._lock:
            if self._users == 0 and not self._open():
                return False
            self._users += 1
            return True

    def stop(self) -> None:
        """Stop, with the last user: an inotify instance is one of 128 that this user has."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._close()

    def _open(self) -> bool:
        from watchdog.events import FileModifiedEvent, FileSystemEvent, FileSystemEventHandler
        from watchdog.observers import Observer

        on_wake = self._on_wake

        class Handler(FileSystemEventHandler):
            def on_any_event(self, event: FileSystemEvent) -> None:
                on_wake()

        try:
            for part in ("wake", self._place):
                try:
                    self._root.make(part)
                except FileExistsError:
                    pass
            self._fd = self._root.open(f"{self._place}/.wakeup", create=True)
            self._effects.lock(self._fd)  # says to `clear_leftovers` that we live
        except OSError:
            self._close()
            return False
        observer = None
        try:
            observer = Observer()  # takes the inotify instance
            observer.schedule(Handler(), self._root.full(self._place), event_filter=[FileModifiedEvent])
            observer.start()
        except (OSError, RuntimeError):
            # No inotify instance left, or a file system without notifications: looking alone serves, only slower.
            if observer is not None:
                observer.stop()
            self._close()
            return False
        self._observer = observer
        self._clear_leftovers()
        return True

    def _close(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()  # type: ignore[attr-defined]  # not joined: its threads end by themselves
        fd, self._fd = self._fd, None
        if fd is not None:
            self._effects.close(fd)
        self._remove(self._place)

    def _remove(self, place: str) -> None:
        for step, name in ((self._root.unlink, f"{place}/.wakeup"), (self._root.rmdir, place)):
            try:
                step(name)
            except OSError:
                pass  # at worst an empty directory stays until the next one clears up

    def _clear_leftovers(self) -> None:
        try:
            names = self._root.list("wake")
        except OSError:
            return
        for name in names:
            place = f"wake/{name}"
            # Only where locks tell: without them a leftover is a few bytes that `leasecap doctor` shows.
            if place != self._place and self._root.probe(f"{place}/.wakeup") is False:
                self._remove(place)

    def forget(self) -> None:
        """In a fork's child: the watch is the parent's."""
        self._lock = threading.Lock()
        self._users = 0
        self._observer = None
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
