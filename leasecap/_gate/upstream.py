"""Connections to the providers: a request goes up and its answer comes back as they are, byte for byte.

h11 writes and reads, on bare connections (`wire`): what has come together goes on together, and each connection is
closed at once when its request is given up. The one thing that moves is the Host header: it goes first.
"""

from __future__ import annotations

import re

import h11

from leasecap._gate.chunked import Chunks
from leasecap._gate.proxies import proxy_for
from leasecap._gate.route import Route, UpstreamError
from leasecap._gate.tls import client_context
from leasecap._gate.wire import Wire
from leasecap._host.effects import Effects
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Mapping

    from leasecap._gate.head import Headers

_KEPT = 50
"""Seconds for which an idle connection is kept: common load balancers close theirs after a minute, and a request that
meets that is lost."""

_HEAD_MAX = 100 * 1024
"""Bytes of an answer's head."""

_END_OF_HEAD = re.compile(rb"\n\r?\n")  # as h11 has it

_BODILESS = (204, 304)

_REPEATABLE = (b"GET", b"HEAD", b"OPTIONS")

_boot_clock = Effects().boot_clock


def _boot_seconds() -> float:
    return _boot_clock() / 1e9


class Origin(NamedTuple):
    """Where an upstream is: what its URL has before the path. An IPv6 address stands without brackets."""

    scheme: str
    host: str
    port: int


class Connection:
    """One connection to an origin, a request at a time.

    :ivar over_at: when it has been idle for too long, on the boot clock: no other end keeps it while a laptop sleeps.
    """

    __slots__ = ("_came_to_end", "_chunks", "_http", "_rest", "_route", "origin", "over_at", "wire")

    def __init__(self, origin: Origin, route: Route) -> None:
        self.origin = origin
        self.over_at = 0.0
        self.wire = Wire()
        self._route = route
        self._http = h11.Connection(h11.CLIENT, _HEAD_MAX)
        self._rest = b""  # of what came with a head, and is not read yet
        self._chunks: Chunks | None = None  # while they are plain
        self._came_to_end = False

    async def connect(self, seconds: float) -> None:
        """:raises UpstreamError: when it doesn't stand after so many ``seconds``."""
        await self._route.connect(self.wire, seconds)

    async def ask(
        self, method: bytes, target: bytes, headers: Headers, body: bytes | AsyncIterator[bytes] | None
    ) -> h11.Response:
        """Send a request, and return the head of its answer.

        :raises UpstreamError: when none comes.
        """
        http, refused, parts = self._http, False, []
        try:
            parts.append(http.send(self._route.request(method, target, headers)))
            if isinstance(body, bytes):
                parts.append(http.send(h11.Data(body)))
            if body is None or isinstance(body, bytes):
                parts.append(http.send(h11.EndOfMessage()))
        except h11.LocalProtocolError:
            refused = True
        if refused:  # out here the failure doesn't carry along what caused it, the text of which has headers in it
            raise UpstreamError("malformed", f"the request to {self._route.name} can't be written as HTTP/1.1")
        if body is not None and not isinstance(body, bytes):
            async for part in body:
                self.wire.write([*parts, http.send(h11.Data(part))])
                parts = []
                await self.wire.drain()
                if self.wire.over:
                    break  # an answer may have come before that
            else:
                parts.append(http.send(h11.EndOfMessage()))
        self.wire.write(parts)
        head = await self._head()
        coded = any(name == b"transfer-encoding" for name, _ in head.headers)
        if coded and method != b"HEAD" and head.status_code not in _BODILESS:
            self._chunks = Chunks()
        return head

    async def _head(self) -> h11.Response:
        http, seen = self._http, b""
        try:
            while not isinstance(event := http.next_event(), h11.Response):
                if event is h11.NEED_DATA:
                    data, self._rest = self._rest or await self._receive(), b""
                    seen += data
                    found = _END_OF_HEAD.search(seen)
                    end = len(data) if found is None else found.end() - len(seen) + len(data)
                    http.receive_data(data[:end])
                    self._rest = data[end:]
                else:
                    seen = b""  # it was one of 1xx
            return event
        except (OSError, h11.RemoteProtocolError) as error:
            failure = self._failure(error, "before it answered")
        raise failure

    async def read(self) -> bytes:
        """All that has come of the answer's body; empty once it is whole.

        :raises UpstreamError: when it breaks off, or isn't HTTP.
        """
        parts: list[bytes] = []
        failure: UpstreamError | None = None
        try:
            while self._chunks is not None and not parts:
                await self._read_chunks(self._chunks, parts)
            if not parts:
                await self._read_events(parts)
        except (OSError, h11.RemoteProtocolError) as error:
            failure = self._failure(error, "in the middle of its answer")
        if failure is not None and not parts:  # else the next call raises it
            raise failure
        return b"".join(parts)

    async def _read_chunks(self, chunks: Chunks, parts: list[bytes]) -> None:
        data, self._rest = self._rest or await self._receive(), b""
        if content := chunks.feed(data):
            parts.append(content)
        if not data:
            chunks.give_up()
        if chunks.rest is not None:
            self._rest, self._chunks = chunks.rest, None

    async def _read_events(self, parts: list[bytes]) -> None:
        """Leave the framing to h11."""
        http = self._http
        if self._rest:
            http.receive_data(self._rest)
            self._rest = b""
        while http.their_state in (h11.SEND_BODY, h11.ERROR):
            event = http.next_event()
            if type(event) is h11.Data:
                parts.append(event.data)
            elif event is h11.NEED_DATA:
                if parts:
                    return
                http.receive_data(await self._receive())

    async def _receive(self) -> bytes:
        data = await self.wire.read()
        self._came_to_end = not data
        return data

    def _failure(self, error: Exception, when: str) -> UpstreamError:
        """Its text isn't passed on: it quotes the answer."""
        if isinstance(error, OSError) or self._came_to_end:
            return UpstreamError("broken", f"{self._route.name} closed the connection {when}")
        return UpstreamError("malformed", f"what {self._route.name} answered isn't HTTP/1.1")

    def renew(self) -> bool:
        """Get ready for the next request. Returns whether there can be one."""
        http = self._http
        if not (http.our_state is http.their_state is h11.DONE) or http.trailing_data[0]:
            return False
        http.start_next_cycle()
        self.over_at = _boot_seconds() + _KEPT
        return True

    def is_over(self) -> bool:
        """Whether it is not to be used any more."""
        return _boot_seconds() > self.over_at or not self.wire.is_quiet()


class Answer:
    """The head of an answer, and its body as it comes. Whoever has one closes it, best in a ``finally``.

    :ivar headers: names as the provider writes them, in its order.
    """

    __slots__ = ("_begun", "_connection", "_owner", "headers", "reason", "status")

    def __init__(self, owner: Upstreams, connection: Connection, head: h11.Response) -> None:
        self.status = head.status_code
        self.reason = bytes(head.reason)
        self.headers = head.headers.raw_items()
        self._owner = owner
        self._connection: Connection | None = connection
        self._begun = b""

    async def begin(self) -> None:
        """Wait for the first of the body; raises as `read`."""
        self._begun = await self.read()

    async def read(self) -> bytes:
        """All that has come of the body, never decoded; empty once it is whole.

        :raises UpstreamError: when it breaks off, or isn't HTTP.
        """
        begun, self._begun = self._begun, b""
        if begun or self._connection is None:
            return begun
        return await self._connection.read()

    def close(self) -> None:
        """The connection serves the next request if the body has been read to its end; else it is closed at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._owner._give_back(connection)


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

    async def send(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: Headers,
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
        :raises ConfigError: when the environment names a proxy or a file of certificates that can't be used.
        """
        route = self._route(origin)
        kept = self._take(origin)
        if kept is not None:
            try:
                return await self._send(kept, method, target, headers, body)
            except UpstreamError as error:
                if error.kind != "broken" or method not in _REPEATABLE or body:
                    raise
        return await self._send(Connection(origin, route), method, target, headers, body, connect_timeout)

    async def _send(
        self,
        connection: Connection,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes | AsyncIterator[bytes] | None,
        connect_timeout: float | None = None,
    ) -> Answer:
        self._busy.add(connection)
        try:
            if connect_timeout is not None:
                await connection.connect(connect_timeout)
            return Answer(self, connection, await connection.ask(method, target, headers, body))
        except BaseException:
            self._busy.discard(connection)
            connection.wire.abort()
            raise

    def close(self) -> None:
        """Close all connections, also those on which answers come in."""
        self._closed = True
        for connection in (*self._busy, *(each for kept in self._idle.values() for each in kept)):
            connection.wire.abort()
        self._busy.clear()
        self._idle.clear()

    def _give_back(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if self._closed or not connection.renew():
            connection.wire.abort()
            return
        kept = self._idle.setdefault(connection.origin, [])
        kept.append(connection)
        while len(kept) > 1 and kept[0].is_over():
            kept.pop(0).wire.abort()

    def _take(self, origin: Origin) -> Connection | None:
        """The connection that was used last, unless the server has closed it."""
        kept = self._idle.get(origin, [])
        while kept:
            connection = kept.pop()
            if not connection.is_over():
                return connection
            connection.wire.abort()
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
