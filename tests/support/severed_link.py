"""A way to a server that can stop to let anything through while all its connections stay open."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class SeveredLink:
    """Listens on loopback, and passes on to a server what comes, both ways.

    :ivar port: where it listens.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._swallowed = threading.Event()
        self._sockets: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def swallow(self) -> None:
        """Let nothing through on the connections that there are; later ones work."""
        self._swallowed.set()
        self._swallowed = threading.Event()

    def lead_to(self, port: int) -> None:
        """Lead to another server from now on, as an address that is moved does: connections that there are break."""
        self._to = port
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._to))
                except OSError:  # nobody is there: that is seen at the near end
                    near.close()
                    continue
                self._sockets += (near, far)
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(source, target, self._swallowed), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, swallowed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not swallowed.is_set():
                    target.sendall(data)
            if not swallowed.is_set():
                target.shutdown(socket.SHUT_WR)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._accepting.join()
