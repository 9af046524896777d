"""A semaphore as often written for Redis: N tokens in a list, BLPOP and RPUSH. A killed holder's token is lost."""

from __future__ import annotations

import os

import redis

from ..server.process import PORT
from . import Limiter


def _client() -> redis.Redis:
    # Who waits may wait for long: by default redis-py gives up after some seconds.
    return redis.Redis("127.0.0.1", int(os.environ[PORT]), socket_timeout=None)


class Chosen(Limiter):
    def __init__(self, directory: str, limit: int) -> None:
        super().__init__(directory, limit)
        self._key = os.path.basename(directory)
        self._client = _client()

    def acquire(self) -> None:
        self._client.blpop([self._key])

    def release(self) -> None:
        self._client.rpush(self._key, "token")

    @classmethod
    def prepare(cls, directory: str, limit: int) -> None:
        with _client() as client:
            client.rpush(os.path.basename(directory), *["token"] * limit)
