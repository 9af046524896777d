"""How one origin is reached: directly or through a proxy, as connections of httpcore2."""

from __future__ import annotations

import socket

import httpcore2

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    from leasecap._gate.proxies import Proxy

_KEPT = 50
"""Seconds for which an idle connection is kept: common load balancers close theirs after a minute, and a request that
meets that is lost."""

_PORTS = {"http": 80, "https": 443}

_KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
"""As the providers' own libraries do: without it, routers forget a connection on which an answer is awaited for
minutes."""
_KEEPALIVE += [
    (socket.IPPROTO_TCP, getattr(socket, name), 60)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL")  # the second one is the first, as macOS has it
    if hasattr(socket, name)
]


class Route:
    """Makes connections to one origin.

    :param context: verifies servers; needed where the origin or the proxy is one of https.
    """

    __slots__ = ("_maker", "_origin", "_port", "name")

    def __init__(self, scheme: str, host: str, port: int, proxy: Proxy | None, context: ssl.SSLContext | None) -> None:
        bracketed = f"[{host}]" if ":" in host else host
        self.name = f"{bracketed}:{port}"
        if proxy is not None:
            self.name += f" (through the proxy {proxy.host}:{proxy.port})"
        # An HTTP proxy is told where to connect as it stands in a URL; all others get an address.
        told = bracketed if proxy is not None and proxy.scheme in _PORTS else host
        self._origin = httpcore2.Origin(scheme.encode("ascii"), told.encode("ascii"), port)
        self._port = None if _PORTS[scheme] == port else port
        # A pool, of which only the making of connections is used: it knows which kind of proxy needs which.
        self._maker = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            proxy=None if proxy is None else _as_httpcore2_has_it(proxy, context),
            keepalive_expiry=_KEPT,
            network_backend=_Backend(),
        )

    def connection(self) -> httpcore2.AsyncConnectionInterface:
        """A new one, which connects with its first request."""
        return self._maker.create_connection(self._origin)

    def url(self, target: bytes) -> httpcore2.URL:
        """With the target as it is."""
        return httpcore2.URL(scheme=self._origin.scheme, host=self._origin.host, port=self._port, target=target)


def _as_httpcore2_has_it(proxy: Proxy, context: ssl.SSLContext | None) -> httpcore2.Proxy:
    auth = None if proxy.user is None else (proxy.user.encode(), proxy.password.encode())
    url = httpcore2.URL(scheme=proxy.scheme, host=proxy.host, port=proxy.port, target=b"/")
    return httpcore2.Proxy(url, auth=auth, ssl_context=context if proxy.scheme == "https" else None)


class _Backend(httpcore2.AnyIOBackend):
    """Every connection is kept alive, also those to proxies, which get no socket options by themselves."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        return await super().connect_tcp(host, port, timeout, local_address, [*(socket_options or ()), *_KEEPALIVE])
