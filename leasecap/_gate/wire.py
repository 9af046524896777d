"""A connection as bytes: an asyncio transport, and nothing else that each request would pay for."""

from __future__ import annotations

import asyncio

from leasecap._gate.race import connected
from leasecap._host.sockets import is_readable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence
    from typing import Any

_UNREAD_MAX = 128 * 1024
"""Bytes that wait to be read, after which no more are taken from the system."""


class Wire(asyncio.Protocol):
    """One connection. What is written once it is over goes nowhere: reading tells what became of it.

    :ivar over: the other side has closed it, or it broke, or was given up.
    """

    def __init__(self) -> None:
        self.over = False
        self._transport: asyncio.Transport | None = None
        self._unread: list[bytes] = []
        self._unread_size = 0
        self._error: Exception | None = None
        self._is_full = False
        self._waiting: asyncio.Future[None] | None = None  # to read or to write, of which only one is done at a time

    async def connect(self, host: str, port: int, options: Iterable[tuple[int, int, int]]) -> None:
        """:param options: of the socket.
        :raises OSError: when it can't be connected.
        """
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: self, sock=await connected(host, port))
        for option in options:
            transport.get_extra_info("socket").setsockopt(*option)

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Speak TLS from now on.

        :raises OSError: when the other side doesn't, or isn't ``host``.
        """
        assert self._transport is not None
        transport = await asyncio.get_running_loop().start_tls(self._transport, self, context, server_hostname=host)
        if transport is None:
            raise ConnectionResetError
        self._transport = transport

    async def read(self) -> bytes:
        """All that has come, as soon as something has; empty at the end.

        :raises OSError: when it broke.
        """
        while not self._unread:
            if self.over:
                if self._error is not None:
                    raise self._error
                return b""
            await self._wait()
        data, self._unread = b"".join(self._unread), []
        if self._unread_size >= _UNREAD_MAX and not self.over and self._transport is not None:
            self._transport.resume_reading()
        self._unread_size = 0
        return data

    def write(self, parts: Sequence[bytes | bytearray]) -> None:
        """Send them together."""
        if not self.over and self._transport is not None:
            # In 3.12 and 3.13.0 `writelines` never pauses whoever writes, and once the connection is lost it waits to
            # write to a descriptor that may be another connection's by then.
            self._transport.write(b"".join(parts))

    async def drain(self) -> None:
        """Wait while the other side takes less than was written."""
        while self._is_full and not self.over:
            await self._wait()

    def is_quiet(self) -> bool:
        """Whether it is open, and nothing came that was not read."""
        return not self.over and not self._unread and not is_readable(self.info("socket"))

    def info(self, name: str) -> Any:
        """What the transport knows of the connection."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    def end(self) -> None:
        """Send the end, once all is sent.

        :raises OSError: when it is over.
        """
        if self._transport is not None:
            self._transport.write_eof()

    def close(self) -> None:
        """Close it once all is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close it at once; what isn't sent yet is not sent."""
        if not self.over:
            self.over, self._error = True, ConnectionAbortedError()
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # -- called by the transport --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread.append(data)
        before, self._unread_size = self._unread_size, self._unread_size + len(data)
        if before < _UNREAD_MAX <= self._unread_size and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool | None:
        self.over = True
        self._wake()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over:
            self.over, self._error = True, exc
        self._wake()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._wake()
