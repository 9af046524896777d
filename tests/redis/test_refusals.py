"""What a server refuses becomes an error that says where, what, and what to do; and whether it may pass by itself."""

from __future__ import annotations

import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import PROGRAM, environment, run, status
from hung_server import HungServer
from redis.exceptions import ResponseError
from redis_server import RedisServer, running

from leasecap._config.store_address import parse_address
from leasecap._errors import StoreError, Unreachable
from leasecap._redis_store.client import Client
from leasecap._redis_store.faults import fault
from leasecap._redis_store.script import Script

WRITE = Script("write", "#!lua\nreturn redis.call('SET', KEYS[1], ARGV[1])")
RELEASE = Script("release", "#!lua flags=allow-oom\nreturn redis.call('DEL', KEYS[1])")
TELL = Script("tell", "#!lua\nreturn redis.call('PUBLISH', ARGV[1], 'x')")
KEY = "leasecap:{x}:a"


def refused(client: Client, script: Script, *args: str, key: str = KEY) -> StoreError:
    with pytest.raises(StoreError) as caught:
        client.run(script, [key], list(args), within=0)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return caught.value


ALL = ["+info", "+ping", "+eval", "+evalsha", "+set", "+del", "+publish", "~leasecap:*", "&leasecap:*"]


@pytest.mark.parametrize(
    ("missing", "right"),
    [
        ("+evalsha", "+evalsha"),
        ("+eval", "+eval"),
        ("+set", "+set"),
        ("+info", "+info"),
        ("~leasecap:*", "~leasecap:*"),
        ("&leasecap:*", "&leasecap:*"),
        ("+publish", "+publish"),
    ],
)
def test_a_right_that_is_missing_is_named_with_the_command_that_gives_it(
    server: RedisServer, software: str, missing: str, right: str
) -> None:
    server.command("ACL", "SETUSER", "agent", "on", ">secret", *(one for one in ALL if one != missing))
    client = Client(parse_address(server.url(user="agent:secret")))
    if missing in ("&leasecap:*", "+publish"):
        error = refused(client, TELL, "leasecap:0:all")
    else:
        error = refused(client, WRITE, "v")
    if software == "redis" and right in ("+set", "+publish"):  # Redis 7.0 doesn't say which command of a script it is
        assert error.message == "doesn't give the user agent the right to a command of the scripts"
        assert "ACL GETUSER agent" in error.remedy
    else:
        assert error.message == f"doesn't give the user agent the right {right}"
        assert f"ACL SETUSER agent '{right}'" in error.remedy
    assert not isinstance(error, Unreachable)
    assert "secret" not in str(error)
    server.command("ACL", "SETUSER", "agent", right)
    assert client.run(WRITE, [KEY], ["v"]) == b"OK"
    assert client.run(TELL, [KEY], ["leasecap:0:all"]) == 0
    client.close()


def test_memory_that_is_full_is_told_and_a_flagged_script_runs(client: Client, server: RedisServer) -> None:
    assert client.run(WRITE, [KEY], ["v"]) == b"OK"
    server.command("CONFIG", "SET", "maxmemory", "1")
    error = refused(client, WRITE, "v")
    assert error.message == "has no memory left (maxmemory)"
    assert "noeviction" in error.remedy
    assert not isinstance(error, Unreachable)
    assert client.run(RELEASE, [KEY]) == 1


def test_a_replica_is_told_and_may_pass(software: str, server: RedisServer, tmp_path: Path) -> None:
    with running(software, tmp_path / "replica", "--replicaof", f"127.0.0.1 {server.port}") as replica:
        client = Client(parse_address(replica.url()))
        error = refused(client, WRITE, "v")
        assert isinstance(error, Unreachable)
        assert error.message == "is a replica, which takes no writes"
        assert client.server is not None
        assert client.server.is_replica
        client.close()


def test_a_server_with_too_many_clients_is_told_and_may_pass(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "maxclients", "1")
    holder = Client(parse_address(server.url()))
    holder.command("PING")
    error = refused(Client(parse_address(server.url())), WRITE, "v")
    holder.close()
    assert isinstance(error, Unreachable)
    assert error.message == "has too many clients"


def test_a_database_that_there_is_not_is_told(server: RedisServer) -> None:
    error = refused(Client(parse_address(server.url(db=999))), WRITE, "v")
    assert error.message == "has no database of that number"


def test_a_password_that_a_server_does_not_want_is_told(server: RedisServer) -> None:
    error = refused(Client(parse_address(server.url(user=":hidden"))), WRITE, "v")
    assert error.message == "has no password, and one was given"
    assert "hidden" not in str(error)


def test_an_answer_that_is_not_known_is_shown(client: Client) -> None:
    error = refused(client, Script("bad", "#!lua\nreturn redis.error_reply('ODD \\27[31m something')"))
    assert error.message.startswith("answers: ODD \\x1b[31m something")


@pytest.fixture
def hung() -> Iterator[HungServer]:
    with HungServer() as server:
        yield server


INFO = b"redis_version:7.2.0\r\nrun_id:a\r\nuptime_in_seconds:5\r\n"
GREETED = b"$%d\r\n%s\r\n" % (len(INFO), INFO)


@pytest.mark.parametrize(
    ("reply", "message", "passes"),
    [
        ("LOADING Redis is loading the dataset in memory", "is still loading its data", True),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "a replica without", True),
        ("CLUSTERDOWN Hash slot not served", "is a cluster that isn't whole", True),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "is just moving", True),
        ("BUSY Redis is busy running a script.", "is busy with a script", True),
        ("NOREPLICAS Not enough good replicas to write.", "too few replicas", True),
        ("MISCONF Redis is configured to save RDB snapshots, but", "can't save its data", False),
        ("OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:1.", "no memory", False),
        ("NOAUTH Authentication required.", "wants a password", False),
        (
            "DENIED Redis is running in protected mode because protected mode",
            "takes nobody from another machine",
            False,
        ),
        ("CROSSSLOT Keys in request don't hash to the same slot", "keys of a call lie apart", False),
    ],
    ids=lambda value: value.partition(" ")[0] if isinstance(value, str) and value[:4].isupper() else None,
)
def test_each_refusal_is_told_as_what_it_is(hung: HungServer, reply: str, message: str, passes: bool) -> None:
    hung.answers = [GREETED, f"-{reply}\r\n".encode()]
    error = refused(Client(parse_address(hung.url)), WRITE, "v")
    assert message in error.message
    assert isinstance(error, Unreachable) == passes
    assert error.path == hung.url
    assert error.remedy


@pytest.mark.parametrize("reply", [b"-LOADING x\r\n", b"-READONLY x\r\n", b"-CLUSTERDOWN x\r\n", b"-BUSY x\r\n"])
def test_what_may_pass_is_tried_again(hung: HungServer, reply: bytes) -> None:
    # Who is loading says so to everything, and redis-py gives the connection up. One that is read-only may be what was
    # the master, whose name leads elsewhere by now.
    anew = b"LOADING" in reply or b"READONLY" in reply
    hung.answers = [GREETED, reply, *([GREETED] if anew else []), b"+OK\r\n"]
    assert Client(parse_address(hung.url)).run(WRITE, [KEY], ["v"], within=10) == b"OK"


def test_what_does_not_pass_is_not_tried_again(hung: HungServer) -> None:
    hung.answers = [GREETED, b"-OOM x\r\n", b"+OK\r\n"]
    with pytest.raises(StoreError, match="no memory left"):
        Client(parse_address(hung.url)).run(WRITE, [KEY], ["v"], within=10)


def test_a_host_that_there_is_not_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(Client(parse_address("redis://no-such-host.invalid")), WRITE, "v")
    assert isinstance(error, Unreachable)
    assert error.message.startswith("can't be reached: ")
    assert "no-such-host" not in error.message  # the path says it


def test_arguments_that_a_server_quotes_are_not_shown() -> None:
    said = ResponseError("unknown command 'AUTH', with args beginning with: 'cap' 'S3cret'")
    shown = str(fault(parse_address("redis://cap:S3cret@host/0"), said))
    assert "S3cret" not in shown and "unknown command 'AUTH'" in shown


@pytest.mark.parametrize("where", ["[pools.p]", "[defaults]"])
def test_server_that_says_nothing_is_asked_once_by_a_report_that_names_no_pool(root: Path, where: str) -> None:
    root.mkdir(mode=0o700)
    with HungServer() as silent:
        (root / "config.toml").write_text(f'{where}\nstore = "{silent.url}"\n')
        asked = []
        for pool in (["p"], []):
            silent.connections = 0
            done = run("report", *pool, "--status", "429", env=environment(LEASECAP_POOL="p"))
            assert done.returncode == 1 and "didn't answer in time" in done.stderr
            asked.append(silent.connections)
    assert asked[0] == asked[1]


@pytest.mark.posix("a shell that acquires for itself")
def test_report_of_a_hook_is_for_the_pool_of_its_agent_though_another_ones_server_is_silent(root: Path) -> None:
    root.mkdir(mode=0o700)
    with HungServer() as silent:
        (root / "config.toml").write_text(f'[pools.p]\nstore = "{silent.url}"\n[pools.q]\nlimit = 8\n')
        script = '"$@" acquire -p q --for-pid $$ >/dev/null && "$@" report --status 429'
        done = subprocess.run(
            ["sh", "-c", script, "sh", *PROGRAM], env=environment(LEASECAP_POOL="p"), capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert status("q").limit == 6
