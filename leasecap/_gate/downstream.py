"""A client's connection: its requests in, and what it gets back.

The task that serves it is cancelled the moment the client is gone, wherever it stands: so a ticket, a slot and the
connection upstream go with the client, and nobody has to ask whether it is still there. A client that closes its
sending side alone counts as gone: nothing tells the two apart before something is sent to it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from http import HTTPStatus

import h11

from leasecap._gate.asker import Asker
from leasecap._gate.head import HEAD_MAX, Refused, is_whole
from leasecap._gate.patience import Patience
from leasecap._gate.wire import Wire
from leasecap._host.sockets import has_closed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from typing import Any

HEAD_TIMEOUT = 30.0
"""Seconds from the first byte of a head to its last."""

BODY_TIMEOUT = 60.0
"""Seconds between two pieces of a request's body."""

LINGER = 1.0
"""Seconds for which a connection that is to be closed takes what the client still sends."""

EARLY_HINTS_EVERY = 15.0
"""Seconds. The clients that a 103 keeps waiting give up after 60 at the earliest."""

PRESENCE_EVERY = 1.0
"""Seconds between two looks at a client whose body is not read yet: its end stands behind that, and is not seen."""

_TOGETHER = 16 * 1024
_EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)


def reason(status: int) -> bytes:
    """The words for a status of the gate's own."""
    return HTTPStatus(status).phrase.encode()


class ClientConnection(Wire):
    """Has a task that serves the client, which is cancelled once that is gone."""

    def __init__(self, serve: Callable[[ClientConnection], Coroutine[Any, Any, None]]) -> None:
        super().__init__()
        self._serve = serve
        self.serving: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.serving = asyncio.get_running_loop().create_task(self._serve(self))

    def eof_received(self) -> bool:
        super().eof_received()
        self.leave()
        return True  # it is to be broken then, and not closed

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.leave()

    def leave(self) -> None:
        """The client is gone."""
        serving, self.serving = self.serving, None
        if serving is not None:
            serving.cancel()


class Downstream:
    """One connection, a request at a time.

    :ivar asker: who opened it.
    :ivar started: whether the answer's head has gone out.
    """

    def __init__(self, wire: ClientConnection) -> None:
        self.asker = Asker(wire.info("peername"), wire.info("sockname"))
        self._wire = wire
        self._received = b""  # with the last request, and behind it
        self._http = h11.Connection(h11.SERVER)
        self._hints: asyncio.TimerHandle | None = None
        self._unsent = bytearray()
        self._flushing: asyncio.Handle | None = None
        self._looks: asyncio.TimerHandle | None = None
        self._closed = False
        self.started = False

    async def next_request(self) -> h11.Request | None:
        """The next request's head; None: the client has closed the connection between two requests.

        :raises Refused: for a head that can't be used; the connection is to be closed then.
        """
        self.started = False
        received, self._received = _begun(self._received), b""
        while not received:  # idle for as long as the client likes: it would send the next request into the close
            data = await self._wire.read()
            if not data:
                return None
            received = _begun(data)
        if not is_whole(received):
            try:
                async with Patience(HEAD_TIMEOUT):
                    while not is_whole(received):
                        data = await self._wire.read()
                        if not data:
                            return None
                        received = _begun(received + data)
            except TimeoutError:
                raise Refused(408, f"the request's head was not whole after {HEAD_TIMEOUT:.0f} s") from None
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
        self._http.receive_data(received)
        try:
            request = self._http.next_event()
        except h11.RemoteProtocolError as error:
            # Without its words, which quote what may be a key.
            raise Refused(error.error_status_hint, "the request's head can't be read") from None
        assert isinstance(request, h11.Request)
        return request

    async def body(self) -> AsyncIterator[bytes]:
        """The request's body, piece by piece; who asked whether it is wanted is told so now.

        :raises Refused: when it can't be read, or doesn't come.
        """
        while True:
            try:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    if self._http.they_are_waiting_for_100_continue:
                        self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
                        self._wire.write([_CONTINUE])
                    async with Patience(BODY_TIMEOUT):
                        self._http.receive_data(await self._wire.read())
                    continue
            except h11.RemoteProtocolError as error:
                raise Refused(error.error_status_hint, "the request's body can't be read to its end") from None
            except TimeoutError:
                raise Refused(408, f"nothing came of the request's body for {BODY_TIMEOUT:.0f} s") from None
            if not isinstance(event, h11.Data):
                return
            yield event.data

    async def skip_body(self) -> None:
        """Read the body of a request that has none: h11 takes no other request before it has told the end of this
        one."""
        async for _ in self.body():
            pass

    def keep_waiting(self) -> None:
        """Until the answer's head goes out, let the client know now and then that it isn't forgotten."""
        # A client of HTTP/1.0 would take a 103 for the answer.
        if self._hints is None and (self._http.their_http_version or b"") >= b"1.1":
            self._hints = asyncio.get_running_loop().call_later(EARLY_HINTS_EVERY, self._hint)

    def _hint(self) -> None:
        self._wire.write([_EARLY_HINTS])
        self._hints = asyncio.get_running_loop().call_later(EARLY_HINTS_EVERY, self._hint)

    def look_for_its_end(self) -> None:
        """Until the answer's head goes out, look whether the client is gone though nothing is read from it."""
        self._looks = asyncio.get_running_loop().call_later(PRESENCE_EVERY, self._look)

    def _look(self) -> None:
        if has_closed(self._wire.info("socket")):
            self._wire.leave()
        else:
            self.look_for_its_end()

    def _stop_timers(self) -> None:
        timers, self._hints, self._looks = (self._hints, self._looks), None, None
        for timer in timers:
            if timer is not None:
                timer.cancel()

    def start(self, status: int, reason: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """The answer's head, which goes out with what follows, or with a flush."""
        self._stop_timers()
        self.started = True
        # After an answer that comes before the request's end the connection takes no other one: the client must know.
        closes = () if self._http.their_state is h11.DONE else ((b"Connection", b"close"),)
        answer = h11.Response(status_code=status, reason=reason, headers=[*headers, *closes])
        self._unsent += self._http.send(answer) or b""

    async def send(self, data: bytes) -> None:
        """Send a piece of its body. Pieces that follow each other without a pause go out together."""
        await self._wire.drain()  # of a client that reads slowly no more is kept than this
        self._unsent += self._http.send(h11.Data(data=data)) or b""
        if len(self._unsent) >= _TOGETHER:
            self._write()
        else:
            self.flush_soon()

    async def end(self) -> bool:
        """Its body is whole. Returns whether the connection can take another request."""
        self._unsent += self._http.send(h11.EndOfMessage()) or b""
        await self.flush()
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._received = self._http.trailing_data[0]
        return True

    async def flush(self) -> None:
        """Send what has not gone out yet; waits for a client that reads slowly."""
        # Before it and not after: who has the last of an answer needs no slot while the client takes its time.
        await self._wire.drain()
        self._write()

    def flush_soon(self) -> None:
        """Send what has not gone out yet, together with what follows it without a pause."""
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            flushing.cancel()
        data, self._unsent = self._unsent, bytearray()
        if data:
            self._wire.write([data])

    async def refuse(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer a request that could not be read, by hand: h11 answers none that it hasn't read."""
        lines = [b"HTTP/1.1 %d %s" % (status, reason(status)), *(b"%s: %s" % header for header in headers)]
        lines += [b"Connection: close", b"", b""]
        self._wire.write([b"\r\n".join(lines), body])
        await self._wire.drain()

    def abort(self) -> None:
        """Break the connection, so that no client takes what it has got for the whole answer; unless it is closed."""
        self._stop_timers()
        if self._closed:
            return
        if self._flushing is not None:
            self._write()  # a piece that was to go out now
        try:
            # A plain close would be the proper end of an answer that is as long as the connection.
            self._wire.info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass
        self._wire.abort()

    async def close(self) -> None:
        """Close it once all has been sent, however slowly the client reads."""
        self._stop_timers()
        try:
            # Closed while something of the client's is unread, TCP would reset the connection, and the answer be lost.
            self._wire.end()
            async with asyncio.timeout(LINGER):
                while await self._wire.read():
                    pass
        except (OSError, TimeoutError):
            pass
        self._wire.close()
        self._closed = True  # what the system still has to send isn't lost


def _begun(received: bytes) -> bytes:
    """What belongs to the next request: some clients end a body with an empty line (RFC 9112, 2.2)."""
    return received.removeprefix(b"\r\n")
