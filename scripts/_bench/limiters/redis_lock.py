"""redis.lock, as redis-py has it: one holder, a key that expires, tried again every 100 ms, nobody renews."""

from __future__ import annotations

import os

import redis

from ..server.process import PORT
from . import Limiter

EXPIRES = 30.0  # seconds; as long as leasecap's leases last


class Chosen(Limiter):
    highest = 1

    def __init__(self, directory: str, limit: int) -> None:
        super().__init__(directory, limit)
        client = redis.Redis("127.0.0.1", int(os.environ[PORT]))
        self._lock = client.lock(os.path.basename(directory), timeout=EXPIRES)

    def acquire(self) -> None:
        self._lock.acquire()

    def release(self) -> None:
        self._lock.release()
