"""Scripts on real servers, through everything that can happen to a connection."""

from __future__ import annotations

import os
import random
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from hung_server import HungServer
from redis_server import RedisServer, running

from leasecap._config.store_address import parse_address
from leasecap._errors import ConfigError, StoreError, Unreachable
from leasecap._redis_store import connections
from leasecap._redis_store.client import Client
from leasecap._redis_store.script import Script

COUNT = Script("count", "#!lua flags=allow-oom\nreturn {redis.call('INCR', KEYS[1]), ARGV[1]}")
ONCE = Script(
    "once",
    "#!lua\nif redis.call('SETNX', KEYS[2], 1) == 1 then redis.call('INCR', KEYS[1]) end\n"
    "return tonumber(redis.call('GET', KEYS[1]))",
)
KEY = "leasecap:{x}:count"


@pytest.fixture(autouse=True)
def patient() -> None:
    """Time-outs are as in life: they are what is tried here."""


def test_a_script_runs_and_its_arguments_arrive(client: Client) -> None:
    assert client.run(COUNT, [KEY], ["a\nb"]) == [1, b"a\nb"]
    assert client.run(COUNT, [KEY], [7]) == [2, b"7"]
    assert client.run(COUNT, [KEY], [b"\xff"]) == [3, b"\xff"]


def test_a_script_is_sent_whole_only_where_it_is_not_known(client: Client, server: RedisServer) -> None:
    """PyrateLimiter#182: NOSCRIPT from a server that was started anew failed each call."""
    for _ in range(3):
        client.run(COUNT, [KEY], [1])
    assert sent_whole(server) == 1
    server.command("SCRIPT", "FLUSH")
    assert client.run(COUNT, [KEY], [1]) == [4, b"1"]
    assert sent_whole(server) == 2


def sent_whole(server: RedisServer) -> int:
    """How often a script was sent with its text."""
    return int(server.info("commandstats")["cmdstat_eval"].partition(",")[0].removeprefix("calls="))


def test_an_argument_may_ask_for_the_server_that_it_goes_to(client: Client, server: RedisServer) -> None:
    first = client.run(COUNT, [KEY], [lambda at: at.run_id])
    assert first == [1, server.info("server")["run_id"].encode()]
    server.restart()
    second = client.run(COUNT, [KEY], [lambda at: at.run_id], within=10)
    assert second == [1, server.info("server")["run_id"].encode()]
    assert first != second
    assert client.server is not None
    assert second == [1, client.server.run_id.encode()]


def test_what_a_server_says_of_itself_is_known(client: Client, software: str) -> None:
    client.command("PING")
    found = client.server
    assert found is not None
    assert (found.software, found.is_replica, found.is_cluster) == (software, False, False)
    assert tuple(map(int, found.version.split(".")[:2])) >= (7, 0)
    assert 0 <= time.monotonic() - found.started < 60


def test_the_database_of_the_address_is_used(server: RedisServer) -> None:
    Client(parse_address(server.url(db=3))).run(COUNT, [KEY], [1])
    assert server.command("GET", KEY) is None
    assert "db3" in server.info("keyspace")


def test_a_unix_socket_leads_to_the_server(server: RedisServer) -> None:
    client = Client(parse_address(f"unix://{server.socket}"))
    assert client.run(COUNT, [KEY], [1]) == [1, b"1"]
    client.close()


def test_a_server_that_went_and_came_back_is_found_again(client: Client, server: RedisServer) -> None:
    assert client.run(COUNT, [KEY], [1]) == [1, b"1"]
    server.restart()
    # Also without a second try: that the idle connection is dead is seen before it is used.
    assert client.run(COUNT, [KEY], [1]) == [1, b"1"]


def test_a_thread_that_is_interrupted_leaves_no_half_used_connection(client: Client, server: RedisServer) -> None:
    """redis-py#2665: the next one read the answer of who was interrupted."""
    client.command("PING")
    [shared] = client._connections.values()
    server.freeze()
    with pytest.raises(KeyboardInterrupt), shared.one(0.0) as connection:
        connection.send_command("ECHO", "nobody reads this")
        raise KeyboardInterrupt
    thaw = threading.Timer(0.3, server.thaw)  # the answer comes after the next one has asked
    thaw.start()
    with shared.one(0.0) as again:
        again.send_command("ECHO", "this")
        assert again.read_response() == b"this"
    thaw.join()


def test_a_server_that_is_away_for_a_while_is_waited_for(client: Client, server: RedisServer) -> None:
    server.kill()
    starter = threading.Timer(0.5, server.start)
    starter.start()
    assert client.run(COUNT, [KEY], [1], within=20) == [1, b"1"]
    starter.join()


def test_a_server_that_is_not_there_is_an_error_with_a_remedy(client: Client, server: RedisServer) -> None:
    server.kill()
    began = time.monotonic()
    with pytest.raises(Unreachable, match="connection refused") as caught:
        client.run(COUNT, [KEY], [1], within=0.3)
    assert time.monotonic() - began < 5
    assert caught.value.path == server.url()
    assert "redis-cli PING" in caught.value.remedy


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog is made otherwise")
def test_who_has_little_time_does_not_wait_long_for_a_connection_that_is_neither_made_nor_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "CONNECT_WITHIN", 3600.0)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(4):  # more than it lets wait to be accepted: what comes now is dropped, as by a firewall
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        client = Client(parse_address(f"redis://127.0.0.1:{full.getsockname()[1]}"))
        began = time.monotonic()
        with pytest.raises(Unreachable, match="didn't answer in time"):
            client.command("PING", within=1)
        assert time.monotonic() - began < 30


def test_a_frozen_server_is_given_up_and_never_runs_an_answer_behind(client: Client, server: RedisServer) -> None:
    assert client.run(COUNT, [KEY], ["first"]) == [1, b"first"]
    server.freeze()
    with pytest.raises(Unreachable, match="didn't answer in time"):
        client.run(COUNT, [KEY], ["second"])
    server.thaw()
    for word in ("third", "fourth"):
        reply = client.run(COUNT, [KEY], [word], within=5)
        assert reply[1] == word.encode()


def test_a_script_whose_reply_is_lost_is_run_again(client: Client, server: RedisServer) -> None:
    client.run(ONCE, [KEY, "leasecap:{x}:other"])
    server.freeze()
    thaw = threading.Timer(1.5, server.thaw)  # the first try has been given up by then, and is run all the same
    thaw.start()
    assert client.run(ONCE, [KEY, "leasecap:{x}:token"], within=20) == 2
    thaw.join()
    assert server.command("GET", KEY) == "2"


def test_no_more_connections_are_made_than_were_meant(client: Client, server: RedisServer) -> None:
    with ThreadPoolExecutor(60) as threads:
        replies = list(threads.map(lambda n: client.run(COUNT, [KEY], [n], within=20), range(300)))
    assert sorted(reply[0] for reply in replies) == list(range(1, 301))
    assert [int(reply[1]) for reply in replies] == list(range(300))
    assert 1 <= len(tcp_clients(server)) <= connections.MOST


def tcp_clients(server: RedisServer) -> list[str]:
    """The addresses of who is connected by TCP."""
    return re.findall(r" addr=(127\.0\.0\.1:\d+)", str(server.command("CLIENT", "LIST")))


@pytest.mark.posix("fork")
def test_a_forks_child_makes_connections_of_its_own(client: Client, server: RedisServer) -> None:
    client.run(COUNT, [KEY], ["parent"])
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            replies = [client.run(COUNT, [KEY], [n])[1] for n in range(50)]
            os.write(write, b"ok" if replies == [str(n).encode() for n in range(50)] else b"wrong")
        finally:
            os._exit(0)
    replies = [client.run(COUNT, [KEY], [n])[1] for n in range(1000, 1050)]
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read, "rb") as said:
        assert said.read() == b"ok"
    assert replies == [str(n).encode() for n in range(1000, 1050)]
    assert len(tcp_clients(server)) == 1  # the parent's lives on


@pytest.fixture
def hung() -> Iterator[HungServer]:
    with HungServer() as server:
        yield server


def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time(hung: HungServer) -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable, match="didn't answer in time"):
        Client(parse_address(hung.url)).command("PING")
    assert time.monotonic() - began < 4


def test_what_is_no_redis_is_an_error(hung: HungServer) -> None:
    hung.greeting = b"SSH-2.0-OpenSSH_9.2\r\n"
    with pytest.raises(StoreError, match="can't be reached"):
        Client(parse_address(hung.url)).command("PING")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (b"redis_version:6.2.14\r\nrun_id:a\r\n", "redis 6.2.14"),
        (b"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.1.0\r\nrun_id:a\r\n", "valkey 7.1.0"),
        (b"redis_version:7.4.0\r\n", "redis 7.4.0"),
        (b"redis_version:\r\nrun_id:a\r\n", "redis"),
        (b"# nothing\r\n", "redis"),
    ],
    ids=["old-redis", "old-valkey", "no-run-id", "no-version", "nothing"],
)
def test_a_server_that_is_too_old_or_tells_no_run_is_refused(hung: HungServer, said: bytes, found: str) -> None:
    hung.answers = [b"$%d\r\n%s\r\n" % (len(said), said)]
    with pytest.raises(StoreError, match=re.escape(f"is {found}, which can't keep pools")) as caught:
        Client(parse_address(hung.url)).command("PING", within=5)
    assert not isinstance(caught.value, Unreachable)
    assert "Redis 7.0 or newer, or Valkey 7.2" in caught.value.remedy


def test_a_server_that_knows_no_two_sections_is_too_old(hung: HungServer) -> None:
    hung.answers = [b"-ERR syntax error\r\n"]
    with pytest.raises(StoreError, match="older than 7"):
        Client(parse_address(hung.url)).command("PING", within=5)


def test_nothing_is_sent_but_what_is_asked(client: Client, server: RedisServer) -> None:
    before = server.info("commandstats").keys()
    for _ in range(2):
        client.run(COUNT, [KEY], [1])
    sent = {name.removeprefix("cmdstat_") for name in server.info("commandstats").keys() - before}
    assert sent <= {"info", "eval", "evalsha", "incr"}  # no greeting of RESP3, no name of a client or library
    assert {"eval", "evalsha"} <= sent


@pytest.mark.parametrize("software", ["redis"], indirect=True)
def test_the_library_makes_no_tries_of_its_own(client: Client, server: RedisServer) -> None:
    """redis-py#977: a command whose answer was late was sent again, and run twice."""
    client.run(COUNT, [KEY], [1])
    server.freeze()
    with pytest.raises(Unreachable):
        client.run(COUNT, [KEY], [2], within=0)
    server.thaw()
    until = time.monotonic() + 10
    while server.command("GET", KEY) != "2" and time.monotonic() < until:
        time.sleep(0.02)
    client.run(COUNT, [KEY], [3])
    assert server.command("GET", KEY) == "3"  # one for each call


def test_a_password_is_found_where_the_address_says(
    software: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("hunter2!\n")
    monkeypatch.setenv("CAP_PASSWORD", "hunter2!")
    with running(software, tmp_path / "server", "--requirepass", "hunter2!") as server:
        addresses = [
            server.url(user=":hunter2%21"),
            server.url(query="password_env=CAP_PASSWORD"),
            server.url(query=f"password_file={tmp_path / 'password'}"),
            server.url(user="default", query="password_env=CAP_PASSWORD"),
        ]
        for text in addresses:
            client = Client(parse_address(text))
            assert client.command("PING") == b"PONG"
            client.close()
        for text, what in ((server.url(), "wants a password"), (server.url(user=":wrong"), "refuses the user or")):
            with pytest.raises(StoreError, match=what) as caught:
                Client(parse_address(text)).command("PING", within=10)
            assert not isinstance(caught.value, Unreachable)
            assert "password_file" in caught.value.remedy
            assert "wrong" not in str(caught.value)


def test_a_password_that_is_not_where_the_address_says_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CAP_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="CAP_PASSWORD is not set"):
        Client(parse_address("redis://127.0.0.1?password_env=CAP_PASSWORD")).command("PING")
    missing = tmp_path / "none"
    with pytest.raises(ConfigError, match="can't be read"):
        Client(parse_address(f"redis://127.0.0.1?password_file={missing}")).command("PING")
    missing.write_bytes(b"\n")
    with pytest.raises(ConfigError, match="is empty"):
        Client(parse_address(f"redis://127.0.0.1?password_file={missing}")).command("PING")
    missing.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is no text"):
        Client(parse_address(f"redis://127.0.0.1?password_file={missing}")).command("PING")


def test_numbers_that_a_program_has_seeded_stay_as_they_are(client: Client, server: RedisServer) -> None:
    client.command("PING")
    server.kill()
    before = random.getstate()
    with pytest.raises(Unreachable):
        client.command("PING", within=0.3)
    assert random.getstate() == before
