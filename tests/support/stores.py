"""Where the pools of a contract test are kept: in files with either kind of lock, or on a server."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from leasecap._config.store_address import parse_address
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer

FILES, DIRECTORY, MEMORY = "files", "directory", "memory"

_prefixes = itertools.count()


class Store:
    """A store that the pools of one test have for themselves.

    :ivar kind: files, directory (the same with a lock directory), redis or valkey.
    :ivar lock: what the pools' ``lock`` is set to; a server has none.
    :ivar environment: what names the store to every process of the test.
    """

    def __init__(self, kind: str = FILES, server: RedisServer | None = None) -> None:
        self.kind = kind
        self.lock = "directory" if kind == DIRECTORY else "os"
        self.url = server.url(query=f"prefix=t{os.getpid()}.{next(_prefixes)}") if server else ""
        self._hosts = parse_address(self.url).hosts if server else ()
        self.environment = {"LEASECAP_STORE": self.url} if server else {}

    @property
    def is_server(self) -> bool:
        return bool(self.url)

    def publish(self, root: Path) -> None:
        """Make what config.toml says of its pools everybody's, as `leasecap limit` and `policy push` do.

        A server that has just been started waits for those who may hold a slot: nobody does.
        """
        if not self.is_server:
            return  # the file may be one that nobody can read
        opened = runtime.root(str(root))
        for settings in (opened.pool(name.text) for name in opened.config.pools):
            if settings.store is not None and settings.store.hosts == self._hosts:
                store = runtime.servers().pool(settings)
                store.push_policy()
                store.set_limit(settings.limit)
                store.pool.configure(closed="0", quiet="0")


def leave_servers() -> None:
    """End what this process has on servers: one that runs many tests would run out of descriptors."""
    servers, runtime._servers = runtime._servers, None
    for store in servers._stores.values() if servers is not None else ():
        store._waiting.clear()
        store.rest()
        store.client.close()
