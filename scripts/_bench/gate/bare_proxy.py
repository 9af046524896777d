"""The least that a reverse proxy can do, with the parser that the gate has: no token, no slot, no reading.

``python -m _bench.gate.bare_proxy PORT`` leads to 127.0.0.1:PORT, says its own port, and serves until its standard
input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys

import h11

READ = 1 << 16


async def pass_on(source: asyncio.StreamReader, here: h11.Connection, there: h11.Connection) -> bytes:
    """What to write for the next piece of a message; empty at the end of the connection."""
    while True:
        event = here.next_event()
        if event is h11.NEED_DATA:
            data = await source.read(READ)
            here.receive_data(data)
            if not data:
                return b""
        elif isinstance(event, h11.Request | h11.Response):
            headers = event.headers.raw_items()
            if isinstance(event, h11.Request):
                same = h11.Request(method=event.method, target=event.target, headers=headers)
                return there.send(same) or b""
            return there.send(h11.Response(status_code=event.status_code, reason=event.reason, headers=headers)) or b""
        elif isinstance(event, h11.Data | h11.EndOfMessage):
            return there.send(event) or b""
        else:  # the connection is over
            return b""


async def serve(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, and one to the provider."""
    up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            down, up = h11.Connection(h11.SERVER), h11.Connection(h11.CLIENT)
            while up.our_state is not h11.DONE:
                data = await pass_on(reader, down, up)
                if not data and up.our_state is not h11.DONE:
                    return
                up_writer.write(data)
            while down.our_state is not h11.DONE:
                data = await pass_on(up_reader, up, down)
                if not data and down.our_state is not h11.DONE:
                    return
                writer.write(data)
                await writer.drain()
    finally:
        up_writer.close()
        writer.close()


async def main() -> None:
    port = int(sys.argv[1])
    server = await asyncio.start_server(lambda *pair: serve(port, *pair), "127.0.0.1", 0, backlog=1024)
    print(json.dumps(server.sockets[0].getsockname()[1]), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
