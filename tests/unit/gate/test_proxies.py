from __future__ import annotations

import asyncio
import base64
import importlib.util
from pathlib import Path

import pytest
from plain_servers import Connection, Handler, make_certificate, serving, tunnel, whole

from leasecap._errors import ConfigError
from leasecap._gate import proxies
from leasecap._gate.proxies import Proxy, proxy_for
from leasecap._gate.route import UpstreamError
from leasecap._gate.upstream import Origin, Upstreams

PROVIDER = Origin("https", "provider.test", 443)


def found(environ: dict[str, str], origin: Origin = PROVIDER) -> str | None:
    proxy = proxy_for(environ, *origin)
    return None if proxy is None else proxy.host


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://a:1"}, "a"),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "a"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://b:1", "all_proxy": "http://c:1"}, None),
        ({"all_proxy": "http://c:1"}, "c"),
        ({"ALL_PROXY": "http://c:1", "HTTPS_PROXY": "http://a:1"}, "a"),
        ({"HTTP_PROXY": "http://a:1"}, None),
    ],
)
def test_the_first_variable_that_is_set_counts(environ: dict[str, str], expected: str | None) -> None:
    assert found(environ) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://proxy:3128", Proxy("http", "proxy", 3128, None, "")),
        ("proxy:3128", Proxy("http", "proxy", 3128, None, "")),
        ("http://proxy", Proxy("http", "proxy", 80, None, "")),
        (" https://proxy/ ", Proxy("https", "proxy", 443, None, "")),
        ("http://me%40work:p%2Fw@proxy:1", Proxy("http", "proxy", 1, "me@work", "p/w")),
        ("http://[fd00::1]:3128", Proxy("http", "fd00::1", 3128, None, "")),
        ("socks5h://proxy", Proxy("socks5h", "proxy", 1080, None, "")),
    ],
)
def test_a_proxy_is_read_from_its_url(text: str, expected: Proxy) -> None:
    assert proxy_for({"HTTPS_PROXY": text}, *PROVIDER) == expected


@pytest.mark.parametrize(
    "text", ["ftp://me:SECRET@proxy", "http://me:SECRET@proxy:port", "http://", "http://[::1:SECRET"]
)
def test_what_names_no_proxy_is_told_without_its_value(text: str) -> None:
    with pytest.raises(ConfigError, match="environment: HTTPS_PROXY: names no proxy") as caught:
        proxy_for({"HTTPS_PROXY": text}, *PROVIDER)
    assert "SECRET" not in str(caught.value)


def test_a_socks_proxy_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"all_proxy.*\npip install socksio"):
        proxy_for({"all_proxy": "socks5://proxy"}, *PROVIDER)


@pytest.mark.parametrize(
    ("entries", "host"),
    [
        ("*", "provider.test"),
        ("a, provider.test", "api.provider.test"),
        (".provider.test", "provider.test"),
        ("*.provider.test", "api.provider.test"),
        ("PROVIDER.test.", "Api.Provider.Test"),
        ("other.test provider.test:443", "provider.test"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.0.0.0/8", "10.1.2.3"),
        ("10.1.2.3:443", "10.1.2.3"),
        ("fd00::/8", "fd00::1"),
        ("[fd00::1]:443", "fd00::1"),
        ("fd00::1", "fd00:0::1"),
    ],
)
def test_no_proxy_excepts(entries: str, host: str) -> None:
    environ = {"HTTPS_PROXY": "http://proxy", "NO_PROXY": entries}
    assert found(environ, Origin("https", host, 443)) is None
    assert found(environ, Origin("https", "elsewhere.example", 443)) == (None if entries == "*" else "proxy")


@pytest.mark.parametrize(
    ("entries", "host"),
    [
        ("", "provider.test"),
        ("provider.test", "myprovider.test"),
        ("provider.test:8443", "provider.test"),
        ("api.provider.test", "provider.test"),
        ("10.1.2.3", "10.1.2.30"),
        ("10.0.0.0/8", "fd00::1"),
        ("2.3", "10.1.2.3"),
        (".,*.,:443", "provider.test"),
    ],
)
def test_no_proxy_does_not_except(entries: str, host: str) -> None:
    assert found({"HTTPS_PROXY": "http://proxy", "no_proxy": entries}, Origin("https", host, 443)) == "proxy"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST.", "a.localhost"])
def test_loopback_is_never_reached_through_a_proxy(host: str) -> None:
    assert found({"ALL_PROXY": "http://proxy"}, Origin("http", host, 80)) is None


async def ask(environ: dict[str, str], origin: Origin, target: bytes = b"/a%2Fb//..?q") -> tuple[int, bytes]:
    upstreams = Upstreams(environ)
    try:
        for _ in range(2):  # the second one on the same connection
            answer = await upstreams.send(origin, b"GET", target, [(b"Host", b"h")], None, connect_timeout=10)
            body = await whole(answer)
    finally:
        upstreams.close()
    return answer.status, body


def twice(heads: list[bytes]) -> Handler:
    async def handler(connection: Connection) -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
        heads.extend([await connection.answer(answer), await connection.answer(answer)])
        await connection.until_closed()

    return handler


AUTHORIZATION = b"Proxy-Authorization: Basic " + base64.b64encode(b"me:p/w")


@pytest.mark.parametrize(("host", "told"), [("provider.test", b"provider.test"), ("fd00::1", b"[fd00::1]")])
def test_http_goes_through_a_proxy_in_absolute_form(host: str, told: bytes) -> None:
    heads: list[bytes] = []

    async def main() -> None:
        async with serving(twice(heads)) as proxy:
            environ = {"http_proxy": f"http://me:p%2Fw@127.0.0.1:{proxy.port}"}
            assert await ask(environ, Origin("http", host, 80)) == (200, b"hi")
            assert proxy.accepted == 1

    asyncio.run(main())
    line = b"GET http://" + told + b"/a%2Fb//..?q HTTP/1.1"
    assert heads == [b"\r\n".join([line, b"Host: h", AUTHORIZATION, b"", b""])] * 2


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_https_goes_through_a_tunnel_that_sees_none_of_it(tmp_path: Path, scheme: str) -> None:
    context, certificate = make_certificate(tmp_path)
    heads: list[bytes] = []
    told: list[bytes] = []

    async def main() -> None:
        tls = context if scheme == "https" else None
        async with (
            serving(twice(heads), tls=context) as provider,
            serving(tunnel(provider.port, told), tls=tls) as proxy,
        ):
            environ = {"https_proxy": f"{scheme}://me:p%2Fw@127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(certificate)}
            assert await ask(environ, PROVIDER) == (200, b"hi")
            assert proxy.accepted == 1

    asyncio.run(main())
    assert heads == [b"GET /a%2Fb//..?q HTTP/1.1\r\nHost: h\r\n\r\n"] * 2
    assert len(told) == 1
    assert told[0].startswith(b"CONNECT provider.test:443 HTTP/1.1\r\n")
    assert AUTHORIZATION in told[0]


def test_a_proxy_with_tls_is_reached(tmp_path: Path) -> None:
    context, certificate = make_certificate(tmp_path)
    heads: list[bytes] = []

    async def main() -> None:
        async with serving(twice(heads), tls=context) as proxy:
            environ = {"all_proxy": f"https://127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(certificate)}
            assert await ask(environ, Origin("http", "provider.test", 8000)) == (200, b"hi")

    asyncio.run(main())
    assert heads[0].startswith(b"GET http://provider.test:8000/a%2Fb//..?q HTTP/1.1\r\n")


def test_a_proxy_that_refuses_is_named_and_the_password_is_not() -> None:
    async def handler(connection: Connection) -> None:
        await connection.answer(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        await connection.until_closed()

    async def main() -> None:
        async with serving(handler) as proxy:
            with pytest.raises(UpstreamError) as caught:
                await ask({"https_proxy": f"http://me:SECRET@127.0.0.1:{proxy.port}"}, PROVIDER)
            place = f"provider.test:443 (through the proxy 127.0.0.1:{proxy.port})"
            assert str(caught.value) == f"no connection to {place}: 407 Proxy Authentication Required"
            assert caught.value.kind == "connect"

    asyncio.run(main())


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200"])
def test_a_proxy_that_speaks_something_else_is_told(answer: bytes) -> None:
    async def handler(connection: Connection) -> None:
        await connection.answer(answer)

    async def main() -> None:
        async with serving(handler) as proxy:
            with pytest.raises(UpstreamError, match=r"the proxy's answer isn't HTTP/1\.1, or broke off") as caught:
                await ask({"https_proxy": f"http://127.0.0.1:{proxy.port}"}, PROVIDER)
            assert caught.value.kind == "connect"

    asyncio.run(main())


@pytest.mark.parametrize("stage", ["connect", "handshake"])
def test_a_tunnel_that_is_given_up_while_it_is_made_is_closed(stage: str) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.read_head()
        if stage == "handshake":
            await connection.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await connection.reader.readexactly(5)
        arrived.set()
        await connection.until_closed()
        gone.set()

    async def main() -> None:
        async with serving(handler) as proxy:
            task = asyncio.create_task(ask({"https_proxy": f"http://127.0.0.1:{proxy.port}"}, PROVIDER))
            await arrived.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await gone.wait()

    asyncio.run(main())


@pytest.mark.skipif(importlib.util.find_spec("socksio") is None, reason="needs socksio")
def test_a_socks_proxy_is_told_the_name() -> None:
    heads: list[bytes] = []

    async def handler(connection: Connection) -> None:
        read = connection.reader.readexactly
        methods = (await read(2))[1]
        assert 2 in await read(methods)
        await connection.write(b"\5\2")
        assert await read(2 + 2 + 1 + 3) == b"\1\2me\3p/w"
        await connection.write(b"\1\0")
        assert await read(5 + 13 + 2) == b"\5\1\0\3\x0dprovider.test\0\x50"
        await connection.write(b"\5\0\0\1\0\0\0\0\0\0")
        await twice(heads)(connection)

    async def main() -> None:
        async with serving(handler) as proxy:
            environ = {"all_proxy": f"socks5h://me:p%2Fw@127.0.0.1:{proxy.port}"}
            assert await ask(environ, Origin("http", "provider.test", 80)) == (200, b"hi")

    asyncio.run(main())
    assert heads == [b"GET /a%2Fb//..?q HTTP/1.1\r\nHost: h\r\n\r\n"] * 2


@pytest.mark.skipif(importlib.util.find_spec("socksio") is None, reason="needs socksio")
@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((b"\5\xff",), "the proxy knows no such way to sign in"),
        ((b"\5\2", b"\1\1"), "the proxy refuses the user's name or password"),
        ((b"\5\2", b"\1\0", b"\5\5\0\1\0\0\0\0\0\0"), "the proxy says: connection refused"),
        ((b"\5\2", b"\1\0", b""), "the proxy's answer isn't SOCKS 5, or broke off"),
    ],
)
def test_a_socks_proxy_that_refuses_is_told(answers: tuple[bytes, ...], said: str) -> None:
    async def handler(connection: Connection) -> None:
        for answer in answers:
            assert await connection.reader.read(100)
            await connection.write(answer)

    async def main() -> None:
        async with serving(handler) as proxy:
            with pytest.raises(UpstreamError, match=said) as caught:
                await ask({"all_proxy": f"socks5://me:SECRET@127.0.0.1:{proxy.port}"}, PROVIDER)
            assert caught.value.kind == "connect"
            assert "SECRET" not in str(caught.value)

    asyncio.run(main())
