"""What doctor finds of a server."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import pytest
from places import REPOSITORY
from redis_groups import cluster, watched
from redis_pools import place
from redis_server import RedisServer, running

from leasecap._config.pool_name import pool_name
from leasecap._config.store_address import parse_address
from leasecap._doctor import proof, servers
from leasecap._doctor.check import Check, Site
from leasecap._doctor.examine import examine
from leasecap._errors import StoreError
from leasecap._redis_store import examination
from leasecap._redis_store.client import Client
from leasecap._redis_store.examination import Examination
from leasecap._redis_store.keys import pool_keys
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.rights import IN_SCRIPTS, SENT, acl_line
from leasecap._runtime import runtime
from leasecap._store.health import Finding


def look(text: str, check: str, *pools: str) -> Finding:
    """What the one check finds."""
    looked = Examination(parse_address(text), [pool_name(pool) for pool in pools])
    try:
        for name, found in looked.checks():
            if name in ("server", check):
                finding = found()
            if name == check:
                return finding
    finally:
        looked.close()
    raise AssertionError(f"no check {check}")


def test_a_server_that_can_keep_pools_has_nothing_wrong(server: RedisServer, software: str) -> None:
    looked = Examination(parse_address(server.url(db=2)), [])
    found = {name: check() for name, check in looked.checks()}
    looked.close()
    assert {name for name, finding in found.items() if finding.verdict != "ok"} == {"data"}
    assert software in found["server"].found
    assert found["data"].remedy.endswith("appendonly yes")
    assert server.info("keyspace") == {}  # it leaves nothing behind
    assert "p50" in found["round trips"].found
    assert "p99" in found["round trips"].found


def test_the_acl_line_gives_all_that_is_needed_and_no_more(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = acl_line("agent", "team")
    server.command("ACL", "SETUSER", *line.split(), ">secret")
    text = server.url(user="agent:secret", query="prefix=team", db=1)
    assert look(text, "rights").verdict == "ok"
    assert look(text, "wake-ups").verdict == "ok"
    assert look(text, "server clock").verdict == "ok"
    for right in line.split()[2:]:
        if right in ("+asking", "+select"):  # a cluster's, and another database's
            continue
        minus = f"-{right[1:]}" if right[0] == "+" else right
        reset = {"~": "resetkeys", "&": "resetchannels"}.get(right[0])
        server.command("ACL", "SETUSER", "agent", reset or minus)
        with monkeypatch.context() as patch:
            patch.setattr(examination, "_PATIENCE", 0.5)
            troubled = [name for name in ("server", "rights", "wake-ups", "server clock") if is_troubled(text, name)]
        assert troubled, right
        server.command("ACL", "SETUSER", "agent", right)
    assert look(text, "rights").verdict == "ok"


def test_the_reference_has_the_line() -> None:
    text = (REPOSITORY / "docs" / "reference.md").read_text()
    found = re.search(r"ACL SETUSER (cap on .*?)\n```", text, re.DOTALL)
    assert found
    words = found[1].replace("\\\n", " ").replace("'", "").split()
    words.remove(">PASSWORD")
    assert " ".join(words) == acl_line("cap", "leasecap")


def is_troubled(text: str, check: str) -> bool:
    try:
        return look(text, check).verdict != "ok"
    except StoreError:
        return True


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that don't come back are not waited for as long as in life."""
    monkeypatch.setattr(examination, "_PATIENCE", 5.0)


def test_rights_that_are_missing_are_named_with_the_line_that_gives_them(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", *acl_line("agent", "leasecap").split(), ">secret", "-zadd", "-smembers")
    finding = look(server.url(user="agent:secret"), "rights")
    assert (finding.verdict, finding.found) == ("bad", "the user agent may not: smembers, zadd")
    assert shlex.split(finding.remedy.splitlines()[1])[3:] == acl_line("agent", "leasecap").split()
    assert "'&leasecap:*'" in finding.remedy  # it goes into a shell
    assert server.info("keyspace") == {}


def test_each_command_that_is_sent_is_among_the_rights() -> None:
    folder = Path(examination.__file__).parent
    code = "".join(path.read_text() for path in folder.rglob("*.py") if path.name != "examination.py")
    in_scripts = {found.lower() for found in re.findall(r"call\('([A-Z]+)'", code)}
    sent = {found.lower() for found in re.findall(r"""\bcommand\(\s*"([A-Z]+)\"""", code)}
    assert in_scripts <= set(IN_SCRIPTS)
    assert sent
    assert sent <= set(SENT)


@pytest.mark.parametrize(("policy", "verdict"), [("allkeys-lru", "bad"), ("volatile-lru", "ok"), ("noeviction", "ok")])
def test_eviction_of_any_key_is_found(server: RedisServer, policy: str, verdict: str) -> None:
    server.command("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", policy)
    assert look(server.url(), "memory").verdict == verdict
    server.command("CONFIG", "SET", "maxmemory", "0")
    assert look(server.url(), "memory").verdict == "ok"


def test_memory_that_is_nearly_full_is_found(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxmemory", str(int(server.info("memory")["used_memory"]) + 50000))
    assert look(server.url(), "memory").verdict == "note"


def test_an_append_only_file_is_found(software: str, tmp_path: Path) -> None:
    with running(software, tmp_path / "server", "--appendonly", "yes") as server:
        assert look(server.url(), "data").verdict == "ok"


def test_replication_is_found(software: str, tmp_path: Path) -> None:
    with watched(software, tmp_path) as group:
        assert look(group.url(), "replication").verdict == "note"
        assert look(group.servers[0].url(), "replication") == Finding("ok", "1 replica")
        group.master.command("CONFIG", "SET", "min-replicas-to-write", "1")
        assert look(group.url(), "replication").verdict == "ok"
        assert look(group.servers[1].url(), "replication").verdict == "bad"
        assert "found by Sentinels" in look(group.url(), "server").found


def test_doctor_tells_all_of_it(server: RedisServer, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(f'[pools.p]\nlimit = 1\nstore = "{server.url()}"\n')
    monkeypatch.setenv("LEASECAP_STORE", server.url(db=1))
    names = ("server", "rights", "round trips", "wake-ups", "server proof")
    found = [check for check in examine() if check.name in names]
    assert [check.name for check in found] == [*names] * 2
    assert [check for check in found if check.verdict != "ok"] == []
    assert [server.url(db) in check.found for db, check in ((1, found[0]), (0, found[5]))] == [True, True]


def test_doctor_tells_of_a_server_that_is_away_once(server: RedisServer, root: Path) -> None:
    server.kill()
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(f'[pools.p]\nlimit = 1\nstore = "{server.url(user=":hunter2")}"\n')
    found = [check for check in examine() if "127.0.0.1" in check.found and check.name != "pools"]
    assert [(check.name, check.verdict) for check in found] == [("server", "bad")]
    assert "connection refused" in found[0].found
    assert "hunter2" not in found[0].found + found[0].remedy


def proof_on(text: str) -> Check:
    return proof.server_proof(parse_address(text))


def test_two_processes_prove_the_cap_on_a_server_and_leave_nothing(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.command("ACL", "SETUSER", *acl_line("agent", "team").split(), ">se:cret")
    url = server.url(user="agent:se%3Acret", query="prefix=team", db=1)
    found = proof_on(url)
    assert (found.name, found.verdict) == ("server proof", "ok"), found
    assert "never at once (a server); handed on in" in found.found
    monkeypatch.setattr(proof, "LIMIT", 2)
    found = proof_on(url)
    assert (found.verdict, "at the same time" in found.found) == ("bad", True)
    assert "root" not in found.remedy
    assert server.info("keyspace") == {}


def test_pool_of_a_proof_goes_though_its_process_was_killed(server: RedisServer) -> None:
    address = parse_address(server.url())
    with runtime.server_trial(address, "a-trial", 1):
        client = Client(address)
        place(Pool(client, pool_name("a-trial"), time.monotonic), 1)
        place(Pool(client, pool_name("a-trial"), time.monotonic), 2)
        client.close()
    assert server.info("keyspace") == {}


def test_nothing_is_proved_on_a_server_that_cannot_keep_pools(
    server: RedisServer, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEASECAP_STORE", server.url())
    server.command("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
    found = {check.name: check.verdict for check in servers.servers(Site(str(root), "default", None))}
    assert found["memory"] == "bad"
    assert "server proof" not in found


def test_each_node_of_a_cluster_that_has_a_pool_is_looked_at(software: str, tmp_path: Path) -> None:
    with cluster(software, tmp_path) as nodes:
        first, _, third = nodes.nodes
        names = [pool_name(f"pool-{number}") for number in range(100)]
        here, there = (
            next(name.text for name in names if nodes.owner(pool_keys("leasecap", name)[0]) is node)
            for node in (first, third)
        )
        third.command("CONFIG", "SET", "maxmemory", "100mb")
        third.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        first.command("CONFIG", "SET", "appendonly", "yes")
        assert look(first.url(), "memory", here).verdict == look(first.url(), "data", here).verdict == "ok"
        found = look(first.url(), "memory", here, there)
        assert found.verdict == "bad" and found.found.endswith(f"evicts any key (the node that has the pool {there})")
        assert look(first.url(), "data", here, there).verdict == "note"
