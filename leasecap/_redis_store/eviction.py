"""Whether the server that has a pool's keys may throw them away, which would free slots that are held."""

from __future__ import annotations

from leasecap._errors import StoreError, Unreachable
from leasecap._redis_store.script import Script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._redis_store.client import Client

# A script goes where its keys are: in a cluster INFO itself is answered by whatever node is asked.
_MEMORY = Script("memory", "#!lua flags=no-writes\nreturn {ARGV[1], redis.call('INFO', 'memory')}")


class Eviction:
    """What is known of that, for one pool."""

    def __init__(self, client: Client, key: str, path: str) -> None:
        """
        :param key: one of the pool's.
        :param path: where the pool stands, for people.
        """
        self._client = client
        self._key = key
        self._path = path
        self._trusted = ""

    def refuse(self) -> None:
        """See that it doesn't, once for each start of a server.

        :raises StoreError: if it does, or can't be asked now.
        """
        server = self._client.server_of(self._key)
        if server is not None and server.run_id == self._trusted:
            return
        try:
            run_id, about = self._client.run(_MEMORY, [self._key], [lambda at: at.run_id])
        except Unreachable:
            raise
        except StoreError:  # the user may not ask; a key that is gone is noticed by the scripts
            server = self._client.server_of(self._key)
            self._trusted = "" if server is None else server.run_id
            return
        found = dict(line.partition(":")[::2] for line in about.decode("ascii", "replace").splitlines())
        policy = found.get("maxmemory_policy", "")
        if found.get("maxmemory", "0") != "0" and policy.startswith("allkeys-"):
            raise StoreError(
                f"the server may throw away keys of the pool when its memory is full (maxmemory-policy {policy})",
                path=self._path,
                remedy="Set it to noeviction, or to one of the volatile- ones: leasecap's keys have no TTL.",
            )
        self._trusted = run_id.decode("ascii", "replace")
