"""What a client's connection writes, and when."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from leasecap._gate import downstream
from leasecap._gate.downstream import ClientConnection, Downstream
from leasecap._gate.patience import LATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = [(b"content-type", b"text/plain"), (b"transfer-encoding", b"chunked")]


class Writer(asyncio.Transport):
    """Keeps what is written to it, each time by itself."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2), "socket": self})
        self.written: list[bytes] = []

    def setsockopt(self, *option: object) -> None:
        """As a socket has it."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.written.append(b"ABORT")


def serving(what: Callable[[Downstream, Writer], Coroutine[Any, Any, None]]) -> None:
    """Do this once a request has come and its answer has begun."""

    async def nothing(_: ClientConnection) -> None:
        pass

    async def main() -> None:
        connection, writer = ClientConnection(nothing), Writer()
        connection.connection_made(writer)
        connection.data_received(REQUEST)
        down = Downstream(connection)
        assert await down.next_request() is not None
        async for _ in down.body():
            raise AssertionError("there is none")
        down.start(200, b"OK", HEAD)
        await what(down, writer)

    asyncio.run(main())


def test_pieces_without_a_pause_go_out_together_and_others_at_once() -> None:
    async def check(down: Downstream, writer: Writer) -> None:
        await down.send(b"one")
        await down.send(b"two")
        assert writer.written == []
        await asyncio.sleep(0)
        [first] = writer.written
        assert first.endswith(b"3\r\none\r\n3\r\ntwo\r\n")
        await down.send(b"three")
        await asyncio.sleep(0)
        assert writer.written[1:] == [b"5\r\nthree\r\n"]

    serving(check)


def test_pieces_that_are_many_do_not_gather() -> None:
    async def check(down: Downstream, writer: Writer) -> None:
        await down.send(b"x" * (1 << 16))
        assert len(writer.written) == 1

    serving(check)


def test_end_of_an_answer_goes_out_with_its_last_piece_and_once() -> None:
    async def check(down: Downstream, writer: Writer) -> None:
        await down.send(b"one")
        assert await down.end()
        await asyncio.sleep(0)
        [all_of_it] = writer.written
        assert all_of_it.endswith(b"3\r\none\r\n0\r\n\r\n")

    serving(check)


def test_break_comes_after_the_pieces_that_were_sent() -> None:
    async def check(down: Downstream, writer: Writer) -> None:
        await down.send(b"one")
        down.abort()
        assert writer.written[0].endswith(b"3\r\none\r\n")
        assert writer.written[1:] == [b"ABORT"]

    serving(check)


def test_break_before_any_piece_sends_no_head() -> None:
    async def check(down: Downstream, writer: Writer) -> None:
        down.abort()
        assert writer.written == [b"ABORT"]

    serving(check)


def test_a_slow_client_is_waited_for_before_more_is_taken() -> None:
    async def check(down: Downstream, writer: Writer) -> None:
        await down.flush()
        connection = down._wire
        connection.pause_writing()
        sending = asyncio.create_task(down.send(b"one"))
        await asyncio.sleep(0)
        assert not sending.done()
        connection.resume_writing()
        await sending
        await down.flush()
        assert writer.written[-1] == b"3\r\none\r\n"

    serving(check)


def test_what_has_come_while_the_gate_was_stopped_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-Z in the middle of an upload: the rest lies in the socket when the time is over."""
    monkeypatch.setattr(downstream, "HEAD_TIMEOUT", 0.1)
    monkeypatch.setattr(downstream, "BODY_TIMEOUT", 0.1)

    async def nothing(_: ClientConnection) -> None:
        pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        connection = ClientConnection(nothing)
        connection.connection_made(Writer())
        down = Downstream(connection)

        def stop_and_send(data: bytes) -> None:
            time.sleep(LATE + 0.2)
            loop.call_later(0.01, connection.data_received, data)

        connection.data_received(b"POST / HTTP/1.1\r\nHost: x\r\n")
        loop.call_later(0.01, stop_and_send, b"Content-Length: 2\r\n\r\n")
        assert await down.next_request() is not None
        loop.call_later(0.01, stop_and_send, b"{}")
        assert [piece async for piece in down.body()] == [b"{}"]

    asyncio.run(main())
