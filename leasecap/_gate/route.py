"""How one origin is reached: directly, or through a proxy."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from base64 import b64encode

import h11

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from leasecap._gate.head import Headers
    from leasecap._gate.proxies import Proxy
    from leasecap._gate.wire import Wire

    Kind = Literal["connect", "tls", "broken", "timeout", "malformed"]

_PORTS = {"http": 80, "https": 443}

_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
"""As the providers' own libraries do: without it, routers forget a connection on which an answer is awaited for
minutes."""
_KEEPALIVE += [
    (socket.IPPROTO_TCP, getattr(socket, name), 60)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL")  # the second one is the first, as macOS has it
    if hasattr(socket, name)
]


class UpstreamError(Exception):
    """A request got no answer, or not all of it. The message names hosts, and nothing of the request or the answer.

    :ivar kind: what failed.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


class _ProxyError(Exception):
    """The proxy doesn't connect us. The message is for people."""


class Route:
    """The way to one origin.

    :param context: verifies servers; needed where the origin or the proxy is one of https.
    :ivar name: for people.
    """

    __slots__ = ("_authorization", "_context", "_host", "_is_told", "_port", "_proxy", "_scheme", "_url", "name")

    def __init__(self, scheme: str, host: str, port: int, proxy: Proxy | None, context: ssl.SSLContext | None) -> None:
        bracketed = f"[{host}]" if ":" in host else host
        self.name = f"{bracketed}:{port}"
        if proxy is not None:
            self.name += f" (through the proxy {proxy.host}:{proxy.port})"
        self._scheme, self._host, self._port, self._proxy, self._context = scheme, host, port, proxy, context
        self._authorization: Headers = []
        if proxy is not None and proxy.user is not None:
            known = b64encode(f"{proxy.user}:{proxy.password}".encode())
            self._authorization.append((b"Proxy-Authorization", b"Basic " + known))
        self._is_told = proxy is not None and proxy.scheme in _PORTS and scheme == "http"
        self._url = (f"http://{bracketed}" if port == _PORTS["http"] else f"http://{bracketed}:{port}").encode()

    def request(self, method: bytes, target: bytes, headers: Headers) -> h11.Request:
        """The request as it goes out; a proxy is told with each where to send it, unless it leads through a tunnel.

        :raises h11.LocalProtocolError: when it can't be written.
        """
        if self._is_told:
            target, headers = self._url + target, self._authorization + headers
        return h11.Request(method=method, target=target, headers=headers)

    async def connect(self, wire: Wire, seconds: float) -> None:
        """Let it lead to the origin, TLS and proxy included. If that fails, the caller aborts it.

        :raises UpstreamError: when it doesn't in so many ``seconds``.
        """
        tls = False
        try:
            async with asyncio.timeout(seconds):
                await self._reach(wire)
                if self._scheme == "https":
                    assert self._context is not None
                    tls = True
                    await wire.secure(self._context, self._host)
        except TimeoutError:
            raise UpstreamError("timeout", f"no connection to {self.name} in time") from None
        except (OSError, _ProxyError) as error:
            if tls or isinstance(error, ssl.SSLError):
                said = f"no trusted connection to {self.name}: {_reason(error)}"
                raise UpstreamError("tls", said) from None
            raise UpstreamError("connect", f"no connection to {self.name}: {_reason(error)}") from None

    async def _reach(self, wire: Wire) -> None:
        proxy = self._proxy
        if proxy is None:
            await wire.connect(self._host, self._port, _KEEPALIVE)
            return
        await wire.connect(proxy.host, proxy.port, _KEEPALIVE)
        if proxy.scheme == "https":
            assert self._context is not None
            await wire.secure(self._context, proxy.host)
        if proxy.scheme not in _PORTS:
            await self._ask_socks(wire, proxy)
        elif self._scheme == "https":
            await self._ask_for_tunnel(wire)

    async def _ask_for_tunnel(self, wire: Wire) -> None:
        host = self._host
        place = (f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}").encode()
        http = h11.Connection(h11.CLIENT)
        headers = [(b"Host", place), *self._authorization]
        wire.write([http.send(h11.Request(method=b"CONNECT", target=place, headers=headers))])
        try:
            while not isinstance(event := http.next_event(), h11.Response):
                if event is h11.NEED_DATA:
                    http.receive_data(await wire.read())
        except h11.RemoteProtocolError:
            raise _ProxyError("the proxy's answer isn't HTTP/1.1, or broke off") from None
        if not 200 <= event.status_code <= 299:
            raise _ProxyError(f"{event.status_code} {event.reason.decode('ascii', 'ignore')}")

    async def _ask_socks(self, wire: Wire, proxy: Proxy) -> None:
        import socksio
        from socksio import socks5

        socks = socks5.SOCKS5Connection()

        async def ask(request: Any) -> Any:
            socks.send(request)
            wire.write([socks.data_to_send()])
            return socks.receive_data(await wire.read())

        method = socks5.SOCKS5AuthMethod.NO_AUTH_REQUIRED
        if proxy.user is not None:
            method = socks5.SOCKS5AuthMethod.USERNAME_PASSWORD
        address = (self._host.encode("ascii"), self._port)
        try:
            if (await ask(socks5.SOCKS5AuthMethodsRequest([method]))).method != method:
                raise _ProxyError("the proxy knows no such way to sign in")
            if proxy.user is not None:
                who = socks5.SOCKS5UsernamePasswordRequest(proxy.user.encode(), proxy.password.encode())
                if not (await ask(who)).success:
                    raise _ProxyError("the proxy refuses the user's name or password")
            made = await ask(socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command.CONNECT, address))
        except socksio.SOCKSError:
            raise _ProxyError("the proxy's answer isn't SOCKS 5, or broke off") from None
        if made.reply_code != socks5.SOCKS5ReplyCode.SUCCEEDED:
            raise _ProxyError(f"the proxy says: {made.reply_code.name.replace('_', ' ').lower()}")


def _reason(error: Exception) -> str:
    """In a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS failed").replace("_", " ").lower()
    if isinstance(error, socket.gaierror) and error.strerror:
        return error.strerror
    if isinstance(error, OSError):
        number = error.errno or 0  # and not in its own words: asyncio puts addresses into them
        return os.strerror(number) if number in errno.errorcode else "the connection was closed"
    return str(error)
