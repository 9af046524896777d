"""A named POSIX semaphore: the kernel's floor. A killed holder's slot is lost for good, and nobody sees who holds."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
from typing import Any

from . import Limiter

posix_ipc: Any = importlib.import_module("posix_ipc")


def _name(directory: str) -> str:
    return f"/bench-{hashlib.sha256(directory.encode()).hexdigest()[:16]}"


class Chosen(Limiter):
    def __init__(self, directory: str, limit: int) -> None:
        super().__init__(directory, limit)
        self._semaphore = posix_ipc.Semaphore(_name(directory))

    def acquire(self) -> None:
        self._semaphore.acquire()

    def release(self) -> None:
        self._semaphore.release()

    @classmethod
    def prepare(cls, directory: str, limit: int) -> None:
        posix_ipc.Semaphore(_name(directory), posix_ipc.O_CREX, initial_value=limit).close()

    @classmethod
    def clear(cls, directory: str) -> None:
        with contextlib.suppress(posix_ipc.ExistentialError):
            posix_ipc.unlink_semaphore(_name(directory))
