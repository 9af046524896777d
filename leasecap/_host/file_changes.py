"""Changes of the files in a directory, as watchdog sees them.

watchdog is imported by `load`, since its import is slow. In some of its releases all observers of a
process share one inotify instance, in others each has one.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ENDS_WITHIN = 5.0  # seconds, for threads that have been told to


def load() -> None:
    """Import watchdog, before the first `FileChanges`. This alone takes logging's lock, which a fork holds.

    :raises ImportError: watchdog isn't there, or doesn't know this platform.
    """
    import logging

    import watchdog.events
    import watchdog.observers  # noqa: F401

    # watchdog logs an error if it is stopped early. Python prints those where a program has set up no logging.
    log = logging.getLogger("watchdog")
    if not log.handlers:
        log.addHandler(logging.NullHandler())


class FileChanges:
    """An observer with its threads; it runs until `stop`. A fork's child must drop it and never stop it."""

    def __init__(self, path: str, on_change: Callable[[str], None], *, recursive: bool = False) -> None:
        """
        :param path: a directory.
        :param on_change: called in a thread of watchdog's with the path of what was made, changed or removed; and with
            both of what was moved.
        :raises OSError: no inotify instance or watch is left, or there is no such directory.
        :raises RuntimeError: no thread is to be had.
        """
        from watchdog import events
        from watchdog.observers import Observer

        class Handler(events.FileSystemEventHandler):
            def on_any_event(self, event: events.FileSystemEvent) -> None:
                for path in (event.src_path, event.dest_path):
                    if path:
                        on_change(os.fsdecode(path))

        # The events of opening and closing are left out: reading a file makes them too.
        kinds: list[type[events.FileSystemEvent]] = [
            *(events.FileCreatedEvent, events.FileDeletedEvent, events.FileModifiedEvent, events.FileMovedEvent),
            *(events.DirCreatedEvent, events.DirDeletedEvent, events.DirMovedEvent),
        ]
        self._observer = Observer()
        try:
            self._observer.schedule(Handler(), path, recursive=recursive, event_filter=kinds)
            self._observer.start()
        except BaseException:
            self._observer.stop()  # in watchdog 7.1 it has a thread that reads before it is started
            raise
        finally:
            _close_on_exec()

    def is_alive(self) -> bool:
        """Whether it still sees anything: it ends with the directory."""
        return self._observer.is_alive() and all(emitter.is_alive() for emitter in tuple(self._observer.emitters))

    def stop(self) -> None:
        """End its threads, and wait a moment for them. Never call it in a thread of watchdog's, as ``on_change`` is."""
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join(_ENDS_WITHIN)


def _close_on_exec() -> None:
    """Keep commands from inheriting the inotify descriptors, which watchdog makes inheritable."""
    try:
        for name in os.listdir("/proc/self/fd"):
            try:
                if os.readlink(f"/proc/self/fd/{name}") == "anon_inode:inotify":
                    os.set_inheritable(int(name), False)
            except OSError:
                pass  # closed meanwhile
    except OSError:
        pass  # no /proc: elsewhere it watches with other means
