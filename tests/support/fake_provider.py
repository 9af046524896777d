"""A provider on loopback: a hard limit that can be changed, finished requests that are counted for a while longer.

Run as a process, it prints its port, and serves until its standard input ends.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHORTEST, LONGEST = 0.3, 0.6  # seconds that an answer takes
REFUSAL = 0.02


class Provider(ThreadingHTTPServer):
    """Refuses what arrives while it counts ``limit`` requests."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, limit: int, lag: float, retry_after: str) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.limit, self.lag, self.retry_after = limit, lag, retry_after
        self.lock = threading.Lock()
        self.counted = 0
        self.arrived: list[float] = []
        self.refused: list[float] = []
        self.used = self.room = 0.0
        self._since = time.monotonic()

    def count(self, change: int) -> None:
        """One more or one less, or none: adds up how much of the limit was used until now."""
        now = time.monotonic()
        self.used += min(self.counted, self.limit) * (now - self._since)
        self.room += self.limit * (now - self._since)
        self._since = now
        self.counted += change

    def forget(self) -> None:
        """One less, as late as the provider finds out."""
        time.sleep(self.lag)
        with self.lock:
            self.count(-1)


class Conversation(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        """Its own record."""
        server = self.server
        with server.lock:
            server.count(0)
            found = {
                "now": time.monotonic(),
                "arrived": server.arrived,
                "refused": server.refused,
                "used": server.used,
                "room": server.room,
            }
            body = json.dumps(found)
        self._answer(200, body)

    def do_PUT(self) -> None:
        """A new limit."""
        with self.server.lock:
            self.server.count(0)
            self.server.limit = int(self.path.strip("/"))
        self._answer(200)

    def do_POST(self) -> None:
        server = self.server
        with server.lock:
            accepted = server.counted < server.limit
            server.arrived.append(time.monotonic())
            if accepted:
                server.count(1)
            else:
                server.refused.append(time.monotonic())
        if not accepted:
            time.sleep(REFUSAL)
            self._answer(429)
            return
        time.sleep(random.uniform(SHORTEST, LONGEST))
        threading.Thread(target=server.forget, daemon=True).start()
        self._answer(200)

    def _answer(self, status: int, body: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 429 and self.server.retry_after:
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing."""


def main() -> None:
    limit, lag, retry_after = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    with Provider(limit, lag, retry_after) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        print(provider.server_port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
