"""filelock.FileLock: one holder, an OS lock, tried again every 50 ms."""

from __future__ import annotations

import os

from filelock import FileLock

from . import Limiter


class Chosen(Limiter):
    highest = 1

    def __init__(self, directory: str, limit: int) -> None:
        super().__init__(directory, limit)
        self._lock = FileLock(os.path.join(directory, "filelock"))

    def acquire(self) -> None:
        self._lock.acquire()

    def release(self) -> None:
        self._lock.release()
