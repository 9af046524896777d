"""Passes what comes to a port on to the same port of a host, and back, each chunk so many milliseconds late."""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, late: float) -> None:
    """Until the end of what comes."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            loop.call_later(late, target.write, data)
    loop.call_later(late, target.close)


async def main(host: str, port: int, late: float) -> None:
    """Until the end of standard input, so that it ends when its starter does."""
    running: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        for ends in ((reader, back), (there, writer)):
            task = asyncio.create_task(pass_on(*ends, late))
            running.add(task)
            task.add_done_callback(running.discard)

    async with await asyncio.start_server(accept, "127.0.0.1", port):
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000))
