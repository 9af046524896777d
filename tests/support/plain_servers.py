"""Servers on loopback that a test writes byte by byte: raw ones, with TLS, and proxies before them."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._gate.upstream import Answer


PATIENCE = 20.0
"""Seconds until what should happen counts as not happening."""

Handler = Callable[["Connection"], Awaitable[None]]


class Connection:
    """One that a server has accepted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read_head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def write(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    async def answer(self, content: bytes) -> bytes:
        """To a request without a body; returns its head."""
        head = await self.read_head()
        await self.write(content)
        return head

    async def until_closed(self) -> bytes:
        """What still comes until the other side closes, or breaks off."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    def reset(self) -> None:
        """Close so that the other side gets a reset."""
        self.writer.transport.abort()


class Server:
    def __init__(self) -> None:
        self.port = 0
        self.accepted = 0
        self.served = asyncio.Event()
        """Set whenever a handler has come to its end."""


@asynccontextmanager
async def serving(
    handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    """Serve with a handler for each connection, which is closed at the handler's end; its failures fail the test."""
    server = Server()
    failures: list[Exception] = []
    tasks = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.accepted += 1
        try:
            await handler(Connection(reader, writer))
        except asyncio.CancelledError:
            pass  # asyncio's streams would print it
        except Exception as error:
            failures.append(error)
        finally:
            writer.close()
            server.served.set()

    listening = await asyncio.start_server(serve, host, 0, ssl=tls, limit=2**18)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        async with asyncio.timeout(PATIENCE):
            yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert failures == []


async def whole(answer: Answer) -> bytes:
    """The body of an answer that the gate got; it is closed then."""
    pieces = []
    try:
        while piece := await answer.read():
            pieces.append(piece)
    finally:
        answer.close()
    return b"".join(pieces)


def tunnel(port: int, heads: list[bytes]) -> Handler:
    """An HTTP proxy that takes CONNECT for any name, and leads to this port."""

    async def handle(client: Connection) -> None:
        heads.append(await client.answer(b"HTTP/1.1 200 Connection established\r\n\r\n"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(_copy(client.reader, writer), _copy(reader, client.writer))
        finally:
            writer.close()

    return handle


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while content := await source.read(2**16):
            target.write(content)
            await target.drain()
    except ConnectionError:
        pass
    target.close()


def make_certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the certificate to trust: for provider.test and loopback, made by openssl here."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=provider.test"),
            *("-addext", "subjectAltName=DNS:provider.test,IP:127.0.0.1,IP:::1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate
