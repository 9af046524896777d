"""filelock.SoftFileLease: one holder, a record and a heartbeat, no OS lock: the nearest thing to a lease of ours."""

from __future__ import annotations

import importlib
import os
from typing import Any

from . import Limiter

filelock: Any = importlib.import_module("filelock")


class Chosen(Limiter):
    highest = 1

    def __init__(self, directory: str, limit: int) -> None:
        super().__init__(directory, limit)
        self._lease = filelock.SoftFileLease(os.path.join(directory, "lease"))

    def acquire(self) -> None:
        self._lease.acquire()

    def release(self) -> None:
        self._lease.release()
