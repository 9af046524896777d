"""A small provider on loopback that refuses more than its limit in flight, and keeps the record that judges the demo.

It speaks as much of the streaming chat-completions protocol as an agent needs, and writes down by itself how many
requests are in flight: leasecap has no part in the measuring. Run as a process it prints its port and serves until its
standard input ends, so it can't outlive whoever started it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = ["One", "cap", "holds", "for", "all", "of", "us."]
REFUSAL_TAKES = 0.1  # seconds: a refusal is a round trip as well, and it is in flight while it lasts


class Provider(ThreadingHTTPServer):
    """Answers in `shortest` to `longest` seconds; 429 to what arrives while `limit` requests are being answered."""

    daemon_threads = True
    request_queue_size = 128  # with the 5 of the base class the kernel would drop some of a dozen connects at once

    def __init__(self, limit: int, seed: int, shortest: float = 0.3, longest: float = 1.0) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.limit = limit
        self._range = (shortest, longest)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._in_flight = 0
        self._answering = 0
        self._answered = 0
        self._refused = 0
        self._record: list[tuple[float, int, int]] = []

    def arrive(self) -> float | None:
        """Count a request whose headers were read: how long its answer takes (seconds), or None when it is refused."""
        with self._lock:
            self._in_flight += 1
            admitted = self._answering < self.limit
            self._answering += admitted
            self._refused += not admitted
            self._note()
            return self._random.uniform(*self._range) if admitted else None

    def leave(self, *, admitted: bool, complete: bool = True) -> None:
        """Count a request out."""
        with self._lock:
            self._in_flight -= 1
            self._answering -= admitted
            self._answered += admitted and complete
            self._note()

    def measurements(self) -> dict[str, Any]:
        """What happened so far; `record` has (monotonic seconds, in flight, refusals so far) at every change."""
        with self._lock:
            counts = {"in_flight": self._in_flight, "answered": self._answered, "refused": self._refused}
            return counts | {"record": list(self._record)}

    def _note(self) -> None:
        self._record.append((time.monotonic(), self._in_flight, self._refused))


class Conversation(BaseHTTPRequestHandler):
    server: Provider
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/measurements":
            self._reply(200, self.server.measurements())
        else:
            self._reply(404, {"error": {"message": f"nothing at {self.path}"}})

    def do_POST(self) -> None:
        takes = self.server.arrive()
        admitted = takes is not None
        counted = True
        try:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if takes is None:
                time.sleep(REFUSAL_TAKES)
            else:
                self._start_stream()
                for word in ANSWER:
                    time.sleep(takes / len(ANSWER))
                    self._send_event(json.dumps({"choices": [{"delta": {"content": word + " "}}]}))
            # Counted out before the last word is sent: were it after, the agent could read the end and send its next
            # request before this thread runs again, and be refused though it never had two in flight.
            counted = False
            self.server.leave(admitted=admitted)
            if takes is None:
                self._reply(429, {"error": {"type": "rate_limit_error", "message": "too many requests in flight"}})
            else:
                self._send_event("[DONE]")
                self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            self.close_connection = True  # the agent hung up
        finally:
            if counted:
                self.server.leave(admitted=admitted, complete=False)

    def _start_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()

    def _send_event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing: standard error belongs to whoever started the provider."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, required=True, help="requests answered at a time")
    parser.add_argument("--seed", type=int, required=True, help="of how long the answers take")
    parser.add_argument("--shortest", type=float, default=0.3, help="seconds that an answer takes at least")
    parser.add_argument("--longest", type=float, default=1.0, help="and at most")
    options = parser.parse_args()
    with Provider(options.limit, options.seed, options.shortest, options.longest) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        print(provider.server_port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
