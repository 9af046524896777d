"""fasteners.InterProcessLock: one holder, an OS lock, tried again every 10 to 100 ms."""

from __future__ import annotations

import importlib
import os
from typing import Any

from . import Limiter

fasteners: Any = importlib.import_module("fasteners")


class Chosen(Limiter):
    highest = 1

    def __init__(self, directory: str, limit: int) -> None:
        super().__init__(directory, limit)
        self._lock = fasteners.InterProcessLock(os.path.join(directory, "fasteners"))

    def acquire(self) -> None:
        self._lock.acquire()

    def release(self) -> None:
        self._lock.release()
