"""A replica that lags behind is promoted: what it hasn't seen is counted again before it grants anything."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from holders import HOLD, give_back, hold, queue, ready
from redis_pools import settle
from redis_server import RedisServer, running
from referee import Team, until
from severed_link import SeveredLink

from leasecap._config.pool_name import pool_name
from leasecap._config.store_address import parse_address
from leasecap._redis_store.client import Client
from leasecap._redis_store.pool import Pool

pytestmark = pytest.mark.redis

LIMIT, TTL = 4, 10.0


class Pair:
    """A master, a replica that follows it over a link which can be severed, and the address that leads to the master.

    :ivar pool: the pool "p" on the server to which the address leads.
    """

    def __init__(self, master: RedisServer, replica: RedisServer, between: SeveredLink, address: SeveredLink) -> None:
        self._master, self._replica, self._between, self._address = master, replica, between, address
        self.url = f"redis://127.0.0.1:{address.port}/0"
        self.client = Client(parse_address(self.url))
        self.pool = Pool(self.client, pool_name("p"), time.monotonic)

    def sever(self) -> None:
        """From now on the replica hears nothing of what the master does, and neither of them knows."""
        offset = self._master.info("replication")["master_repl_offset"]
        until(lambda: int(self._replica.info("replication")["slave_repl_offset"]) >= int(offset), "in step")
        self._between.swallow()

    def promote(self) -> None:
        """The master is gone, and the address leads to what was its replica."""
        self._master.kill()
        self._replica.command("REPLICAOF", "NO", "ONE")
        self._address.lead_to(self._replica.port)

    def entries(self) -> tuple[int, int]:
        """How many hold, and how many wait."""
        seen = self.pool.picture().seen
        return len(seen.leases) + len(seen.granted), len(seen.queue)


@contextmanager
def pair_of(software: str, folder: Path) -> Iterator[Pair]:
    """A `Pair` that doesn't outlive the block."""
    with ExitStack() as ending:
        master = ending.enter_context(running(software, folder / "master", "--repl-diskless-sync-delay", "0"))
        between = ending.enter_context(SeveredLink(master.port))
        following = ("--replicaof", f"127.0.0.1 {between.port}")
        replica = ending.enter_context(running(software, folder / "replica", *following))
        until(lambda: replica.info("replication")["master_link_status"] == "up", "in step")
        pair = Pair(master, replica, between, ending.enter_context(SeveredLink(master.port)))
        ending.callback(pair.client.close)
        yield pair


@pytest.fixture
def pair(software: str, tmp_path: Path, team: Team) -> Iterator[Pair]:
    with pair_of(software, tmp_path) as pair:
        team.configure(f'[pools.p]\nstore = "{pair.url}"\n')
        settle(pair.pool, limit=LIMIT, ttl=TTL)
        yield pair


def test_four_of_four_hold_after_a_replica_that_knew_two_is_promoted(pair: Pair, team: Team) -> None:
    """redisson#2669, and what a prototype without the grace did: six of four."""
    workers = [team.start(HOLD, number) for number in range(6)]
    ready(*workers)
    for worker in workers[:2]:
        hold(worker)
    pair.sever()
    for worker in workers[2:4]:
        hold(worker)
    queue(team, *workers[4:])
    pair.promote()
    until(lambda: pair.pool.picture().seen.closed_for > 0, "the new master is closed for a while")
    until(lambda: pair.entries() == (4, 2), "all are counted again, and those who wait wait on")
    until(lambda: pair.pool.picture().seen.closed_for == 0, "it is over")
    assert pair.entries() == (4, 2)
    for holder, waiter in zip(workers[1:3], workers[4:], strict=True):
        give_back(holder)  # one of those that the replica knew, and one that it didn't
        waiter.expect("HELD")
    for worker in (workers[0], *workers[3:]):
        give_back(worker)
    assert team.referee.peak() == LIMIT


def test_slot_that_was_given_back_unseen_is_free_after_its_ttl(pair: Pair, team: Team) -> None:
    workers = [team.start(HOLD, number) for number in range(5)]
    ready(*workers)
    for worker in workers[:4]:
        hold(worker)
    pair.sever()
    give_back(workers[0])
    began = time.monotonic()
    pair.promote()
    workers[4].tell()
    workers[4].expect("HELD")
    assert time.monotonic() - began > TTL / 2  # the new master took it for held
    for worker in workers[1:]:
        give_back(worker)
    assert team.referee.peak() == LIMIT
