"""Which address of a host is connected, and that nothing stays of the others, nor of a race that is given up."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from plain_servers import Connection, serving

from leasecap._gate.race import _in_turn, connected
from leasecap._gate.upstream import Origin, Upstreams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from plain_servers import Server


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """It would close what is lost."""
    gc.disable()
    yield
    gc.enable()


@asynccontextmanager
async def silent() -> AsyncIterator[Server]:
    """A server that waits for the end of each connection."""

    async def wait(connection: Connection) -> None:
        await connection.until_closed()

    async with serving(wait) as server:
        yield server


def resolve(monkeypatch: pytest.MonkeyPatch, *servers: Server) -> None:
    """Let each name stand for these."""
    places = [("127.0.0.1", server.port) for server in servers]

    async def found(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place) for place in places]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)


@pytest.mark.parametrize("turns", range(10))
def test_a_connection_that_is_given_up_as_it_is_made_is_closed(monkeypatch: pytest.MonkeyPatch, turns: int) -> None:
    async def main() -> None:
        loop, is_made = asyncio.get_running_loop(), asyncio.Event()
        connect = loop.sock_connect

        async def noted(*arguments: Any) -> None:
            await connect(*arguments)
            is_made.set()

        monkeypatch.setattr(loop, "sock_connect", noted)
        async with silent() as server:
            upstreams = Upstreams({})
            asking = loop.create_task(
                upstreams.send(Origin("http", "127.0.0.1", server.port), b"GET", b"/", [(b"Host", b"h")], None)
            )
            await is_made.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
            await server.served.wait()

    asyncio.run(main())


def test_an_attempt_that_is_given_up_is_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        tried: list[socket.socket] = []

        async def never(connection: socket.socket, _: object) -> None:
            tried.append(connection)
            begun.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(loop, "sock_connect", never)
        connecting = loop.create_task(connected("127.0.0.1", 9))
        await begun.wait()
        connecting.cancel()
        await asyncio.wait([connecting])
        await asyncio.sleep(0)
        assert [each.fileno() for each in tried] == [-1]

    asyncio.run(main())


def test_of_two_that_are_connected_together_one_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        loop, both = asyncio.get_running_loop(), asyncio.Event()
        tried: list[socket.socket] = []
        connect = loop.sock_connect

        async def together(connection: socket.socket, address: Any) -> None:
            await connect(connection, address)
            tried.append(connection)
            if len(tried) == 2:
                both.set()
            await both.wait()

        monkeypatch.setattr(loop, "sock_connect", together)
        async with silent() as one, silent() as other:
            resolve(monkeypatch, one, other)
            with await connected("provider.test", 80) as won:
                lost = one if won.getpeername()[1] == other.port else other
                await lost.served.wait()

    asyncio.run(main())


def test_families_take_turns() -> None:
    assert _in_turn([(6, "a"), (6, "b"), (6, "c"), (4, "d")]) == [(6, "a"), (4, "d"), (6, "b"), (6, "c")]


def test_a_written_out_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with silent() as server:
            resolve(monkeypatch)
            (await connected("127.0.0.1", server.port)).close()

    asyncio.run(main())
