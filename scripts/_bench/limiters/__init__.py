"""What is compared: one small file each, found by its name. A peer that isn't installed is left out, with a line."""

from __future__ import annotations

import importlib

NAMES = ("leasecap", "posix_ipc", "portalocker", "mkdir_poll", "filelock_lease", "filelock_lock", "fasteners_lock")
ON_A_SERVER = ("leasecap_redis", "leasecap", "redis_blpop", "redis_lock")


class Limiter:
    """One process's handle on a cap of ``limit`` that all who use ``directory`` share.

    :cvar highest: the highest cap that it can keep; None: any.
    """

    highest: int | None = None

    def __init__(self, directory: str, limit: int) -> None:
        self.directory = directory
        self.limit = limit

    def acquire(self) -> None:
        """Wait for a slot."""
        raise NotImplementedError

    def release(self) -> None:
        """Give it back."""
        raise NotImplementedError

    @classmethod
    def prepare(cls, directory: str, limit: int) -> None:
        """Called once before any process uses it."""

    @classmethod
    def clear(cls, directory: str) -> None:
        """Called once afterwards; the directory itself is removed anyway."""


def load(name: str) -> type[Limiter]:
    """The limiter of that name.

    :raises ImportError: when the package that it stands for isn't installed.
    """
    found: type[Limiter] = importlib.import_module(f"{__name__}.{name}").Chosen
    return found
