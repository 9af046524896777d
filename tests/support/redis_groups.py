"""Servers that belong together: a master with a replica and a Sentinel, and a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis.crc import key_slot
from redis.exceptions import ResponseError
from redis_server import PATIENCE, RedisServer, running

SLOTS = 16384
SERVICE = "main"


def until(true: Callable[[], object], what: str) -> None:
    """Return when it is true."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"never {what}"
        time.sleep(0.02)


class Watched:
    """A master and a replica, watched by a Sentinel that takes a second and a half to find a failure.

    Several Sentinels would take seconds to find each other, before each test. On a busy machine a sound master doesn't
    answer for half a second now and then: with less time it was replaced, and what had been written to it was lost.
    """

    def __init__(self, servers: list[RedisServer], sentinel: RedisServer) -> None:
        self.servers, self.sentinel = servers, sentinel

    @property
    def master(self) -> RedisServer:
        """Whom the Sentinel takes for it."""
        _, port = self.sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(server for server in self.servers if server.port == int(port))

    def url(self, user: str = "") -> str:
        return f"redis+sentinel://{user and user + '@'}127.0.0.1:{self.sentinel.port}/{SERVICE}/0"

    def await_step(self) -> None:
        """Return once the replica knows what the master has done so far."""
        master = self.master
        replica = next(server for server in self.servers if server is not master)
        offset = master.info("replication")["master_repl_offset"]
        until(lambda: int(replica.info("replication").get("slave_repl_offset", -1)) >= int(offset), "in step")

    def replace_master(self) -> RedisServer:
        """Have the other one made master, as an administrator does; the old one runs on, and isn't told for seconds."""
        before = self.master
        until(self._begins_failover, "ready for it")
        until(lambda: self.master is not before, "a new master")
        return self.master

    def _begins_failover(self) -> bool:
        try:
            self.sentinel.command("SENTINEL", "FAILOVER", SERVICE)
        except ResponseError:
            return False  # it hasn't seen yet that the replica is a good one
        return True


@contextmanager
def watched(software: str, folder: Path) -> Iterator[Watched]:
    """A `Watched` that doesn't outlive the block."""
    with ExitStack() as ending:
        at_once = ("--repl-diskless-sync-delay", "0")
        master = ending.enter_context(running(software, folder / "1", *at_once))
        following = ("--replicaof", f"127.0.0.1 {master.port}")
        replica = ending.enter_context(running(software, folder / "2", *at_once, *following))
        until(lambda: replica.info("replication")["master_link_status"] == "up", "in step")
        home = folder / "sentinel"
        home.mkdir(parents=True)
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 1",
            f"sentinel down-after-milliseconds {SERVICE} 1500",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        (home / "sentinel.conf").write_text("\n".join(lines) + "\n")
        sentinel = ending.enter_context(running(software, home, sentinel=home / "sentinel.conf"))
        until(lambda: len(sentinel.command("SENTINEL", "REPLICAS", SERVICE)) == 1, "aware of the replica")
        yield Watched([master, replica], sentinel)


class Cluster:
    """Three masters that share the slots."""

    def __init__(self, nodes: list[RedisServer]) -> None:
        self.nodes = nodes

    def owner(self, key: str) -> RedisServer:
        """The node that the nodes themselves take for the key's."""
        slot = key_slot(key.encode())
        for first, last, (_, port, *_), *_ in self.nodes[0].command("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def key_of(self, node: RedisServer, what: str = "") -> str:
        """The name of a key that it has; another one for each ``what``."""
        return next(key for n in range(1000) if self.owner(key := f"leasecap:{{{what}{n}}}:a") is node)

    def begin_move(self, key: str, to: RedisServer) -> None:
        """From here on the owner sends those who ask for keys of the slot that aren't there to ``to``."""
        slot, owner = key_slot(key.encode()), self.owner(key)
        to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", name(owner))
        owner.command("CLUSTER", "SETSLOT", slot, "MIGRATING", name(to))

    def end_move(self, key: str, to: RedisServer) -> None:
        """Move the keys, and have everybody know."""
        slot, owner = key_slot(key.encode()), self.owner(key)
        while keys := owner.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            owner.command("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
        for node in (to, owner, *self.nodes):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", name(to))


def name(node: RedisServer) -> str:
    return str(node.command("CLUSTER", "MYID"))


@contextmanager
def cluster(software: str, folder: Path) -> Iterator[Cluster]:
    """A `Cluster` that doesn't outlive the block."""
    options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no"]
    with ExitStack() as ending:
        nodes = [ending.enter_context(running(software, folder / str(number), *options)) for number in range(3)]
        share = SLOTS // 3 + 1
        for number, node in enumerate(nodes):
            node.command("CLUSTER", "ADDSLOTSRANGE", number * share, min((number + 1) * share, SLOTS) - 1)
            if number:
                nodes[0].command("CLUSTER", "MEET", "127.0.0.1", node.port)
        until(lambda: all(map(is_whole, nodes)), "whole")
        yield Cluster(nodes)


def is_whole(node: RedisServer) -> bool:
    """Whether it knows the owner of each slot."""
    said = node.command("CLUSTER", "INFO")
    return "cluster_slots_assigned:16384" in said and "cluster_state:ok" in said
