"""A process's watch on its wake-up, and what it hears there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from leasecap._file_store.wakeups import Watch
from leasecap._host.directory import Directory

PROCESS = "1" * 12


class Listening:
    """A watch, and what was said to it."""

    def __init__(self, root: Path) -> None:
        self.root = Directory(str(root))
        self.on_wake: Callable[[], None] = lambda: None
        self.said: list[bytes] = []
        self.watch = Watch(self.root, PROCESS, self.receive)

    def receive(self, names: bytes) -> None:
        if names.strip():
            self.said.append(names)
            self.on_wake()

    def ring(self) -> None:
        self.root.notify(f"wake/{PROCESS}/.wakeup", b"a ticket\n")
