"""The servers on which caps are shared, and what can be done to them without breaking what is promised.

Nothing keeps a holder from the server for as long as its time, nor from the one that has forgotten it for as long as
that one waits for holders: beyond that at most N isn't promised.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import ConnectionError as NoConnection
from redis_groups import Cluster, Watched, cluster, until, watched
from redis_server import running

from _machines.machines import HUB, Machines
from leasecap._config.pool_name import pool_name
from leasecap._redis_store.keys import pool_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Protocol

    from redis_server import RedisServer

    class Outage(Protocol):
        """While in it nobody can be granted anything."""

        def __call__(self) -> AbstractContextManager[None]: ...

    class Fault(Protocol):
        """Does something to the servers, and undoes it."""

        __name__: str

        def __call__(self, chance: random.Random, outage: Outage) -> None: ...


TTL = 6.0
"""Seconds without a renewal after which an entry ends."""

STOPS = 0.1, 0.5
"""Seconds for which a process may be stopped: with the time between two renewals that is below the wait for holders."""


class Scene:
    """Servers, and those who use them.

    :ivar url: the store's address, as the processes have it.
    :ivar own_url: the same, as it leads there from here.
    :ivar faults: what can be done to the servers, by name. Each undoes it, and returns then.
    :ivar machines: what to put before a command so that it runs on one or another machine.
    """

    def __init__(
        self,
        servers: Sequence[RedisServer],
        url: str,
        faults: Sequence[Fault],
        machines: Machines | None = None,
        own_url: str = "",
    ) -> None:
        self._servers, self._machines = servers, machines
        self.url, self.own_url = url, own_url or url
        self.faults = {fault.__name__: fault for fault in faults}
        self.machines = [[]] if machines is None else [machines.under(name) for name in machines.names]

    def pids(self) -> set[int]:
        """The processes that the scene consists of."""
        servers = {server.process.pid for server in self._servers if server.process is not None}
        return servers | (set() if self._machines is None else self._machines.pids())


class _One:
    """One server. What it was told before anybody used it, it knows whenever it is started."""

    def __init__(self, server: RedisServer, limits: Mapping[str, int]) -> None:
        self.server = server
        set_up(server, limits)
        server.command("SAVE")  # it reads that, and nothing newer, if it has no append-only file

    def killed(self, chance: random.Random, outage: Outage) -> None:
        with outage():
            self.server.kill()
            time.sleep(chance.uniform(0, 1))
            self.server.start()

    def ended(self, chance: random.Random, outage: Outage) -> None:
        with outage():
            self.server.stop()
            self.server.start()

    def frozen(self, chance: random.Random, outage: Outage) -> None:
        freeze(self.server, chance.uniform(0.2, 1.5), outage)

    def connections_dropped(self, chance: random.Random, outage: Outage) -> None:
        with outage():
            for kind in ("normal", "pubsub"):
                try:
                    self.server.command("CLIENT", "KILL", "TYPE", kind)
                except NoConnection:
                    pass  # it was our own

    def scripts_flushed(self, chance: random.Random, outage: Outage) -> None:
        self.server.command("SCRIPT", "FLUSH")


def freeze(server: RedisServer, seconds: float, outage: Outage) -> None:
    with outage():
        server.freeze()
        time.sleep(seconds)
        server.thaw()


def set_up(server: RedisServer, limits: Mapping[str, int]) -> None:
    """Set the pools' limits and times, past the code under test: a new server must know them before anybody asks."""
    for pool, limit in limits.items():
        server.command("HSET", key_of(pool), "limit", limit, "ttl", int(TTL * 1000))


def key_of(pool: str) -> str:
    return pool_keys("leasecap", pool_name(pool))[0]


@contextmanager
def one_server(software: str, folder: Path, limits: Mapping[str, int], appendonly: str) -> Iterator[Scene]:
    """A server that keeps its data over a restart, or forgets all."""
    with running(software, folder, "--appendonly", appendonly, "--appendfsync", "always") as server:
        one = _One(server, limits)
        faults = (one.killed, one.ended, one.frozen, one.connections_dropped, one.scripts_flushed)
        yield Scene([server], server.url(), faults)


@contextmanager
def keeps(software: str, folder: Path, limits: Mapping[str, int]) -> Iterator[Scene]:
    with one_server(software, folder, limits, "yes") as scene:
        yield scene


@contextmanager
def forgets(software: str, folder: Path, limits: Mapping[str, int]) -> Iterator[Scene]:
    with one_server(software, folder, limits, "no") as scene:
        yield scene


class _Group:
    """A master and a replica that a Sentinel watches."""

    def __init__(self, group: Watched) -> None:
        self.group = group

    def master_killed(self, chance: random.Random, outage: Outage) -> None:
        before = self.group.master
        with outage():
            before.kill()
            until(lambda: self.group.master is not before, "a new master")
        before.start()
        # The Sentinel would tell it whom to follow now, some seconds later.
        before.command("REPLICAOF", "127.0.0.1", self.group.master.port)
        until(lambda: before.info("replication").get("master_link_status") == "up", "in step")

    def master_replaced(self, chance: random.Random, outage: Outage) -> None:
        before = self.group.master
        with outage():
            self.group.replace_master()
        before.command("REPLICAOF", "127.0.0.1", self.group.master.port)
        until(lambda: before.info("replication").get("master_link_status") == "up", "in step")

    def master_frozen(self, chance: random.Random, outage: Outage) -> None:
        freeze(self.group.master, 0.3, outage)  # for too short a time to be replaced


@contextmanager
def sentinel(software: str, folder: Path, limits: Mapping[str, int]) -> Iterator[Scene]:
    with watched(software, folder) as watched_group:
        group = _Group(watched_group)
        set_up(watched_group.master, limits)
        servers = [*watched_group.servers, watched_group.sentinel]
        yield Scene(servers, watched_group.url(), (group.master_killed, group.master_replaced, group.master_frozen))


class _Nodes:
    """A cluster of three."""

    def __init__(self, nodes: Cluster, limits: Mapping[str, int]) -> None:
        self.nodes, self.limits = nodes, limits

    def slot_moved(self, chance: random.Random, outage: Outage) -> None:
        key = key_of(chance.choice(list(self.limits)))
        owner = self.nodes.owner(key)
        to = chance.choice([node for node in self.nodes.nodes if node is not owner])
        with outage():
            self.nodes.begin_move(key, to)
            time.sleep(chance.uniform(0, 0.5))
            self.nodes.end_move(key, to)

    def node_frozen(self, chance: random.Random, outage: Outage) -> None:
        freeze(chance.choice(self.nodes.nodes), 0.5, outage)

    def scripts_flushed(self, chance: random.Random, outage: Outage) -> None:
        for node in self.nodes.nodes:
            node.command("SCRIPT", "FLUSH")


@contextmanager
def three_nodes(software: str, folder: Path, limits: Mapping[str, int]) -> Iterator[Scene]:
    with cluster(software, folder) as found:
        nodes = _Nodes(found, limits)
        for pool, limit in limits.items():
            set_up(found.owner(key_of(pool)), {pool: limit})
        yield Scene(found.nodes, found.nodes[2].url(), (nodes.slot_moved, nodes.node_frozen, nodes.scripts_flushed))


class _Cables:
    """Two machines and a server, 20 ms apart."""

    def __init__(self, machines: Machines) -> None:
        self.machines = machines

    def cable_pulled(self, chance: random.Random, outage: Outage) -> None:
        name = chance.choice(self.machines.names)
        with outage():
            self.machines.pull(name)
            # Who has begun on a grant's message has it for `taking_up.STANDS_FOR` if nothing is answered: with the
            # time until a call gives up, and TCP's pauses, longer than this is too long.
            time.sleep(chance.uniform(0.2, 1))
            self.machines.plug(name)


@contextmanager
def network(software: str, folder: Path, limits: Mapping[str, int]) -> Iterator[Scene]:
    """:raises NoMachinesError: when this system can't have them."""
    with Machines("one", "two") as machines:
        under = machines.under("hub")
        reached = ("--bind", HUB, "--protected-mode", "no")
        with running(software, folder, *reached, "--appendonly", "yes", under=under) as server:
            host = machines.delay(20, server.port)
            one, cables = _One(server, limits), _Cables(machines)
            faults = (cables.cable_pulled, one.killed, one.frozen, one.connections_dropped)
            yield Scene([server], f"redis://{host}:{server.port}/0", faults, machines, f"unix://{server.socket}")


SCENES = {"keeps": keeps, "forgets": forgets, "sentinel": sentinel, "cluster": three_nodes, "network": network}
