"""A way to a server that takes time: what comes is passed on a while later, in both directions.

``python -m _bench.server.relay PORT DELAY`` leads to 127.0.0.1:PORT, says its own port, and serves until its standard
input ends. It has a loop of its own since asyncio's timers, as those of epoll, count milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path

from ..measures import median

READ = 1 << 16
MOST = 400  # connections: `select` takes no descriptor above 1023
PATIENCE = 5.0  # seconds for whoever doesn't read what is passed on


class Relay:
    """Connections in pairs, and what is on its way between them.

    :ivar port: its own.
    """

    def __init__(self, port: int, delay: float, late: float = 0.0) -> None:
        """
        :param delay: seconds that each piece takes in one direction.
        :param late: by how much the kernel wakes this process too late.
        """
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=MOST)
        self.port = int(self._listener.getsockname()[1])
        self._to, self._delay = port, delay - late
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._under_way: deque[tuple[float, socket.socket, socket.socket, bytes]] = deque()

    def serve(self, until_readable: int) -> None:
        """Pass on until something can be read from that descriptor, or its end."""
        while True:
            watched: list[int | socket.socket] = [until_readable, self._listener, *self._pairs]
            ready = select.select(watched, [], [], self._rest())[0]
            now = time.monotonic()
            for each in ready:
                if each is self._listener:
                    self._accept()
                elif isinstance(each, socket.socket):
                    self._receive(each, now)
                else:
                    return
            self._deliver()

    def close(self) -> None:
        """Close all connections."""
        self._listener.close()
        for one in {each for _, *pair, _ in self._under_way for each in pair} | {*self._pairs}:
            one.close()

    def _rest(self) -> float | None:
        return max(self._under_way[0][0] - time.monotonic(), 0.0) if self._under_way else None

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if len(self._pairs) >= 2 * MOST:
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._to), timeout=PATIENCE)
        except OSError:
            client.close()
            return
        for one, other in ((client, server), (server, client)):
            one.settimeout(PATIENCE)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs[one] = other

    def _receive(self, source: socket.socket, now: float) -> None:
        try:
            data = source.recv(READ)
        except OSError:
            data = b""
        target = self._pairs[source]
        if not data:  # it takes its time as well
            del self._pairs[source]
        self._under_way.append((now + self._delay, source, target, data))

    def _deliver(self) -> None:
        while self._under_way and self._under_way[0][0] <= time.monotonic():
            _, source, target, data = self._under_way.popleft()
            try:
                if data:
                    target.sendall(data)
                    continue
            except OSError:
                pass  # its end is gone, or reads nothing
            for each in (source, target):
                self._pairs.pop(each, None)
                each.close()


def lateness(delay: float) -> float:
    """By how many seconds a wait of ``delay`` takes longer."""
    ends = []
    for _ in range(21):
        began = time.monotonic()
        select.select([], [], [], delay)
        ends.append(time.monotonic() - began - delay)
    return median(ends)


def main() -> None:
    with contextlib.suppress(OSError):  # else the kernel may wake it a twentieth of a millisecond later
        Path("/proc/self/timerslack_ns").write_text("1")
    delay = float(sys.argv[2])
    relay = Relay(int(sys.argv[1]), delay, min(lateness(delay), delay / 2))
    print(json.dumps(relay.port), flush=True)
    relay.serve(sys.stdin.fileno())


if __name__ == "__main__":
    main()
