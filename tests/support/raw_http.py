"""An HTTP client that sends whatever bytes a test writes, and reads an answer without correcting anything in it."""

from __future__ import annotations

import re
import select
import socket
import struct
import time
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

DEADLINE = 20.0
PIECE = 1 << 16
CRLF = b"\r\n"
STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-9][0-9]{2} [^\r\n]*")


class OverdueError(AssertionError):
    """Nothing more came, though it must have."""


class BrokenError(AssertionError):
    """The connection ended in the middle of an answer.

    :ivar came: what had come of the part that has no end.
    :ivar reset: whether by a reset.
    """

    def __init__(self, came: bytes, *, reset: bool) -> None:
        super().__init__(f"{'reset' if reset else 'closed'} after {came[-500:]!r}")
        self.came, self.reset = came, reset


@dataclass(frozen=True, slots=True)
class Head:
    """Of an answer.

    :ivar raw: with the empty line at its end.
    :ivar at: when it was there (CLOCK_MONOTONIC).
    """

    raw: bytes
    at: float

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    @property
    def lines(self) -> list[bytes]:
        """The headers, as they came."""
        return self.raw.split(CRLF)[1:-2]

    def values(self, name: bytes) -> list[bytes]:
        """Of the header ``name``, which is in lower case."""
        pairs = (line.partition(b":") for line in self.lines)
        return [value.strip() for found, _, value in pairs if found.lower() == name]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole one.

    :ivar body: without the framing of chunks.
    :ivar wire: the body as it came.
    """

    head: Head
    body: bytes
    wire: bytes

    @property
    def status(self) -> int:
        return self.head.status


@dataclass(slots=True)
class Raw:
    """A connection.

    :ivar interim: heads of 1xx answers, which don't count as answers.
    """

    port: int
    host: str = "127.0.0.1"
    deadline: float = DEADLINE
    interim: list[Head] = field(default_factory=list)
    _buffer: bytearray = field(default_factory=bytearray)
    _socket: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self._socket = socket.create_connection((self.host, self.port), self.deadline)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def local_port(self) -> int:
        return int(self._socket.getsockname()[1])

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._socket.sendall(piece)

    def send_until_refused(self, data: bytes) -> None:
        """Send as much of it as the peer takes before it ends the connection."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def could_send(self, most: int) -> int:
        """Send zeros until nothing is taken for a while, or ``most`` were; returns how many that were."""
        sent = 0
        while sent < most and select.select([], [self._socket], [], 1.0)[1]:
            sent += self._socket.send(bytes(min(PIECE, most - sent)))
        return sent

    def head(self) -> Head:
        """The next answer's head; those of 1xx before it go to `interim`."""
        while True:
            head = self._any_head()
            if head.status >= 200 or head.status == 101:
                return head
            self.interim.append(head)

    def await_interim(self, number: int = 1) -> Head:
        """The head of the ``number``-th 1xx, which must be the next thing that comes."""
        while len(self.interim) < number:
            head = self._any_head()
            assert head.status < 200, head.raw
            self.interim.append(head)
        return self.interim[number - 1]

    def _any_head(self) -> Head:
        while (end := self._buffer.find(CRLF * 2)) < 0:
            self._fill()
        head = Head(self._take(end + 4), time.monotonic())
        assert STATUS_LINE.fullmatch(head.raw.partition(CRLF)[0]), head.raw
        assert all(b":" in line for line in head.lines), head.raw
        return head

    def answer(self, method: bytes = b"POST") -> Answer:
        """The next answer, all of it."""
        return self.rest(self.head(), method)

    def ask(self, request: bytes) -> Answer:
        """Send a request, and return its answer."""
        self.send(request)
        return self.answer(request.partition(b" ")[0])

    def rest(self, head: Head, method: bytes = b"POST") -> Answer:
        """The answer that begins with ``head``, whose body hasn't been read.

        :raise BrokenError: it has no end.
        """
        lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
        if method == b"HEAD" or head.status in (101, 204, 304):
            return Answer(head, b"", b"")
        if codings:
            assert [coding.lower() for coding in codings] == [b"chunked"] and not lengths, head.raw
            return Answer(head, *self._chunks())
        if lengths:
            assert len(lengths) == 1, head.raw
            body = self._exactly(int(lengths[0]))
            return Answer(head, body, body)
        body = self.everything()
        return Answer(head, body, body)

    def _chunks(self) -> tuple[bytes, bytes]:
        body, wire = bytearray(), bytearray()
        try:
            while True:
                line = self.up_to(CRLF)
                wire += line
                size = int(line.partition(b";")[0], 16)
                piece = self._exactly(size) if size else b""
                body += piece
                wire += piece
                end = self.up_to(CRLF)
                wire += end
                assert end == CRLF, bytes(wire[-500:])
                if not size:
                    return bytes(body), bytes(wire)
        except BrokenError as error:
            raise BrokenError(bytes(wire) + error.came, reset=error.reset) from None

    def up_to(self, mark: bytes) -> bytes:
        """Everything up to ``mark``, with it."""
        while (found := self._buffer.find(mark)) < 0:
            self._fill()
        return self._take(found + len(mark))

    def everything(self) -> bytes:
        """All that comes until the peer closes.

        :raise BrokenError: it resets.
        """
        try:
            while True:
                self._fill()
        except BrokenError as error:
            if error.reset:
                raise
        return self._take(len(self._buffer))

    def await_end(self) -> bytes:
        """Return what comes until the peer ends the connection, in whatever way."""
        try:
            return self.everything()
        except BrokenError as error:
            return error.came

    def is_silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing came until now nor in so many seconds; for what must not come, so short is never wrong."""
        return not self._buffer and not select.select([self._socket], [], [], seconds)[0]

    def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._fill()
        return self._take(length)

    def _take(self, length: int) -> bytes:
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    def _fill(self) -> None:
        try:
            piece = self._socket.recv(PIECE)
        except ConnectionResetError:
            raise BrokenError(bytes(self._buffer), reset=True) from None
        except TimeoutError:
            raise OverdueError(f"nothing for {self.deadline} s after {bytes(self._buffer[-500:])!r}") from None
        if not piece:
            raise BrokenError(bytes(self._buffer), reset=False)
        self._buffer += piece

    def half_close(self) -> None:
        """End sending alone."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection; the peer's system sees a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()


def request(method: bytes, target: bytes, *lines: bytes, body: bytes | None = None, version: bytes = b"1.1") -> bytes:
    """A request's bytes; a body brings its content-length."""
    length = () if body is None else (b"Content-Length: %d" % len(body),)
    return CRLF.join([b"%b %b HTTP/%b" % (method, target, version), *lines, *length, b"", body or b""])
