"""A provider that takes no time of its own, or as long as it is told; it counts what is in flight.

``python -m _bench.gate.provider [LAG]`` says its port and serves until its standard input ends. A GET is answered with
``[most at once, answered]``, and both begin anew.
"""

from __future__ import annotations

import asyncio
import json
import sys

from .payload import CHUNKS, LAST_CHUNK, STREAM_HEAD, WHOLE, as_json


class Provider:
    def __init__(self, lag: float) -> None:
        self.lag = lag
        self.now = self.most = self.answered = 0

    def counted(self) -> bytes:
        found = as_json([self.most, self.answered])
        self.most = self.answered = 0
        return found


class Conversation(asyncio.Protocol):
    """One connection."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._received = bytearray()
        self._wanted = 0  # bytes of the request that is coming in; 0: its head isn't whole

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._wanted:
            head, found, _ = bytes(self._received).partition(b"\r\n\r\n")
            if not found:
                return
            length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            self._wanted = len(head) + 4 + int(length or b"0")
        if len(self._received) >= self._wanted:
            request = bytes(self._received[: self._wanted])
            del self._received[: self._wanted]
            self._wanted = 0
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        if request.startswith(b"GET"):
            self._transport.write(self._provider.counted())
            return
        self._provider.now += 1
        self._provider.most = max(self._provider.most, self._provider.now)
        streams = b'"stream": true' in request or b'"stream":true' in request
        if self._provider.lag:
            asyncio.get_running_loop().call_later(self._provider.lag, self._end, streams)
        else:
            self._end(streams)

    def _end(self, streams: bool) -> None:
        # Counted out before its last byte: whoever has that may send the next request before this goes on.
        self._provider.now -= 1
        self._provider.answered += 1
        if streams:
            self._transport.write(STREAM_HEAD)
            for chunk in CHUNKS:  # each on its way before the next, as they come from a model
                self._transport.write(chunk)
            self._transport.write(LAST_CHUNK)
        else:
            self._transport.write(WHOLE)


async def main() -> None:
    loop = asyncio.get_running_loop()
    provider = Provider(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0)
    server = await loop.create_server(lambda: Conversation(provider), "127.0.0.1", 0, backlog=1024)
    print(json.dumps(server.sockets[0].getsockname()[1]), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
