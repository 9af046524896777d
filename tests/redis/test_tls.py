"""TLS with a certificate authority of one's own and a client certificate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from plain_servers import make_certificate
from redis_server import RedisServer, free_port, running

from leasecap._config.store_address import parse_address
from leasecap._errors import ConfigError, StoreError, Unreachable
from leasecap._redis_store.client import Client
from leasecap._redis_store.subscription import Subscription


@pytest.fixture(autouse=True)
def patient() -> None:
    """Time-outs are as in life: a greeting that is none is waited for in vain."""


class Tls:
    """A server that speaks TLS on ``port``, and the files to get in."""

    def __init__(self, server: RedisServer, port: int, folder: Path) -> None:
        self.server, self.port = server, port
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"

    def url(self, query: str, scheme: str = "rediss") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/0?{query}"

    @property
    def whole(self) -> str:
        return self.url(f"ca={self.certificate}&cert={self.certificate}&key={self.key}")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """Redis alone: the Valkey of the tests is built without TLS."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "yes"]
    for name, file in (("cert-file", "certificate"), ("ca-cert-file", "certificate"), ("key-file", "key")):
        options += [f"--tls-{name}", str(folder / f"{file}.pem")]
    with running("redis", folder / "server", *options) as server:
        yield Tls(server, port, folder)


def refused(text: str) -> StoreError:
    with pytest.raises(StoreError) as caught:
        Client(parse_address(text)).command("PING")
    return caught.value


def test_a_server_with_ones_own_authority_and_certificate_is_used(tls: Tls) -> None:
    client = Client(parse_address(tls.whole))
    assert client.command("PING") == b"PONG"
    client.close()


def test_one_file_may_have_certificate_and_key(tls: Tls, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(tls.certificate.read_text() + tls.key.read_text())
    client = Client(parse_address(tls.url(f"ca={tls.certificate}&cert={both}")))
    assert client.command("PING") == b"PONG"
    client.close()


def test_a_subscription_works_over_tls(tls: Tls) -> None:
    import queue

    heard: queue.Queue[bytes | None] = queue.Queue()
    client = Client(parse_address(tls.whole))
    subscription = Subscription(client, "p1", heard.put)
    subscription.start()
    assert heard.get(timeout=20) is None
    for word in (b"a", b"b", b"c"):
        client.command("PUBLISH", subscription.own, word)
        assert heard.get(timeout=20) == word
    subscription.stop()
    client.close()


def test_a_certificate_that_is_not_trusted_is_refused(tls: Tls) -> None:
    error = refused(tls.url("prefix=x"))
    assert error.message == "has a certificate that isn't trusted"
    assert not isinstance(error, Unreachable)


def test_a_certificate_of_another_host_is_refused(tls: Tls) -> None:
    error = refused(tls.whole.replace("127.0.0.1", "localhost"))
    assert error.message == "has a certificate that isn't trusted"
    assert "made out to" in error.remedy


def test_a_server_that_wants_a_certificate_says_so(tls: Tls) -> None:
    error = refused(tls.url(f"ca={tls.certificate}"))  # the server may have closed before its reason is read
    assert error.message == "wants a certificate of the client" or isinstance(error, Unreachable)
    assert "cert=/PATH" in error.remedy


def test_tls_to_a_port_without_it_is_told(tls: Tls) -> None:
    error = refused(f"rediss://127.0.0.1:{tls.server.port}?ca={tls.certificate}")
    assert "speak TLS on this port" in error.remedy


def test_no_tls_to_a_port_with_it_is_no_success(tls: Tls) -> None:
    with pytest.raises(StoreError):
        Client(parse_address(f"redis://127.0.0.1:{tls.port}")).command("PING")


@pytest.mark.parametrize("key", ["ca", "cert", "key"])
def test_a_file_that_is_not_there_is_named(tls: Tls, key: str) -> None:
    text = tls.whole.replace(f"{key}=/", f"{key}=/none/")
    with pytest.raises(ConfigError, match="no file that can be read") as caught:
        Client(parse_address(text)).command("PING", within=10)
    assert (caught.value.key, str(caught.value.value)[:6]) == (key, "/none/")


def test_a_file_without_a_certificate_is_told(tls: Tls, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    error = refused(tls.url(f"ca={empty}"))
    assert "can't be used" in error.message
    error = refused(tls.url(f"ca={tls.certificate}&cert={empty}&key={tls.key}"))
    assert "can't be used" in error.message
