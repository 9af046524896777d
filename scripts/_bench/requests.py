"""Workload R: what a slot per request adds to a request of httpx2, beside the bare transport in the same run."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

import leasecap.httpx2

from .fleet import scratch
from .measures import median, percentile

PATH = "/v1/messages"
BODY = {"model": "fake-1", "messages": [{"role": "user", "content": "say it " * 300}]}
EVENT = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"' + b"word " * 20 + b'"}}\n\n'
)
PLAIN = b'{"type":"message","content":[{"type":"text","text":"' + b"word " * 200 + b'"}]}'


def measure(number: int, base: str) -> dict[str, dict[str, float]]:
    """One client after another in parts of a tenth; uncontended, on loopback, with kept connections."""
    before = os.environ.get("LEASECAP_HOME")
    with scratch(base) as directory, _server() as url:
        os.environ["LEASECAP_HOME"] = directory
        try:
            found = {}
            for stream in (False, True):
                kind = "a stream" if stream else "plain"
                found[f"Client, {kind}"] = _figures(*_sync(url, number, stream))
                found[f"AsyncClient, {kind}"] = _figures(*asyncio.run(_async(url, number, stream)))
            return found
        finally:
            del os.environ["LEASECAP_HOME"]
            if before is not None:
                os.environ["LEASECAP_HOME"] = before


def _figures(bare: list[float], slots: list[float]) -> dict[str, float]:
    return {
        "added p50 ms": (median(slots) - median(bare)) * 1e3,
        "added p99 ms": (percentile(slots, 0.99) - percentile(bare, 0.99)) * 1e3,
        "bare p50 ms": median(bare) * 1e3,
        "with a slot p50 ms": median(slots) * 1e3,
    }


def _sync(url: str, number: int, stream: bool) -> tuple[list[float], list[float]]:
    took: tuple[list[float], list[float]] = ([], [])
    with httpx2.Client() as bare, leasecap.httpx2.Client("p", limit=4) as slots:
        for turn in range(11):
            for client, times in zip((bare, slots), took, strict=True):
                gc.collect()
                for _ in range(max(number // 10, 1)):
                    began = time.perf_counter()
                    client.post(url + PATH, json={**BODY, "stream": stream})
                    if turn:  # the first part warms up
                        times.append(time.perf_counter() - began)
    return took


async def _async(url: str, number: int, stream: bool) -> tuple[list[float], list[float]]:
    took: tuple[list[float], list[float]] = ([], [])
    async with httpx2.AsyncClient() as bare, leasecap.httpx2.AsyncClient("p", limit=4) as slots:
        for turn in range(11):
            for client, times in zip((bare, slots), took, strict=True):
                gc.collect()
                for _ in range(max(number // 10, 1)):
                    began = time.perf_counter()
                    await client.post(url + PATH, json={**BODY, "stream": stream})
                    if turn:
                        times.append(time.perf_counter() - began)
    return took


@contextmanager
def _server() -> Iterator[str]:
    """A provider in a process of its own."""
    command = [sys.executable, "-m", "_bench.requests"]
    folder = Path(__file__).resolve().parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=folder) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def _head(kind: bytes, *lines: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Type: " + kind, *lines, b"", b""])


def _answer(streams: bool) -> bytes:
    if not streams:
        return _head(b"application/json", b"Content-Length: %d" % len(PLAIN)) + PLAIN
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(EVENT), EVENT) for _ in range(100))
    return _head(b"text/event-stream", b"Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n"


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            writer.write(_answer(b'"stream":true' in body))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _serve() -> None:
    server = await asyncio.start_server(_converse, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
