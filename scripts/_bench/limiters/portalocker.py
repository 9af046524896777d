"""portalocker.NamedBoundedSemaphore, as it comes: a lock file for each slot, tried again every 250 ms."""

from __future__ import annotations

import importlib
from typing import Any

from . import Limiter

portalocker: Any = importlib.import_module("portalocker")


class Chosen(Limiter):
    def __init__(self, directory: str, limit: int) -> None:
        super().__init__(directory, limit)
        self._semaphore = portalocker.NamedBoundedSemaphore(limit, name="bench", directory=directory, timeout=3600)

    def acquire(self) -> None:
        self._semaphore.acquire()

    def release(self) -> None:
        self._semaphore.release()
