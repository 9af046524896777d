from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import pytest
from plain_servers import Connection, make_certificate, serving, whole

from leasecap._errors import ConfigError
from leasecap._gate import tls, upstream
from leasecap._gate.route import UpstreamError
from leasecap._gate.tls import client_context
from leasecap._gate.upstream import Origin, Upstreams

HEADERS = [(b"Host", b"h")]
VARIABLES = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"]


async def answers(connection: Connection) -> None:
    await connection.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    await connection.until_closed()


async def ask(environ: dict[str, str], port: int, host: str = "127.0.0.1", connect_timeout: float = 20) -> bytes:
    upstreams = Upstreams(environ)
    try:
        origin = Origin("https", host, port)
        answer = await upstreams.send(origin, b"GET", b"/", HEADERS, None, connect_timeout=connect_timeout)
        return await whole(answer)
    finally:
        upstreams.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_certificate_that_a_variable_adds_is_trusted(host: str, tmp_path: Path) -> None:
    context, certificate = make_certificate(tmp_path)

    async def main() -> None:
        try:
            async with serving(answers, tls=context, host=host) as server:
                for name in VARIABLES:
                    assert await ask({name: str(certificate)}, server.port, host) == b"hi"
        except OSError:
            pytest.skip(f"{host} can't be used here")

    asyncio.run(main())


def test_what_is_not_trusted_gets_nothing_of_the_request(tmp_path: Path) -> None:
    context, _ = make_certificate(tmp_path)

    async def main() -> None:
        async with serving(answers, tls=context) as server:
            with pytest.raises(UpstreamError, match=f"127.0.0.1:{server.port}: self.signed certificate") as caught:
                await ask({}, server.port)
            assert caught.value.kind == "tls"

    asyncio.run(main())


def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path) -> None:
    context, certificate = make_certificate(tmp_path)

    async def main() -> None:
        async with serving(answers, tls=context) as server:
            with pytest.raises(UpstreamError, match="localhost") as caught:
                await ask({"SSL_CERT_FILE": str(certificate)}, server.port, "localhost")
            assert caught.value.kind == "tls"

    asyncio.run(main())


def test_variables_add_to_the_system_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, certificate = make_certificate(tmp_path / "a")
    _, of_system = make_certificate(tmp_path / "b")
    monkeypatch.setattr(tls, "_system_context", lambda: ssl.create_default_context(cafile=of_system))
    assert len(client_context({}).get_ca_certs()) == 1
    assert len(client_context({"SSL_CERT_FILE": str(certificate)}).get_ca_certs()) == 2


def test_directories_of_certificates_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []
    monkeypatch.setattr(tls, "_add", lambda context, name, path: given.append(path))
    client_context({"SSL_CERT_DIR": os.pathsep.join(("/a", "", "/b")), "SSL_CERT_FILE": f"/c{os.pathsep}d"})
    assert given == [f"/c{os.pathsep}d", "/a", "/b"]


@pytest.mark.linux("what is in macOS's own store is not to be seen")
def test_the_system_store_is_the_same_whatever_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = client_context({}).cert_store_stats()
    _, certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = client_context({})
    assert context.cert_store_stats() == before
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    ("content", "said"), [(None, "can't be read: No such file"), ("no certificate", "holds no certificates")]
)
def test_a_file_without_certificates_is_named(content: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=said) as caught:
        client_context({"NODE_EXTRA_CA_CERTS": str(path)})
    assert (caught.value.key, caught.value.value) == ("NODE_EXTRA_CA_CERTS", str(path))


def test_the_store_is_read_once_and_only_for_https(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Mapping[str, str]] = []

    def make(environ: Mapping[str, str]) -> ssl.SSLContext:
        made.append(environ)
        return ssl.create_default_context()

    monkeypatch.setattr(upstream, "client_context", make)
    upstreams = Upstreams({"A": "1"})
    upstreams._route(Origin("http", "provider.test", 80))
    assert made == []
    upstreams._route(Origin("https", "provider.test", 443))
    upstreams._route(Origin("https", "other.test", 443))
    assert made == [{"A": "1"}]


@pytest.mark.parametrize("reset", [False, True])
def test_a_body_that_breaks_off_under_tls_never_ends_as_if_it_were_whole(tmp_path: Path, reset: bool) -> None:
    context, certificate = make_certificate(tmp_path)

    async def handler(connection: Connection) -> None:
        await connection.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
        if reset:
            connection.reset()

    async def main() -> None:
        async with serving(handler, tls=context) as server:
            with pytest.raises(UpstreamError) as caught:
                await ask({"SSL_CERT_FILE": str(certificate)}, server.port)
            assert caught.value.kind == "broken"

    asyncio.run(main())


async def never_shakes_hands(connection: Connection) -> None:
    await connection.until_closed()


def test_a_handshake_that_does_not_end_is_a_time_out() -> None:
    async def main() -> None:
        async with serving(never_shakes_hands) as server:
            with pytest.raises(UpstreamError, match="in time") as caught:
                await ask({}, server.port, connect_timeout=0.5)
            assert caught.value.kind == "timeout"
            await server.served.wait()

    asyncio.run(main())


def test_a_handshake_that_is_given_up_is_gone_at_the_server() -> None:
    arrived = asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.reader.readexactly(5)
        arrived.set()
        await connection.until_closed()

    async def main() -> None:
        async with serving(handler) as server:
            task = asyncio.create_task(ask({}, server.port))
            await arrived.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await server.served.wait()

    asyncio.run(main())


def test_a_server_without_tls_is_told_from_one_that_is_not_trusted() -> None:
    async def handler(connection: Connection) -> None:
        await connection.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main() -> None:
        async with serving(handler) as server:
            with pytest.raises(UpstreamError, match="wrong version number") as caught:
                await ask({}, server.port)
            assert caught.value.kind == "tls"

    asyncio.run(main())
