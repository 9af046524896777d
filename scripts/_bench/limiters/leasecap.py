"""leasecap, through its public API."""

from __future__ import annotations

import os

import leasecap

from . import Limiter


class Chosen(Limiter):
    def __init__(self, directory: str, limit: int) -> None:
        super().__init__(directory, limit)
        os.environ["LEASECAP_HOME"] = os.path.join(directory, "root")

    def acquire(self) -> None:
        self._lease = leasecap.acquire("bench", limit=self.limit)

    def release(self) -> None:
        self._lease.release()
