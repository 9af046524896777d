"""leasecap, through its public API, with the pool on a server that knows its limit."""

from __future__ import annotations

import os
import time

import leasecap

# What redis-py takes to load is no part of the work: the peers have loaded it by now as well.
import leasecap._redis_store.own_stores
from leasecap._config.pool_name import pool_name
from leasecap._config.store_address import parse_address
from leasecap._redis_store.client import Client
from leasecap._redis_store.pool import Pool

from ..server.process import PORT
from . import leasecap as plain


def _url(directory: str) -> str:
    """A store of its own."""
    return f"redis://127.0.0.1:{os.environ[PORT]}/0?prefix={os.path.basename(directory)}"


class Chosen(plain.Chosen):
    def __init__(self, directory: str, limit: int) -> None:
        super().__init__(directory, limit)
        os.environ["LEASECAP_STORE"] = _url(directory)

    def acquire(self) -> None:
        self._lease = leasecap.acquire("bench")

    @classmethod
    def prepare(cls, directory: str, limit: int) -> None:
        """Set the limit, and don't wait for those who might hold a slot that a server so young has forgotten."""
        client = Client(parse_address(_url(directory)))
        Pool(client, pool_name("bench"), time.monotonic).configure(limit=str(limit), closed="0", quiet="0")
        client.close()
