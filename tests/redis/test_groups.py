"""Servers that belong together: Sentinels that make another one the master, a cluster that moves keys."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from holders import HOLD, give_back, hold, queue, ready
from redis.crc import key_slot
from redis_groups import Cluster, Watched, cluster, name, until, watched
from redis_pools import RECORD, known_pool, place, settle, token
from redis_server import RedisServer, free_port

from leasecap._config.pool_name import pool_name
from leasecap._config.store_address import parse_address
from leasecap._doctor import proof
from leasecap._errors import StoreError, Unreachable
from leasecap._feedback import adaptive
from leasecap._feedback.histogram import histogram
from leasecap._feedback.latency import Kind, Row
from leasecap._liveness.record import decode_record
from leasecap._redis_store.client import Client
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.script import Script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team

COUNT = Script("count", "#!lua\nreturn {redis.call('INCR', KEYS[1]), ARGV[1]}")
KEY = "leasecap:{x}:a"


@pytest.fixture(scope="module")
def group(software: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One that several tests use: they don't end any of it."""
    with watched(software, tmp_path_factory.mktemp("group")) as group:
        yield group


@pytest.fixture
def own_group(software: str, tmp_path: Path) -> Iterator[Watched]:
    with watched(software, tmp_path) as group:
        yield group


def test_the_master_is_found_by_its_sentinels(group: Watched) -> None:
    client = Client(parse_address(group.url()))
    assert client.run(COUNT, [KEY], [1]) == [1, b"1"]
    assert client.run(COUNT, [KEY], [2]) == [2, b"2"]
    client.close()


def test_a_sentinel_that_is_gone_is_passed_over(group: Watched) -> None:
    client = Client(parse_address(group.url().replace("//", f"//127.0.0.1:{free_port()},")))
    assert client.run(COUNT, ["leasecap:{gone}:a"], [1]) == [1, b"1"]
    client.close()


def test_lease_outlives_its_master_and_its_slot_stays_taken(own_group: Watched, team: Team) -> None:
    """redisson#2669: after a failover nobody got a slot any more, or everybody did."""
    group = own_group
    team.configure(f'[pools.p]\nstore = "{group.url()}"\nlimit = 1\n')
    client = Client(parse_address(group.url()))
    pool = Pool(client, pool_name("p"), time.monotonic)
    settle(pool, ttl=30)  # more than it takes to make a new master
    holder, waiter = team.start(HOLD, "holder"), team.start(HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    first = client.run(COUNT, [KEY], [lambda at: at.run_id])[1].decode()
    group.await_step()  # what a replica doesn't know yet is `test_promotion`'s
    group.master.kill()
    run_id = client.run(COUNT, [KEY], [lambda at: at.run_id], within=20)[1].decode()
    assert run_id != first and run_id == group.master.info("server")["run_id"]
    until(lambda: pool.picture().seen.closed_for == 0, "open again")
    assert len(pool.picture().seen.leases) == 1
    give_back(holder)
    waiter.expect("HELD")
    assert team.referee.peak({"waiter": time.monotonic_ns()}) == 1
    client.close()


def test_a_master_that_is_replaced_while_it_runs_is_left_at_once(group: Watched) -> None:
    client = Client(parse_address(group.url()))
    client.run(COUNT, [KEY], [1])
    after = group.replace_master()
    until(lambda: time.monotonic() >= client._route.ask_at, "due")
    assert client.run(COUNT, [KEY], [lambda at: at.run_id], within=5)[1].decode() == after.info("server")["run_id"]
    client.close()


def test_a_service_that_the_sentinels_do_not_know_is_an_error(group: Watched) -> None:
    with pytest.raises(StoreError, match="no Sentinel knows a master called other"):
        Client(parse_address(group.url().replace("/main/", "/other/"))).run(COUNT, [KEY], [1])


@pytest.fixture(scope="module")
def nodes(software: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One that several tests use: they don't end any of it."""
    with cluster(software, tmp_path_factory.mktemp("nodes")) as nodes:
        yield nodes


@pytest.fixture
def own_nodes(software: str, tmp_path: Path) -> Iterator[Cluster]:
    with cluster(software, tmp_path) as nodes:
        yield nodes


def test_all_keys_of_a_pool_lie_on_one_node_whatever_is_done_with_it(nodes: Cluster) -> None:
    """PyrateLimiter#151: CROSSSLOT, since a script's keys lay on several nodes."""
    record = decode_record(RECORD)
    assert record is not None
    client = Client(parse_address(nodes.nodes[2].url()))
    for number in range(6):  # on different nodes
        pool = known_pool(client, name=f"pool-{number}")
        holder, waiter = place(pool, 1, agent="agent"), place(pool, 2, process=2, limit=3)
        assert place(pool, 3, lenders=(1,)).state == "held"
        assert pool.renew([holder.name], [waiter.name]) == ("kept", "kept")
        assert pool.describe(token(1), record)
        pool.note_answer(token(1))
        assert pool.change_feedback(lambda state, now: adaptive.paused(state, now, 60, "a test"))
        assert pool.change_feedback(lambda state, now: adaptive.resumed(state))
        pool.wake_all()
        assert len(pool.to_watch((), holders=True, waiting=0)[0]) == len(pool.picture().seen.leases) == 2
        assert pool.look(token(2)).state == "queued"
        for lease in (1, 3):
            assert pool.end(token(lease), by_holder=True)
        assert pool.withdraw(token(2)).state == "held"
        assert pool.end(token(2), by_holder=False)
        assert pool.forget() == "forgotten"
    client.close()


def test_each_pool_of_a_cluster_is_found_from_any_node(nodes: Cluster) -> None:
    keys = [nodes.key_of(node, "found") for node in nodes.nodes]
    for node in nodes.nodes:
        client = Client(parse_address(node.url()))
        for key in keys:
            client.run(COUNT, [key], [1])
        assert client.server is not None
        assert client.server.is_cluster
        client.close()
    assert [nodes.owner(key).command("GET", key) for key in keys] == ["3"] * 3


def test_a_pool_that_is_moved_to_another_node_is_followed_under_load(nodes: Cluster) -> None:
    source, target = nodes.nodes[0], nodes.nodes[1]
    key, stopping = nodes.key_of(source, "moved"), threading.Event()
    client = Client(parse_address(nodes.nodes[2].url()))
    counts: list[int] = []

    def load() -> None:
        while not stopping.is_set():
            counts.append(client.run(COUNT, [key], [1], within=10)[0])

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        await_count(counts, 20)
        nodes.begin_move(key, target)
        await_count(counts, 40)
        nodes.end_move(key, target)
        await_count(counts, 60)
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert sorted(counts) == list(range(1, len(counts) + 1))
    assert target.command("GET", key) == str(len(counts))
    client.close()


def await_count(counts: list[int], more: int) -> None:
    until(lambda: len(counts) >= more, "counted")


def test_nodes_that_name_each_other_are_asked_again(nodes: Cluster) -> None:
    source, target = nodes.nodes[1], nodes.nodes[0]
    key = nodes.key_of(source, "disputed")
    client = Client(parse_address(target.url()))
    source.command("CLUSTER", "SETSLOT", key_slot(key.encode()), "NODE", name(target))
    with pytest.raises(Unreachable, match="don't agree on which one has the pool's keys"):
        client.run(COUNT, [key], [1])
    agree = threading.Timer(0.1, nodes.end_move, (key, target))
    agree.start()
    assert client.run(COUNT, [key], [1], within=20) == [1, b"1"]
    agree.join()
    client.close()


def test_a_pool_is_begun_where_its_slot_is_being_moved_to(nodes: Cluster) -> None:
    source, target = nodes.nodes[0], nodes.nodes[1]
    key = nodes.key_of(source, "begun")
    nodes.begin_move(key, target)
    client = Client(parse_address(source.url()))
    assert client.run(COUNT, [key], [1]) == [1, b"1"]  # by ASK: the key isn't there yet
    assert client.run(COUNT, [key], [1]) == [2, b"1"]
    nodes.end_move(key, target)
    assert client.run(COUNT, [key], [1]) == [3, b"1"]
    client.close()


def evict(node: RedisServer, policy: str) -> None:
    node.command("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", policy)


def test_pool_is_refused_where_its_own_node_may_throw_keys_away(own_nodes: Cluster) -> None:
    asked, other = own_nodes.nodes[:2]
    client = Client(parse_address(asked.url()))
    found = (known_pool(client, name=f"pool-{number}") for number in range(100))
    pool = next(pool for pool in found if own_nodes.owner(pool._keys[0]) is other)
    evict(asked, "allkeys-lru")
    assert place(pool, 1).state == "held"  # none of its keys is there
    evict(asked, "noeviction")
    evict(other, "allkeys-lru")
    with pytest.raises(StoreError, match="maxmemory-policy allkeys-lru"):
        place(known_pool(client, name=pool.name.text), 3)
    client.close()


def test_another_database_than_0_is_refused_by_a_cluster(nodes: Cluster) -> None:
    if nodes.nodes[0].software == "valkey":
        pytest.skip("Valkey from 9.0 on has several databases in a cluster")
    with pytest.raises(StoreError, match="is a cluster, which has one database"):
        Client(parse_address(nodes.nodes[0].url(db=1))).run(COUNT, [KEY], [1])


def test_a_node_that_is_gone_leaves_the_pools_of_the_others(own_nodes: Cluster) -> None:
    key = own_nodes.key_of(own_nodes.nodes[1])
    client = Client(parse_address(own_nodes.nodes[0].url()))
    assert client.run(COUNT, [key], [1]) == [1, b"1"]
    own_nodes.nodes[0].kill()
    assert client.run(COUNT, [key], [1]) == [2, b"1"]
    client.close()


def test_any_node_that_the_address_names_may_be_away(own_nodes: Cluster) -> None:
    key = own_nodes.key_of(own_nodes.nodes[2])
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in own_nodes.nodes)
    client, other = (Client(parse_address(f"redis://{hosts}")) for _ in range(2))
    assert client.run(COUNT, [key], [1]) == [1, b"1"]
    for number, node in enumerate(own_nodes.nodes[:2], 2):
        node.kill()
        assert client.run(COUNT, [key], [1]) == [number, b"1"]
    assert other.run(COUNT, [key], [1]) == [4, b"1"]  # by one that has asked none of them before
    client.close()
    other.close()


def test_several_servers_that_are_no_cluster_are_refused(server: RedisServer) -> None:
    with pytest.raises(StoreError, match="is no node of a cluster") as caught:
        Client(parse_address(f"redis://127.0.0.1:{server.port},127.0.0.1:1")).run(COUNT, [KEY], [1], within=20)
    assert "Sentinels" in caught.value.remedy


def test_cap_is_proved_in_a_cluster_and_nothing_of_a_forgotten_pool_stays(own_nodes: Cluster) -> None:
    address = parse_address(own_nodes.nodes[0].url())
    assert proof.server_proof(address).verdict == "ok"
    client = Client(address)
    for letter in ("a", "b", "c", "d"):  # of several nodes
        pool = Pool(client, pool_name(letter), time.monotonic)
        pool.configure(limit="1")
        found = {Kind("opus", True): Row(histogram([1.0]), histogram([]), False)}
        assert pool.latency.add("a process", 1, 0, found) == found
        assert pool.forget() == "forgotten"
    client.close()
    assert [node.command("DBSIZE") for node in own_nodes.nodes] == [0, 0, 0]
