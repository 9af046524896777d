"""A client that does as little as it can, so that what is measured is what stands behind it."""

from __future__ import annotations

import socket
import time
from typing import NamedTuple, Self

READ = 1 << 18
PATIENCE = 30.0  # seconds without anything of an answer


class Took(NamedTuple):
    """Seconds until the first bytes of an answer, and until it was whole."""

    first: float
    whole: float


class Client:
    """One connection, kept."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._first = 0.0

    def ask(self, request: bytes) -> Took:
        begin = time.perf_counter()
        self.send(request)
        self.answer()
        return Took(self._first - begin, time.perf_counter() - begin)

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def answer(self) -> bytes:
        """The body of the answer, framing and all."""
        received = b""
        while True:
            piece = self._socket.recv(READ)
            if not piece:
                raise RuntimeError(f"the connection ended after {received[-200:]!r}")
            if not received:
                self._first = time.perf_counter()
            received += piece
            head, found, body = received.partition(b"\r\n\r\n")
            if found and is_whole(head, body):
                if b" 200 " not in head.split(b"\r\n", 1)[0]:
                    raise RuntimeError(f"not answered: {received[:500]!r}")
                return body

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def is_whole(head: bytes, body: bytes) -> bool:
    """Whether the body of an answer has come to its end."""
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
    return len(body) >= int(length) if length else body.endswith(b"\r\n0\r\n\r\n")
