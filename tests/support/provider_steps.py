"""What the fake provider does with a request, as data: a step is a row of acts.

Bytes are sent as they are. A number is a pause in seconds. At a `Latch` the provider waits until the test opens it.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

CRLF = b"\r\n"
REASONS = {
    200: b"OK",
    204: b"No Content",
    304: b"Not Modified",
    307: b"Temporary Redirect",
    404: b"Not Found",
    429: b"Too Many Requests",
    503: b"Service Unavailable",
}
BODILESS = (204, 304)


class Latch(threading.Event):
    """A place in an answer where the provider waits until the test calls `set`.

    :ivar reached: set once everything before it was sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()


class Act(enum.Enum):
    """What is neither sent nor waited for."""

    BODY = "read the request's body now; a step without it begins when the whole request is there"
    HANG = "do nothing until the peer goes"
    CLOSE = "end the connection"
    RESET = "break the connection, so that the peer's system sees a reset"


BODY, HANG, CLOSE, RESET = Act
Step = tuple[bytes | float | Latch | Act, ...]


class Framing(enum.Enum):
    """How the peer sees where a body ends."""

    LENGTH = "content-length"
    CHUNKED = "chunked"
    CLOSED = "the connection's end"


LENGTH, CHUNKED, CLOSED = Framing


@dataclass(slots=True)
class Request:
    """One request as it came, and what became of it; times are those of CLOCK_MONOTONIC, None as long as it hasn't.

    :ivar connection: which one of the provider's connections it came on, from 1.
    :ivar head: every byte up to the empty line, with it.
    :ivar wire: the body as it came, chunk sizes and all.
    :ivar body: the same without the chunks' framing.
    :ivar begun: when its head was there.
    :ivar arrived: when all of it was there; in flight from now on.
    :ivar answered: when the final answer began to be sent.
    :ivar ended: when the last byte of the answer was sent, or the peer was gone; no longer in flight.
    :ivar gone: when the peer was seen to have left before the end of the answer.
    :ivar refused: whether the cap was reached.
    """

    connection: int
    head: bytes
    begun: float
    wire: bytearray = field(default_factory=bytearray)
    body: bytearray = field(default_factory=bytearray)
    arrived: float | None = None
    answered: float | None = None
    ended: float | None = None
    gone: float | None = None
    refused: bool = False

    @property
    def line(self) -> bytes:
        return self.head.partition(CRLF)[0]

    @property
    def method(self) -> bytes:
        return self.line.partition(b" ")[0]

    @property
    def target(self) -> bytes:
        return self.line.partition(b" ")[2].rpartition(b" ")[0]

    @property
    def header_lines(self) -> list[bytes]:
        """As they came."""
        return self.head.split(CRLF)[1:-2]

    def values(self, name: bytes) -> list[bytes]:
        """Of the header ``name``, which is in lower case."""
        pairs = (line.partition(b":") for line in self.header_lines)
        return [value.strip() for found, _, value in pairs if found.lower() == name]

    @property
    def costs(self) -> bool:
        """Whether a provider counts it."""
        return self.method == b"POST" and b"count_tokens" not in self.target


Behaviour = Step | Callable[[Request], Step]


def head(status: int, *lines: bytes, version: bytes = b"1.1") -> bytes:
    """The bytes of an answer's head."""
    reason = REASONS.get(status, b"Whatever")
    return CRLF.join([b"HTTP/%b %d %b" % (version, status, reason), *lines, b"", b""])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def reply(
    status: int = 200,
    *parts: bytes | float | Latch,
    headers: tuple[bytes, ...] = (b"Content-Type: application/json",),
    framing: Framing = LENGTH,
    version: bytes = b"1.1",
) -> Step:
    """An answer whose body is sent in ``parts``, with pauses among them.

    :param headers: whole lines; the one that says the framing is added.
    """
    if status in BODILESS:
        return (head(status, *headers, version=version),)
    if framing is CHUNKED:
        framed = [chunk(part) if isinstance(part, bytes) else part for part in parts]
        return (head(status, *headers, b"Transfer-Encoding: chunked"), *framed, b"0\r\n\r\n")
    if framing is CLOSED:
        return (head(status, *headers, version=version), *parts, CLOSE)
    length = sum(len(part) for part in parts if isinstance(part, bytes))
    return (head(status, *headers, b"Content-Length: %d" % length, version=version), *parts)


def stream(*events: bytes | float | Latch, headers: tuple[bytes, ...] = ()) -> Step:
    """A stream of server-sent events."""
    return reply(200, *events, headers=(b"Content-Type: text/event-stream", *headers), framing=CHUNKED)


def refuse(status: int = 429, retry_after: bytes | None = None, kind: bytes = b"rate_limit_error") -> Step:
    """What a provider says that doesn't want the request now."""
    body = b'{"type":"error","error":{"type":"%b","message":"not now"}}' % kind
    hint = () if retry_after is None else (b"Retry-After: " + retry_after,)
    return reply(status, body, headers=(b"Content-Type: application/json", *hint))


def broken(step: Step, how: Act, missing: int = 2) -> Step:
    """``step`` without the last bytes of its last part, and the connection's end in their place.

    With two missing, a chunked answer lacks the very end of its framing alone.
    """
    *before, last = (act for act in step if act is not CLOSE)
    assert isinstance(last, bytes) and len(last) >= missing
    return (*before, last[:-missing], how)
