from __future__ import annotations

import asyncio
import gzip
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager

import pytest
from plain_servers import Connection, Server, serving, whole

from leasecap._gate import route, upstream
from leasecap._gate.route import UpstreamError
from leasecap._gate.upstream import Answer, Origin, Upstreams
from leasecap._gate.wire import Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
HEADERS = [(b"Host", b"h")]


@asynccontextmanager
async def opened() -> AsyncIterator[Upstreams]:
    upstreams = Upstreams({})
    try:
        yield upstreams
    finally:
        upstreams.close()


async def get(upstreams: Upstreams, server: Server, target: bytes = b"/", method: bytes = b"GET") -> Answer:
    return await upstreams.send(Origin("http", "127.0.0.1", server.port), method, target, HEADERS, None)


async def post(upstreams: Upstreams, server: Server, body: bytes = b"{}") -> Answer:
    headers = [*HEADERS, (b"Content-Length", b"%d" % len(body))]
    return await upstreams.send(Origin("http", "127.0.0.1", server.port), b"POST", b"/", headers, body)


def run(
    handler: Callable[[Connection], Awaitable[None]], client: Callable[[Upstreams, Server], Awaitable[None]]
) -> None:
    """A server with this handler, and a client of it."""

    async def main() -> None:
        async with opened() as upstreams, serving(handler) as server:
            await client(upstreams, server)

    asyncio.run(main())


class Scripted:
    """Gives each request the next answer, on whatever connection it comes, and keeps the heads."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []

    async def __call__(self, connection: Connection) -> None:
        while not connection.reader.at_eof():
            try:
                head = await connection.read_head()
            except asyncio.IncompleteReadError:
                return
            self.heads.append(head)
            await connection.write(self.answers.pop(0))


def test_a_request_goes_up_as_it_is() -> None:
    server = Scripted(OK)
    headers = [(b"HOST", b"a.b:1"), (b"x-API-key", b"k"), (b"Accept", b"1"), (b"accept", b"2"), (b"X-Empty", b"")]
    target = b'/v1/a%2Fb/..//x|y?q="z"&%zz=\\^`{}'

    async def client(upstreams: Upstreams, at: Server) -> None:
        answer = await upstreams.send(Origin("http", "127.0.0.1", at.port), b"GET", target, headers, None)
        assert await whole(answer) == b"hi"

    run(server, client)
    lines = [b"GET " + target + b" HTTP/1.1", *(name + b": " + value for name, value in headers), b"", b""]
    assert server.heads == [b"\r\n".join(lines)]


def test_an_answer_comes_back_as_it_is() -> None:
    body = gzip.compress(b"some text")
    lines = [b"X-B: 2", b"x-b: 1", b"content-ENCODING: gzip", b"Set-Cookie: a", b"SET-cookie: b"]
    head = b"\r\n".join([b"HTTP/1.1 529 Site is overloaded", *lines, b"content-length: %d" % len(body), b"", b""])

    async def client(upstreams: Upstreams, server: Server) -> None:
        answer = await get(upstreams, server)
        assert (answer.status, answer.reason) == (529, b"Site is overloaded")
        assert [name + b": " + value for name, value in answer.headers][:-1] == lines
        assert await whole(answer) == body

    run(Scripted(head + body), client)


def test_large_heads_pass_both_ways() -> None:
    large = b"x" * 60_000
    server = Scripted(b"HTTP/1.1 200 OK\r\nX-Large: " + large + b"\r\nContent-Length: 0\r\n\r\n")

    async def client(upstreams: Upstreams, at: Server) -> None:
        headers = [*HEADERS, (b"X-Large", large)]
        answer = await upstreams.send(Origin("http", "127.0.0.1", at.port), b"GET", b"/", headers, None)
        assert answer.headers[0] == (b"X-Large", large)
        assert await whole(answer) == b""

    run(server, client)
    assert large in server.heads[0]


def has_no_connection(upstreams: Upstreams) -> bool:
    return not upstreams._busy and not any(upstreams._idle.values())


async def three_parts() -> AsyncIterator[bytes]:
    for part in (b"one", b"two", b"three"):
        yield part


@pytest.mark.parametrize(
    ("framing", "received"),
    [
        ((b"transfer-encoding", b"chunked"), b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"),
        ((b"Content-Length", b"11"), b"onetwothree"),
    ],
)
def test_a_body_goes_up_in_the_framing_that_was_given(framing: tuple[bytes, bytes], received: bytes) -> None:
    async def handler(connection: Connection) -> None:
        assert b": ".join(framing) in await connection.read_head()
        assert await connection.reader.readexactly(len(received)) == received
        await connection.write(OK)
        assert await connection.until_closed() == b""

    async def client(upstreams: Upstreams, server: Server) -> None:
        origin = Origin("http", "127.0.0.1", server.port)
        answer = await upstreams.send(origin, b"POST", b"/", [*HEADERS, framing], three_parts())
        assert await whole(answer) == b"hi"

    run(handler, client)


def test_a_head_goes_up_with_the_beginning_of_its_body(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    write = Wire.write

    def noted(wire: Wire, parts: Sequence[bytes | bytearray]) -> None:
        written.append(b"".join(parts))
        write(wire, parts)

    async def client(upstreams: Upstreams, server: Server) -> None:
        monkeypatch.setattr(Wire, "write", noted)
        origin = Origin("http", "127.0.0.1", server.port)
        for body in (b"onetwothree", three_parts()):
            written.clear()
            await whole(await upstreams.send(origin, b"POST", b"/", [*HEADERS, (b"Content-Length", b"11")], body))
            assert written[0].startswith(b"POST / ") and b"\r\n\r\none" in written[0]

    async def handler(connection: Connection) -> None:
        for _ in range(2):
            await connection.read_head()
            await connection.reader.readexactly(11)
            await connection.write(OK)

    run(handler, client)


def test_parts_of_an_answer_come_one_by_one() -> None:
    seen = asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await seen.wait()
        await connection.write(b"6\r\nsecond\r\n0\r\n\r\n")

    async def client(upstreams: Upstreams, server: Server) -> None:
        answer = await get(upstreams, server)
        assert await answer.read() == b"first"
        seen.set()
        assert [await answer.read(), await answer.read()] == [b"second", b""]

    run(handler, client)


def test_hints_before_an_answer_are_not_the_answer() -> None:
    async def client(upstreams: Upstreams, server: Server) -> None:
        answer = await get(upstreams, server)
        assert answer.status == 200
        assert await whole(answer) == b"hi"

    run(Scripted(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + OK), client)


def test_parts_of_an_answer_that_come_together_are_one() -> None:
    body = b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"

    async def client(upstreams: Upstreams, server: Server) -> None:
        answer = await get(upstreams, server)
        assert [await answer.read(), await answer.read()] == [b"onetwo", b""]
        answer.close()
        assert not has_no_connection(upstreams)

    run(Scripted(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body), client)


@pytest.mark.parametrize(
    ("method", "status"), [(b"GET", b"204 No Content"), (b"GET", b"304 Not Modified"), (b"HEAD", b"200 OK")]
)
def test_a_connection_serves_one_request_after_the_other(method: bytes, status: bytes) -> None:
    bodiless = b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n"

    async def client(upstreams: Upstreams, server: Server) -> None:
        for expected, how in ((b"hi", b"GET"), (b"", method), (b"hi", b"GET")):
            assert await whole(await get(upstreams, server, method=how)) == expected
        assert server.accepted == 1

    run(Scripted(OK, bodiless, OK), client)


def test_requests_at_the_same_time_have_a_connection_each() -> None:
    both = asyncio.Barrier(12)

    async def handler(connection: Connection) -> None:
        await connection.read_head()
        await both.wait()
        await connection.write(OK)
        await connection.until_closed()

    async def client(upstreams: Upstreams, server: Server) -> None:
        answers = await asyncio.gather(*[get(upstreams, server) for _ in range(12)])
        assert [await whole(answer) for answer in answers] == [b"hi"] * 12

    run(handler, client)


def test_a_connection_that_the_server_closed_while_idle_is_not_used() -> None:
    kept = asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.answer(OK)
        await kept.wait()

    async def client(upstreams: Upstreams, server: Server) -> None:
        for _ in range(3):
            assert await whole(await post(upstreams, server, b"")) == b"hi"
            [connection] = upstreams._idle[Origin("http", "127.0.0.1", server.port)]
            assert not connection.is_over()
            kept.set()
            while not connection.is_over():  # the end has to arrive
                await asyncio.sleep(0)
            kept.clear()
        assert server.accepted == 3

    run(handler, client)


@pytest.mark.linux("elsewhere the end may take a moment to arrive")
def test_an_end_is_seen_that_the_loop_has_not_read_yet() -> None:
    def serve(listening: socket.socket) -> socket.socket:
        connection, _ = listening.accept()
        connection.recv(1000)
        connection.sendall(OK)
        return connection

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            async with opened() as upstreams:
                serving = asyncio.create_task(asyncio.to_thread(serve, listening))
                origin = Origin("http", *listening.getsockname())
                assert await whole(await upstreams.send(origin, b"GET", b"/", HEADERS, None)) == b"hi"
                [connection] = upstreams._idle[origin]
                with await serving:
                    assert not connection.is_over()
                assert connection.is_over()

    asyncio.run(main())


def test_idle_connections_that_are_over_are_closed_with_the_next_answer() -> None:
    end = asyncio.Event()

    async def handler(connection: Connection) -> None:
        head = await connection.answer(OK)
        if head.startswith(b"GET /first "):
            await end.wait()
            return
        await connection.answer(OK)
        await connection.until_closed()

    async def client(upstreams: Upstreams, server: Server) -> None:
        for answer in [await get(upstreams, server, target) for target in (b"/first", b"/second")]:
            assert await whole(answer) == b"hi"
        kept = upstreams._idle[Origin("http", "127.0.0.1", server.port)]
        first, second = kept
        end.set()
        while not first.is_over():
            await asyncio.sleep(0)
        assert await whole(await get(upstreams, server)) == b"hi"
        assert kept == [second]

    run(handler, client)


def test_an_idle_connection_is_kept_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_KEPT", -1)

    async def client(upstreams: Upstreams, server: Server) -> None:
        for _ in range(2):
            assert await whole(await get(upstreams, server)) == b"hi"
        assert server.accepted == 2

    run(Scripted(OK, OK), client)


def test_an_idle_connection_is_not_kept_while_the_machine_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    asleep = 0
    clock = upstream._boot_clock
    monkeypatch.setattr(upstream, "_boot_clock", lambda: clock() + asleep)

    async def client(upstreams: Upstreams, server: Server) -> None:
        nonlocal asleep
        for slept in (0, 0, 8 * 3600 * 10**9):
            asleep += slept
            assert await whole(await get(upstreams, server)) == b"hi"
        assert server.accepted == 2

    run(Scripted(OK, OK, OK), client)


def test_routers_are_kept_from_forgetting_a_connection() -> None:
    async def client(upstreams: Upstreams, server: Server) -> None:
        answer = await get(upstreams, server)
        [connection] = upstreams._busy
        transport = connection.wire._transport
        assert transport is not None
        assert transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
        await whole(answer)

    run(Scripted(OK), client)


def test_a_fault_comes_out_as_it_is_and_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(connection: Connection) -> None:
        assert await connection.until_closed() == b""

    def fails(*_: object) -> None:
        raise RuntimeError("a fault")

    async def client(upstreams: Upstreams, server: Server) -> None:
        monkeypatch.setattr(route.Route, "request", fails)
        with pytest.raises(RuntimeError, match="a fault"):
            await get(upstreams, server)
        assert has_no_connection(upstreams)
        await server.served.wait()

    run(handler, client)


class BreaksWhenUsedAgain:
    def __init__(self) -> None:
        self.requests = 0

    async def __call__(self, connection: Connection) -> None:
        self.requests += 1
        await connection.answer(OK)
        if self.requests == 1:
            await connection.read_head()
            self.requests += 1


def test_what_changes_nothing_is_sent_again_when_a_kept_connection_breaks() -> None:
    server = BreaksWhenUsedAgain()

    async def client(upstreams: Upstreams, at: Server) -> None:
        for _ in range(2):
            assert await whole(await get(upstreams, at)) == b"hi"
        assert (at.accepted, server.requests) == (2, 3)

    run(server, client)


def test_nothing_else_is_sent_again() -> None:
    server = BreaksWhenUsedAgain()

    async def client(upstreams: Upstreams, at: Server) -> None:
        await whole(await get(upstreams, at))
        with pytest.raises(UpstreamError) as caught:
            await post(upstreams, at)
        assert caught.value.kind == "broken"
        assert (at.accepted, server.requests) == (1, 2)

    run(server, client)


def test_a_new_connection_that_breaks_is_not_tried_again() -> None:
    async def handler(connection: Connection) -> None:
        await connection.read_head()

    async def client(upstreams: Upstreams, server: Server) -> None:
        with pytest.raises(UpstreamError, match="before it answered") as caught:
            await get(upstreams, server)
        assert (caught.value.kind, server.accepted) == ("broken", 1)

    run(handler, client)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100\r\n\r\nsome", b"Transfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"]
)
@pytest.mark.parametrize("reset", [False, True])
def test_a_body_that_breaks_off_never_ends_as_if_it_were_whole(framing: bytes, reset: bool) -> None:
    arrived = asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.answer(b"HTTP/1.1 200 OK\r\n" + framing)
        await arrived.wait()
        if reset:
            connection.reset()

    async def client(upstreams: Upstreams, server: Server) -> None:
        answer = await get(upstreams, server)
        assert await answer.read() == b"some"
        arrived.set()
        with pytest.raises(UpstreamError, match="in the middle") as caught:
            await answer.read()
        assert caught.value.kind == "broken"

    run(handler, client)


@pytest.mark.parametrize(
    "answer", [b"SECRET junk\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\n"]
)
def test_what_is_not_http_is_malformed_and_not_quoted(answer: bytes) -> None:
    async def client(upstreams: Upstreams, server: Server) -> None:
        with pytest.raises(UpstreamError, match="isn't HTTP") as caught:
            await whole(await get(upstreams, server))
        assert caught.value.kind == "malformed"
        assert "SECRET" not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None

    run(Scripted(answer), client)


def test_a_request_that_is_not_http_reaches_nobody_and_is_not_quoted() -> None:
    server = Scripted()

    async def client(upstreams: Upstreams, at: Server) -> None:
        headers = [*HEADERS, (b"Authorization", b"SECRET\r\nx: y")]
        with pytest.raises(UpstreamError, match="can't be written") as caught:
            await upstreams.send(Origin("http", "127.0.0.1", at.port), b"GET", b"/", headers, None)
        assert caught.value.kind == "malformed"
        assert "SECRET" not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None

    run(server, client)
    assert server.heads == []


def test_what_the_body_raises_comes_out_and_breaks_the_request() -> None:
    broken = asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.read_head()
        assert await connection.until_closed() == b"3\r\none\r\n"
        broken.set()

    async def client(upstreams: Upstreams, server: Server) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            raise ConnectionResetError("the client is gone")

        headers = [*HEADERS, (b"Transfer-Encoding", b"chunked")]
        with pytest.raises(ConnectionResetError, match="the client is gone"):
            await upstreams.send(Origin("http", "127.0.0.1", server.port), b"POST", b"/", headers, body())
        await broken.wait()

    run(handler, client)


@pytest.mark.parametrize("when", ["before the head", "before the body", "while nobody reads"])
def test_a_request_that_is_given_up_is_gone_at_the_server_at_once(when: str) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.read_head()
        if when != "before the head":
            await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi")
        arrived.set()
        assert await connection.until_closed() == b""
        gone.set()

    async def client(upstreams: Upstreams, server: Server) -> None:
        read = asyncio.Event()

        async def use() -> None:
            answer = await get(upstreams, server)
            try:
                while await answer.read() and when != "while nobody reads":
                    read.set()
            finally:
                answer.close()

        task = asyncio.create_task(use())
        await arrived.wait()
        if when == "before the body":
            await read.wait()
        if when != "while nobody reads":
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == (when != "while nobody reads")
        await gone.wait()
        assert has_no_connection(upstreams)

    run(handler, client)


def test_closing_ends_what_is_idle_and_what_is_in_use() -> None:
    async def handler(connection: Connection) -> None:
        head = await connection.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
        if head.startswith(b"GET /whole "):
            await connection.write(b"thing")
        assert await connection.until_closed() == b""

    async def client(upstreams: Upstreams, server: Server) -> None:
        in_use = await get(upstreams, server, b"/part")
        assert await in_use.read() == b"some"
        assert await whole(await get(upstreams, server, b"/whole")) == b"something"
        upstreams.close()
        assert not any(upstreams._idle.values())
        with pytest.raises(UpstreamError, match="in the middle"):
            await in_use.read()
        assert has_no_connection(upstreams)

    run(handler, client)


def test_an_answer_that_ends_with_its_connection_is_not_ended_by_closing() -> None:
    async def handler(connection: Connection) -> None:
        await connection.answer(b"HTTP/1.1 200 OK\r\n\r\nsome")
        assert await connection.until_closed() == b""

    async def client(upstreams: Upstreams, server: Server) -> None:
        answer = await get(upstreams, server)
        assert await answer.read() == b"some"
        upstreams.close()
        with pytest.raises(UpstreamError, match="in the middle"):
            await answer.read()

    run(handler, client)


def test_what_comes_behind_an_answer_is_not_taken_for_the_next_one() -> None:
    async def client(upstreams: Upstreams, server: Server) -> None:
        for _ in range(2):
            assert await whole(await get(upstreams, server)) == b"hi"
        assert server.accepted == 2

    run(Scripted(OK + OK.replace(b"hi", b"no"), OK), client)


def test_an_answer_that_comes_before_the_body_is_whole_is_read() -> None:
    async def handler(connection: Connection) -> None:
        await connection.read_head()
        assert await connection.reader.readexactly(8) == b"3\r\none\r\n"
        await connection.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")

    async def client(upstreams: Upstreams, server: Server) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            [connection] = upstreams._busy
            while not connection.wire.over:
                await asyncio.sleep(0)
            yield b"two"
            raise AssertionError("nobody takes it")

        headers = [*HEADERS, (b"Transfer-Encoding", b"chunked")]
        answer = await upstreams.send(Origin("http", "127.0.0.1", server.port), b"POST", b"/", headers, body())
        assert (answer.status, await whole(answer)) == (413, b"no")
        assert has_no_connection(upstreams)

    run(handler, client)


def test_of_an_answer_that_nobody_reads_little_is_taken() -> None:
    size, written = 1 << 25, asyncio.Event()

    async def handler(connection: Connection) -> None:
        await connection.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        connection.writer.write(bytes(size))
        asyncio.get_running_loop().call_later(0.2, written.set)
        await connection.writer.drain()
        await connection.until_closed()

    async def client(upstreams: Upstreams, server: Server) -> None:
        answer = await get(upstreams, server)
        [connection] = upstreams._busy
        await written.wait()
        assert 0 < connection.wire._unread_size < 1 << 20
        assert len(await whole(answer)) == size

    run(handler, client)


def test_nobody_listening_is_told_with_the_place_and_the_cause() -> None:
    async def client(upstreams: Upstreams, server: Server) -> None:
        listening = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        listening.close()
        await listening.wait_closed()
        with pytest.raises(UpstreamError, match=f"no connection to 127.0.0.1:{port}: Connection refused") as caught:
            await upstreams.send(Origin("http", "127.0.0.1", port), b"GET", b"/", HEADERS, None)
        assert caught.value.kind == "connect"

    run(Scripted(), client)


def test_the_cause_is_told_where_a_name_has_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            places = [one.getsockname(), other.getsockname()]

        async def found(*_: object, **__: object) -> list[tuple[object, ...]]:
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place) for place in places]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
        async with opened() as upstreams:
            with pytest.raises(UpstreamError, match=r"no connection to provider\.test:80: Connection refused$"):
                await upstreams.send(Origin("http", "provider.test", 80), b"GET", b"/", HEADERS, None)

    asyncio.run(main())


def test_the_time_to_connect_does_not_bound_the_answer() -> None:
    async def client(upstreams: Upstreams, server: Server) -> None:
        origin = Origin("http", "127.0.0.1", server.port)
        answer = await upstreams.send(origin, b"GET", b"/", HEADERS, None, connect_timeout=1)
        assert await whole(answer) == b"hi"

    async def handler(connection: Connection) -> None:
        await connection.read_head()
        await asyncio.sleep(1.2)
        await connection.write(OK)

    run(handler, client)


@pytest.mark.linux("a port that takes no connections and refuses none")
def test_an_address_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def client(upstreams: Upstreams, server: Server) -> None:
        with ExitStack() as stack:
            silent = stack.enter_context(socket.socket())
            silent.bind(("127.0.0.1", 0))
            silent.listen(0)
            for _ in range(3):  # more than it has room for
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(silent.getsockname())
            places = [silent.getsockname(), ("127.0.0.1", server.port)]

            async def found(*_: object, **__: object) -> list[tuple[object, ...]]:
                return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place) for place in places]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
            origin = Origin("http", "provider.test", 80)
            assert await whole(await upstreams.send(origin, b"GET", b"/", HEADERS, None)) == b"hi"

    run(Scripted(OK), client)


def test_addresses_of_ipv6_work() -> None:
    server = Scripted(OK)

    async def main() -> None:
        try:
            async with opened() as upstreams, serving(server, host="::1") as at:
                answer = await upstreams.send(Origin("http", "::1", at.port), b"GET", b"/", HEADERS, None)
                assert await whole(answer) == b"hi"
        except OSError:
            pytest.skip("no IPv6 here")

    asyncio.run(main())
    assert len(server.heads) == 1
