"""A request's head: what is refused before anybody answers it, and where it is to go. Pure.

h11 parses it, and takes more than a gate may let through: who reads a message in two ways can be smuggled past one of
them (RFC 9112, 11.2). So what two servers could read differently is refused before h11 sees it.
"""

from __future__ import annotations

import re

from leasecap._gate.clients import NO_TOKEN, TOKEN_HEADER
from leasecap._named_tuple import NamedTuple
from leasecap._redact import mask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import h11

    Headers = list[tuple[bytes, bytes]]

HEAD_MAX = 64 * 1024  # bytes
_PRODUCT = re.compile(r"[\w.+-]{1,40}(?=[/\s;]|$)", re.ASCII)
_TOKEN_HEADER = TOKEN_HEADER.encode()

_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"upgrade"})
# What the gate answers by itself; the body is sent in one go once the slot is there.
_NEVER_UPSTREAM = _HOP_BY_HOP | {b"proxy-authorization", b"te", b"expect", b"host", _TOKEN_HEADER}


class Refused(Exception):
    """The gate answers by itself, and closes the connection.

    :ivar status: the HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Route(NamedTuple):
    """Where a request goes.

    :ivar upstream: the name of a declared upstream.
    :ivar target: what is sent there, byte for byte as the client wrote it.
    """

    upstream: str
    target: bytes


def is_whole(received: bytes) -> bool:
    """Whether a head is whole at the beginning of ``received``.

    :raises Refused: for a head that no well-behaved client sends.
    """
    head, found, _ = received.partition(b"\r\n\r\n")
    if len(head) > HEAD_MAX:
        raise Refused(431, f"the request's head is longer than {HEAD_MAX} bytes")
    lines = head.split(b"\r\n")
    if not found:
        lines[-1] = lines[-1].removesuffix(b"\r")  # its LF may be on the way
    lengths = 0
    for number, line in enumerate(lines):
        if b"\n" in line or b"\r" in line:
            raise Refused(400, "a line of the request's head doesn't end in CR LF")
        if number and line[:1] in (b" ", b"\t"):
            raise Refused(400, "a header of the request is folded over two lines")
        if line[:15].lower() == b"content-length:":  # of several that are equal h11 makes one
            lengths += 1 + line.count(b",")
            if lengths > 1:
                raise Refused(400, "the request says its length more than once")
    return bool(found)


def check(request: h11.Request, port: int) -> None:
    """Refuse what isn't for this gate, or can be read in two ways.

    :param port: that the gate listens on.
    :raises Refused: for such a request.
    """
    if request.http_version not in (b"1.0", b"1.1"):
        raise Refused(505, "only HTTP/1.0 and 1.1 are understood")
    names = [name for name, _ in request.headers]
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version < b"1.1"):
        raise Refused(400, "the request says its length in two ways")
    if request.method == b"CONNECT" or not request.target.startswith(b"/"):
        raise Refused(400, "this is no proxy: give the address as a base URL and not as HTTP_PROXY")
    # Only what was meant for us: a page whose name leads to 127.0.0.1 sends its own name (DNS rebinding).
    hosts = [value for name, value in request.headers if name == b"host"]
    allowed = {b"%s:%d" % (host, port) for host in (b"127.0.0.1", b"[::1]", b"localhost")}
    if len(hosts) != 1 or hosts[0].lower() not in allowed:
        raise Refused(421, f"only a Host of 127.0.0.1:{port} or localhost:{port} is answered")
    if is_websocket(request.headers):
        raise Refused(426, "requests are metered one by one: use HTTP and no websocket")


def is_websocket(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a websocket is asked for in place of an answer."""
    return any(name == b"upgrade" and b"websocket" in value.lower() for name, value in headers)


def route(request: h11.Request, token: str, upstreams: Collection[str]) -> Route:
    """Where the request goes: ``/TOKEN/NAME...``, or ``/-/NAME...`` with the token in a header of its own.

    :raises Refused: when the token isn't right, or no such upstream is declared.
    """
    from hmac import compare_digest

    _, found, rest = (*request.target.split(b"/", 2), b"")[:3]
    if found == NO_TOKEN.encode():
        found = next((value for name, value in request.headers if name == _TOKEN_HEADER), b"")
    if not compare_digest(found, token.encode()):
        raise Refused(403, "the address is not this gate's: it was made for an earlier one, or is incomplete")
    end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    name, target = rest[:end].decode("latin-1"), rest[end:]
    if name not in upstreams:
        raise Refused(404, f"no upstream of that name is declared; there are {', '.join(sorted(upstreams))}")
    return Route(name, target if target.startswith(b"/") else b"/" + target)


def agent(request: h11.Request) -> str | None:
    """What the program that sends the request calls itself, by its User-Agent: the first product's name alone."""
    text = next((value for name, value in request.headers if name == b"user-agent"), b"").decode("latin-1")
    found = _PRODUCT.match(text)
    return None if found is None else mask(found[0])


def body_length(request: h11.Request) -> int | None:
    """The bytes of the body that follows; None: it will say so itself."""
    lengths = {name: value for name, value in request.headers if name in (b"content-length", b"transfer-encoding")}
    return None if b"transfer-encoding" in lengths else int(lengths.get(b"content-length", b"0"))


def to_upstream(request: h11.Request, authority: bytes) -> Headers:
    """The headers as the client wrote them, but for those that concern this connection alone."""
    raw = request.headers.raw_items()
    dropped = _NEVER_UPSTREAM | _named_by_connection(raw)
    return [
        (name, authority if name.lower() == b"host" else value)
        for name, value in raw
        if name.lower() not in dropped or name.lower() == b"host"
    ]


def to_client(headers: Headers) -> Headers:
    """The headers as the provider wrote them, but for those that concern the other connection alone."""
    dropped = _HOP_BY_HOP | _named_by_connection(headers)
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def _named_by_connection(headers: Headers) -> set[bytes]:
    named = {
        word.strip().lower() for name, value in headers if name.lower() == b"connection" for word in value.split(b",")
    }
    # What says where the body ends is never only this connection's, whatever Connection says.
    return named - {b"content-length", b"transfer-encoding", b"host", b"authorization"}
