"""Connections to the providers: a request goes up and its answer comes back as they are, byte for byte.

On the connections of httpcore2, and not on its pool: which one is used again is decided here, and that each is closed
at once when its request is given up. The one thing that moves is the Host header: it goes first.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from contextlib import aclosing

import httpcore2

from leasecap._gate.proxies import proxy_for
from leasecap._gate.route import Route
from leasecap._gate.tls import client_context
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
    from typing import Any, Literal

    Kind = Literal["connect", "tls", "broken", "timeout", "malformed"]
    Connection = httpcore2.AsyncConnectionInterface

_REPEATABLE = (b"GET", b"HEAD", b"OPTIONS")

_FAILURES = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.TimeoutException,
    OSError,
)

_EARLY_ENDS = ("Server disconnected", "peer closed connection")
"""How httpcore2 and h11 begin what they say of an end that comes too early, for which they have no class of its own."""


class Origin(NamedTuple):
    """Where an upstream is: what its URL has before the path. An IPv6 address stands without brackets."""

    scheme: str
    host: str
    port: int


class UpstreamError(Exception):
    """A request got no answer, or not all of it. The message names hosts, and nothing of the request or the answer.

    :ivar kind: what failed.
    :ivar sent: whether any of the request can have reached the provider.
    """

    def __init__(self, kind: Kind, sent: bool, message: str) -> None:
        super().__init__(kind, sent, message)
        self.kind = kind
        self.sent = sent
        self.message = message

    def __str__(self) -> str:
        return self.message


class Answer:
    """The head of an answer, and its body as it comes. Whoever has one closes it, best in a ``finally``.

    :ivar headers: names as the provider writes them, in its order.
    """

    __slots__ = ("_owner", "_response", "_sending", "headers", "reason", "status")

    def __init__(self, owner: Upstreams, sending: _Sending, response: httpcore2.Response) -> None:
        self.status = response.status
        self.reason: bytes = response.extensions["reason_phrase"]
        self.headers = response.headers
        self._owner = owner
        self._sending = sending
        self._response: httpcore2.Response | None = response

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body, as it comes and never decoded; once it is whole, the connection serves the next request.

        :raises UpstreamError: when it breaks off, or isn't HTTP.
        """
        response = self._response
        if response is None:
            return
        failure = None
        stream: Any = response.stream
        try:
            async with aclosing(aiter(stream)) as parts:
                async for part in parts:
                    yield part
        except _FAILURES as error:
            failure = self._sending.explain(error)
        finally:
            await self.aclose()
        if failure is not None:
            raise failure

    async def aclose(self) -> None:
        """Close the connection at once, unless the body has been read to its end."""
        response, self._response = self._response, None
        if response is not None:
            try:
                await response.aclose()
            finally:  # also if the client goes in this moment
                await self._owner._give_back(self._sending)


class Upstreams:
    """The connections of one event loop to any number of origins.

    :param environ: says which proxies to use and whom to trust.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self._context: ssl.SSLContext | None = None
        self._routes: dict[Origin, Route] = {}
        self._idle: dict[Origin, list[Connection]] = {}
        self._busy: set[Connection] = set()
        self._closed = False

    def prepare(self, origin: Origin) -> None:
        """Find out how the origin is reached, as `send` would; this may read the system's store of certificates.

        :raises ConfigError: when the environment names a proxy or a file of certificates that can't be used.
        """
        self._route(origin)

    async def send(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | AsyncIterator[bytes] | None,
        *,
        connect_timeout: float = 30,
    ) -> Answer:
        """Send a request as it is given, and return once the head of its answer is here.

        Nothing is added to it. What the body's iterator raises comes out of here as it is. A request is sent again by
        itself in one case only: it changes nothing (GET, HEAD, OPTIONS, without a body), and the connection was a kept
        one that broke before the answer. Of any other it can't be told whether the provider has read it.

        :param connect_timeout: seconds until the connection stands, TLS and proxy included. The answer has no limit.
        :raises UpstreamError: when no answer comes.
        :raises ConfigError: as `prepare` does.
        """
        route = self._route(origin)
        content = (method, target, headers, body)
        kept = await self._take(origin)
        if kept is not None:
            try:
                return await self._send(_Sending(origin, route, kept), *content, connect_timeout)
            except UpstreamError as error:
                if error.kind != "broken" or method not in _REPEATABLE or body:
                    raise
        return await self._send(_Sending(origin, route, route.connection()), *content, connect_timeout)

    async def aclose(self) -> None:
        """Close all connections, also those on which answers come in."""
        self._closed = True
        idle = [connection for kept in self._idle.values() for connection in kept]
        self._idle.clear()
        for connection in (*idle, *self._busy):
            await connection.aclose()

    async def _send(
        self,
        sending: _Sending,
        method: bytes,
        target: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes | AsyncIterator[bytes] | None,
        connect_timeout: float,
    ) -> Answer:
        request = httpcore2.Request(
            method,
            sending.route.url(target),
            headers=headers,
            content=sending.watched(body) if body is not None and not isinstance(body, bytes) else body,
            extensions={"trace": sending.trace, "sni_hostname": sending.origin.host},
        )
        self._busy.add(sending.connection)
        try:
            async with asyncio.timeout(connect_timeout) as sending.limit:
                response = await sending.connection.handle_async_request(request)
            sending.stage = "answer"
            return Answer(self, sending, response)
        except Exception as error:
            await self._give_up(sending)
            failure = sending.explain(error)
            if failure is None:
                raise
        except BaseException:
            await self._give_up(sending)
            raise
        # Out here the failure doesn't carry along what caused it, the text of which has headers in it.
        raise failure

    async def _give_up(self, sending: _Sending) -> None:
        self._busy.discard(sending.connection)
        await sending.connection.aclose()
        # httpcore2 doesn't close what is cancelled during a TLS handshake.
        if sending.stream is not None:
            await sending.stream.aclose()

    async def _give_back(self, sending: _Sending) -> None:
        connection = sending.connection
        self._busy.discard(connection)
        if self._closed or not connection.is_available():
            await connection.aclose()
            return
        kept = self._idle.setdefault(sending.origin, [])
        kept.append(connection)
        while len(kept) > 1 and kept[0].has_expired():
            await kept.pop(0).aclose()

    async def _take(self, origin: Origin) -> Connection | None:
        """The connection that was used last, unless the server has closed it."""
        kept = self._idle.get(origin, [])
        while kept:
            connection = kept.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    def _route(self, origin: Origin) -> Route:
        route = self._routes.get(origin)
        if route is None:
            proxy = proxy_for(self._environ, *origin)
            context = None
            if origin.scheme == "https" or (proxy is not None and proxy.scheme == "https"):
                context = self._context = self._context or client_context(self._environ)
            route = self._routes[origin] = Route(*origin, proxy, context)
        return route


class _Sending:
    """How far the sending of a request has come, as httpcore2 traces it."""

    __slots__ = ("_body_failure", "connection", "limit", "origin", "route", "stage", "stream")

    def __init__(self, origin: Origin, route: Route, connection: Connection) -> None:
        self.origin = origin
        self.route = route
        self.connection = connection
        self.stage: Literal["connect", "tls", "head", "body", "answer"] = "connect"
        self.stream: httpcore2.AsyncNetworkStream | None = None
        self.limit: asyncio.Timeout | None = None
        self._body_failure: Exception | None = None

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Called at each step, named as ``connection.start_tls.started``."""
        step = event.partition(".")[2]
        if step == "connect_tcp.complete":
            self.stream = info["return_value"]
        elif step == "start_tls.started":
            self.stage = "tls"
        elif step == "send_request_headers.started" and not _is_to_proxy(info):
            self.stage = "head"
            if self.limit is not None:
                self.limit.reschedule(None)
        elif step == "send_request_body.started" and not _is_to_proxy(info):
            self.stage = "body"

    async def watched(self, body: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """The body; what its iterator raises is remembered, to be told from failures of the connection."""
        try:
            async for part in body:
                yield part
        except Exception as error:
            self._body_failure = error
            raise

    def explain(self, error: Exception) -> UpstreamError | None:
        """What an error of httpcore2 means; None for one that isn't about the connection."""
        name, stage = self.route.name, self.stage
        if error is self._body_failure:
            return None
        if stage in ("connect", "tls"):
            if isinstance(error, TimeoutError | httpcore2.TimeoutException):
                return UpstreamError("timeout", False, f"no connection to {name} in time")
            if stage == "connect":
                return UpstreamError("connect", False, f"no connection to {name}: {_reason(error)}")
            return UpstreamError("tls", False, f"no trusted connection to {name}: {_reason(error)}")
        if isinstance(error, httpcore2.LocalProtocolError):
            return UpstreamError("malformed", stage != "head", f"the request to {name} can't be written as HTTP/1.1")
        if not isinstance(error, _FAILURES):
            return None
        # Its text isn't passed on: it quotes the answer.
        if isinstance(error, httpcore2.RemoteProtocolError) and not str(error).startswith(_EARLY_ENDS):
            return UpstreamError("malformed", True, f"what {name} answered isn't HTTP/1.1")
        when = "in the middle of its answer" if stage == "answer" else "before it answered"
        return UpstreamError("broken", True, f"{name} closed the connection {when}")


def _is_to_proxy(info: dict[str, Any]) -> bool:
    return bool(info["request"].method == b"CONNECT")


def _reason(error: BaseException) -> str:
    """In a few words, from the innermost error that has any."""
    found = str(error) if isinstance(error, httpcore2.ProxyError) else "the connection was closed"
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, BaseExceptionGroup):  # one for each address
            inner = inner.exceptions[0]
        if isinstance(inner, ssl.SSLCertVerificationError):
            return inner.verify_message
        if isinstance(inner, ssl.SSLError):
            found = (inner.reason or "TLS failed").replace("_", " ").lower()
        elif isinstance(inner, OSError) and inner.strerror:
            # asyncio puts addresses into it; a resolver's numbers are its own.
            number = None if isinstance(inner, socket.gaierror) else inner.errno
            found = inner.strerror if number is None or number not in errno.errorcode else os.strerror(number)
        inner = inner.__cause__ or inner.__context__
    return found
