"""A connection to the fake provider: whole requests are read from it, and it is seen when the peer goes."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import time

from provider_steps import CRLF, Request

LONGEST_HEAD = 1 << 20
PIECE = 1 << 16
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
ABORTS = struct.pack("ii", 1, 0)  # for SO_LINGER: closing drops what is unsent, and resets
REQUEST_LINE = re.compile(rb"[A-Z]+ [^\s\x00]+ HTTP/1\.[01]")
HEADER_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00\r\n]*")


class UnfitError(Exception):
    """What no well-behaved client sends."""


class Connection:
    """Reads by a buffer of its own, so that looking for the peer's end takes nothing from the next request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.number = number
        self._reader, self._writer = reader, writer
        self._buffer = bytearray()
        writer.transport.set_write_buffer_limits(0)  # drained means sent

    async def head(self) -> Request | None:
        """The next request's head; None once the peer has left."""
        try:
            while (end := self._buffer.find(CRLF * 2)) < 0:
                if len(self._buffer) > LONGEST_HEAD or b"\n\n" in self._buffer:
                    raise UnfitError(f"no head: {bytes(self._buffer[:200])!r}")
                await self._fill()
        except ConnectionError:
            if not self._buffer:
                return None
            raise UnfitError(f"a head without an end: {bytes(self._buffer[:200])!r}") from None
        request = Request(self.number, self._take(end + 4), time.monotonic())
        lines = request.header_lines
        if not REQUEST_LINE.fullmatch(request.line) or not all(map(HEADER_LINE.fullmatch, lines)):
            raise UnfitError(f"malformed: {request.head[:200]!r}")
        return request

    async def body(self, request: Request) -> None:
        """Read it, as ``request`` says where it ends."""
        lengths, codings = request.values(b"content-length"), request.values(b"transfer-encoding")
        if len(lengths) + len(codings) > 1:
            raise UnfitError(f"two ends: {request.head[:200]!r}")
        if (lengths or codings) and b"100-continue" in request.values(b"expect"):
            await self.send(CONTINUE)
        if lengths:
            await self._take_into(request, int(lengths[0]), request.body)
        elif codings:
            await self._chunks(request)

    async def _chunks(self, request: Request) -> None:
        while size := await self._line(request):
            await self._take_into(request, int(size.partition(b";")[0], 16), request.body)
            if await self._line(request):
                raise UnfitError("a chunk longer than its size")
            if size.strip(b"0") == b"":
                return

    async def _line(self, request: Request) -> bytes:
        while (end := self._buffer.find(CRLF)) < 0:
            await self._fill()
        line = self._take(end + 2)
        request.wire += line
        return line[:-2]

    async def _take_into(self, request: Request, length: int, body: bytearray) -> None:
        """As it comes, so that a test sees how much did."""
        while length:
            if not self._buffer:
                await self._fill()
            piece = self._take(length)
            length -= len(piece)
            request.wire += piece
            body += piece

    def _take(self, most: int) -> bytes:
        taken = bytes(self._buffer[:most])
        del self._buffer[:most]
        return taken

    async def _fill(self) -> None:
        piece = await self._reader.read(PIECE)
        if not piece:
            raise ConnectionResetError
        self._buffer += piece

    async def peer_goes(self) -> None:
        """Return when the peer has left; one that only ends its own sending counts as gone."""
        try:
            while True:
                await self._fill()
        except ConnectionError:
            pass

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        """Break the connection; the peer's system sees a reset."""
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTS)
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()

    def drop(self) -> None:
        """Close it, whatever is unsent."""
        self._writer.transport.abort()
