"""Workload O: many requests at once, of which a few are let through at a time."""

from __future__ import annotations

import asyncio
import json
import time

from ..fleet import scratch
from . import payload, ways
from .added import GATE
from .client import Client, is_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .ways import Way


def drain(number: int, limit: int, lag: float, base: str) -> dict[str, dict[str, float]]:
    """Seconds until all are answered, over the least in which they could be, and the most memory that it took."""
    with scratch(base) as directory, ways.provider(lag) as provider, ways.gate(directory, provider, limit) as way:
        request = payload.request(way.port, payload.PLAIN, payload.question(stream=False), way.prefix)
        with Client(way.port) as client:
            client.ask(request)  # what is loaded on first use isn't measured here
        most_at_once(provider)
        before, cpu = ways.memory(way.pid)[0], ways.cpu_seconds(way.pid)
        begin = time.perf_counter()
        asyncio.run(_all(way, request, number))
        took = time.perf_counter() - begin
        most, answered = most_at_once(provider)
        if answered != number:
            raise RuntimeError(f"{answered} of {number} requests reached the provider")
        return {
            GATE: {
                "s": took,
                "over the least": took / (number / limit * lag),
                "most at once": most,
                "MiB before": before,
                "peak MiB": ways.memory(way.pid)[1],
                "CPU ms/request": (ways.cpu_seconds(way.pid) - cpu) / number * 1e3,
            }
        }


async def _all(way: Way, request: bytes, number: int) -> None:
    await asyncio.gather(*(_ask(way.port, request) for _ in range(number)))


async def _ask(port: int, request: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(request)
    head = b""
    while not head:  # those of 1xx only say that it waits
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 1"):
            head = b""
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"not answered: {head!r}")
    body = b""
    while not is_whole(head, body):
        body += await reader.read(1 << 16)
    writer.close()


def most_at_once(provider: Way) -> tuple[int, int]:
    """That were with the provider, and how many it has answered, since this was asked last."""
    with Client(provider.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")
        most, answered = json.loads(client.answer())
        return most, answered
