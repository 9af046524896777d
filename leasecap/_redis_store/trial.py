"""A pool for a trial on a server: it has one slot, and nothing of it stays."""

from __future__ import annotations

import time
from contextlib import contextmanager

from leasecap._config.pool_name import pool_name
from leasecap._errors import StoreError
from leasecap._redis_store.client import Client
from leasecap._redis_store.pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from leasecap._config.store_address import StoreAddress


@contextmanager
def trial(address: StoreAddress, name: str, limit: int) -> Iterator[None]:
    """The pool, for the block. Nobody else may know its name.

    :raises StoreError: when it can't be made.
    """
    client = Client(address)
    pool = Pool(client, pool_name(name), time.monotonic)
    try:
        # A server that has just been started gives out no slots of a pool until all have told of theirs: here are none.
        pool.configure(limit=str(limit), closed="0", quiet="0")
        try:
            yield
        finally:
            try:
                _remove(pool)
            except StoreError:
                pass  # what is wrong with the server is told of the trial
    finally:
        client.close()


def _remove(pool: Pool) -> None:
    seen = pool.picture().seen
    for name in (*seen.queue, *seen.passed, *seen.granted, *seen.leases):  # of a process that was killed
        pool.end(name[21:37], by_holder=True)
    pool.forget()
