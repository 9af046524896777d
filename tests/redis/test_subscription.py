"""The one subscription of a process: it hears, proves that it does, and comes back."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from severed_link import SeveredLink

from leasecap._config.pool_name import pool_name
from leasecap._config.store_address import parse_address
from leasecap._redis_store import subscription
from leasecap._redis_store.client import Client
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.subscription import Subscription, channel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def patient() -> None:
    """Time-outs are as in life: they are what is tried here."""


class Listener:
    """What a subscription hands on."""

    def __init__(self, client: Client, process: str = "p1") -> None:
        self.heard: queue.Queue[bytes | None] = queue.Queue()
        self.subscription = Subscription(client, process, self.heard.put)

    def start(self) -> None:
        """Returns once it has subscribed."""
        assert self.subscription.start()
        assert self.next() is None

    def next(self) -> bytes | None:
        return self.heard.get(timeout=PATIENCE)


@pytest.fixture
def listener(client: Client) -> Iterator[Listener]:
    listener = Listener(client)
    yield listener
    listener.subscription.stop()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """It proves itself more often than in life."""
    monkeypatch.setattr(subscription, "_PROVE_EVERY", 0.1)
    monkeypatch.setattr(subscription, "_BACK_WITHIN", 5.0)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_message_to_this_process_and_one_to_all_are_handed_on(listener: Listener, client: Client) -> None:
    listener.start()
    client.command("PUBLISH", listener.subscription.own, "a")
    client.command("PUBLISH", listener.subscription.common, b"\xff")
    client.command("PUBLISH", channel(client.address, "p2"), "another's")
    client.command("PUBLISH", listener.subscription.own, "b")
    assert [listener.next() for _ in range(3)] == [b"a", b"\xff", b"b"]


def test_it_is_proven_at_once_and_stays_so(listener: Listener, often: None) -> None:
    assert not listener.subscription.proven
    listener.start()
    until(lambda: listener.subscription.proven)
    reader = listener.subscription._reader
    assert reader is not None
    for _ in range(3):
        before = reader.proven_until
        until(lambda: reader.proven_until > before)  # noqa: B023
    assert listener.heard.empty()  # its own messages are nobody's business


def test_message_of_a_look_proves_it_and_none_of_its_own_is_needed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, token = "a" * 12, "1" * 16
    pool, listener = Pool(client, pool_name("p"), time.monotonic), Listener(client, process)
    pool.configure(limit="0")
    pool.place(priority=0, order=None, token=token, process=process, limit=0, may_queue=True, record=b"{}", lenders=())
    assert not listener.subscription.wants_proof  # nobody would hear it
    listener.start()
    until(lambda: listener.subscription.proven)
    assert not listener.subscription.wants_proof  # one has come just now
    sent: list[object] = []
    monkeypatch.setattr(client, "command", lambda *words: sent.append(words))
    reader = listener.subscription._reader
    assert reader is not None
    reader.proven_until = 0.0
    assert listener.subscription.wants_proof
    pool.look(token, proof=True)
    until(lambda: listener.subscription.proven)
    assert not listener.subscription.wants_proof
    assert listener.heard.empty()  # it is nobody's business
    listener.subscription.stop()
    assert sent == []


def test_the_channels_of_two_databases_and_prefixes_are_apart(server: RedisServer, client: Client) -> None:
    listeners = [
        Listener(Client(parse_address(text)))
        for text in (server.url(), server.url(db=1), server.url(query="prefix=other"))
    ]
    try:
        for listener in listeners:
            listener.start()
        client.command("PUBLISH", listeners[0].subscription.own, "x")
        assert listeners[0].next() == b"x"
        assert [listener.heard.empty() for listener in listeners[1:]] == [True, True]
        names = {name for one in listeners for name in (one.subscription.own, one.subscription.common)}
        assert names == {
            "leasecap:0:p1",
            "leasecap:0:all",
            "leasecap:1:p1",
            "leasecap:1:all",
            "other:0:p1",
            "other:0:all",
        }
    finally:
        for listener in listeners:
            listener.subscription.stop()


def test_a_connection_that_the_server_ends_is_made_anew_each_time(listener: Listener, client: Client) -> None:
    listener.start()
    for _ in range(3):
        client.command("CLIENT", "KILL", "TYPE", "pubsub")
        assert listener.next() is None  # with a descriptor of the same number, as a rule
        client.command("PUBLISH", listener.subscription.own, "a")
        assert listener.next() == b"a"


def test_a_server_that_was_started_again_is_subscribed_to_again(
    listener: Listener, client: Client, server: RedisServer
) -> None:
    listener.start()
    server.kill()
    until(lambda: not listener.subscription.proven)
    server.start()
    assert listener.next() is None  # what came meanwhile is lost, so everybody looks
    client.command("PUBLISH", listener.subscription.own, "a", within=5)
    assert listener.next() == b"a"
    until(lambda: listener.subscription.proven)


def test_a_connection_that_the_server_has_dropped_is_made_again(
    listener: Listener, client: Client, server: RedisServer
) -> None:
    listener.start()
    assert server.command("CLIENT", "KILL", "TYPE", "pubsub") == 1
    assert listener.next() is None
    client.command("PUBLISH", listener.subscription.own, "a")
    assert listener.next() == b"a"


def test_a_connection_that_is_half_open_is_found_out(client: Client, server: RedisServer, often: None) -> None:
    """redis-py#2417: it waited for ever at a connection that was none any more."""
    with SeveredLink(server.port) as link:
        listener = Listener(Client(parse_address(f"redis://127.0.0.1:{link.port}/0")))
        try:
            listener.start()
            until(lambda: listener.subscription.proven)
            link.swallow()  # connections stay open, and nothing comes through those that there are
            assert listener.next() is None
            client.command("PUBLISH", listener.subscription.own, "a")
            assert listener.next() == b"a"
        finally:
            listener.subscription.stop()


def test_a_subscription_that_is_gone_is_found_out_though_its_connection_lives(
    listener: Listener, client: Client, server: RedisServer, often: None
) -> None:
    listener.start()
    reader = listener.subscription._reader
    assert reader is not None
    until(lambda: listener.subscription.proven)
    reader._connection.send_command("UNSUBSCRIBE")
    assert listener.next() is None
    client.command("PUBLISH", listener.subscription.own, "a")
    assert listener.next() == b"a"


def test_it_waits_for_a_server_that_is_not_there_yet(server: RedisServer) -> None:
    server.kill()
    listener = Listener(Client(parse_address(server.url())))
    assert listener.subscription.start()
    assert not listener.subscription.proven
    server.start()
    assert listener.next() is None
    listener.subscription.stop()


def test_starting_twice_makes_one_thread_and_stopping_ends_it(
    listener: Listener, server: RedisServer, client: Client
) -> None:
    listener.start()
    reader = listener.subscription._reader
    assert listener.subscription.start()
    assert listener.subscription._reader is reader
    listener.subscription.stop()
    assert reader is not None
    assert not reader.is_alive()
    assert not listener.subscription.proven
    until(lambda: "sub=2" not in str(server.command("CLIENT", "LIST")))
    listener.subscription.stop()
    listener.start()
    client.command("PUBLISH", listener.subscription.own, "a")
    assert listener.next() == b"a"


def test_stopping_is_quick_while_the_server_is_away(listener: Listener, server: RedisServer) -> None:
    listener.start()
    reader = listener.subscription._reader
    server.kill()
    until(lambda: not listener.subscription.proven)
    listener.subscription.stop()
    assert reader is not None
    until(lambda: not reader.is_alive())


def test_a_callback_that_raises_ends_nothing(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    heard: queue.Queue[bytes | None] = queue.Queue()

    def take(message: bytes | None) -> None:
        heard.put(message)
        raise RuntimeError("from outside")

    subscribed = Subscription(client, "p1", take)
    subscribed.start()
    assert heard.get(timeout=PATIENCE) is None
    for word in (b"a", b"b"):
        client.command("PUBLISH", subscribed.own, word)
        assert heard.get(timeout=PATIENCE) == word
    subscribed.stop()
    until(lambda: "from outside" in caplog.text)


@pytest.mark.posix("fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # that there is a thread is the point
def test_a_forks_child_takes_nothing_of_its_parents_and_can_have_its_own(
    listener: Listener, client: Client, server: RedisServer, tmp_path: Path
) -> None:
    listener.start()
    until(lambda: listener.subscription.proven)  # else it may be in the middle of a call at the fork
    reader = listener.subscription._reader
    assert reader is not None
    descriptor = reader._connection._sock.fileno()
    pid = os.fork()
    if pid == 0:
        try:
            listener.subscription.forget()
            client.forget()
            try:
                os.fstat(descriptor)  # as long as it is open the server takes the parent for alive
                os._exit(1)
            except OSError:
                pass
            own = Listener(client, "child")
            own.start()
            client.command("PUBLISH", own.subscription.own, "to the child")
            client.command("PUBLISH", listener.subscription.own, "to the parent")
            (tmp_path / "said").write_bytes(own.next() or b"")
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert (tmp_path / "said").read_bytes() == b"to the child"
    assert listener.next() == b"to the parent"
    client.command("PUBLISH", listener.subscription.own, "after")
    assert listener.next() == b"after"


def test_where_no_thread_can_be_had_it_says_so(
    client: Client, monkeypatch: pytest.MonkeyPatch, server: RedisServer
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(subscription, "start_thread", refuse)
    subscribed = Subscription(client, "p1", print)
    assert not subscribed.start()
    assert not subscribed.proven
    subscribed.stop()
