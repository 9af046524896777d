"""A server that says nothing, or what a test has it say, whatever it is asked."""

from __future__ import annotations

import socketserver
import threading
from types import TracebackType
from typing import Self


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        owner = self.server.owner
        owner.connections += 1
        self.request.sendall(owner.greeting)
        while self.request.recv(65536):
            self.request.sendall(owner.answers.pop(0) if owner.answers else b"")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    owner: HungServer


class HungServer:
    """On loopback.

    :ivar greeting: said to each connection at once.
    :ivar connections: how many have been made to it.
    :ivar answers: said to what comes, one after the other, on whatever connection; nothing after the last.
    """

    def __init__(self) -> None:
        self.greeting = b""
        self.connections = 0
        self.answers: list[bytes] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.server_address[1]}/0"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
