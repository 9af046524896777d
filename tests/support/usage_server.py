"""A provider's usage endpoint on loopback, whose answers a test writes byte by byte; and a proxy that leads to it."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Answer = bytes | Callable[[socket.socket], None]


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def says(value: object) -> bytes:
    return ok(json.dumps(value).encode())


def head(line: str, *headers: str) -> bytes:
    return "".join(f"{text}\r\n" for text in (f"HTTP/1.1 {line}", *headers, "Content-Length: 0", "")).encode()


class UsageServer:
    """
    :ivar answer: what it sends to each request, or what it does with the connection.
    :ivar heads: the heads of the requests that have come.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.heads: list[str] = []
        self.port = 0
        self._open: list[socket.socket] = []

    def serve(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return  # it is closed
            self._open.append(connection)
            threading.Thread(target=self._handle, args=(connection, tls), daemon=True).start()

    def _handle(self, connection: socket.socket, tls: ssl.SSLContext | None) -> None:
        try:
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            head = read_head(connection)
            self.heads.append(head)
            if callable(self.answer):
                self.answer(connection)
            else:
                connection.sendall(self.answer)
        except OSError:
            pass  # the other side has gone
        finally:
            connection.close()

    def close(self) -> None:
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)  # its thread may be reading
            except OSError:
                pass


@contextmanager
def serving(answer: Answer = b"", *, tls: ssl.SSLContext | None = None) -> Iterator[UsageServer]:
    server = UsageServer(answer)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server.port = listening.getsockname()[1]
        threading.Thread(target=server.serve, args=(listening, tls), daemon=True).start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            server.close()


def read_head(connection: socket.socket) -> str:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            raise OSError("it ended before its head")
        head += piece
    return head.decode("latin-1")


def silence(connection: socket.socket) -> None:
    """Send nothing, until the other side goes."""
    connection.recv(1)


def drip(before: bytes) -> Callable[[socket.socket], None]:
    """Send ``before``, and then a byte at a time for as long as somebody takes them."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(before)
        connection.settimeout(0.02)
        while True:
            connection.sendall(b" ")
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                pass

    return answer


def tunnel_to(port: int) -> Callable[[socket.socket], None]:
    """What a proxy does with a CONNECT: it leads to this port, whatever the name was."""

    def answer(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()

    return answer


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(2**16):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
