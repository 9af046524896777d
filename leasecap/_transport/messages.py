"""What is needed of the requests, answers and streams of an HTTP library, and what is read from them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Any, Protocol

    from leasecap._provider.reading import Headers

    class Url(Protocol):
        """:ivar netloc: host and port, without user and password; :ivar raw_path: with the query."""

        @property
        def scheme(self) -> str: ...
        @property
        def host(self) -> str: ...
        @property
        def port(self) -> int | None: ...
        @property
        def netloc(self) -> bytes: ...
        @property
        def raw_path(self) -> bytes: ...

    class RawHeaders(Protocol):
        @property
        def raw(self) -> list[tuple[bytes, bytes]]: ...

    class Message(Protocol):
        @property
        def headers(self) -> RawHeaders: ...
        @property
        def content(self) -> bytes: ...

    class Request(Message, Protocol):
        @property
        def method(self) -> str: ...
        @property
        def url(self) -> Url: ...

    class Response(Message, Protocol):
        """:ivar is_closed: its body was read before it came here, as that of an answer that a test makes up."""

        stream: Any

        @property
        def status_code(self) -> int: ...
        @property
        def is_closed(self) -> bool: ...

    class ByteStream(Protocol):
        def __iter__(self) -> Iterator[bytes]: ...
        def close(self) -> None: ...

    class AsyncByteStream(Protocol):
        def __aiter__(self) -> AsyncIterator[bytes]: ...
        async def aclose(self) -> None: ...


def headers_of(message: Message) -> Headers:
    return message.headers.raw


def content_of(message: Message) -> bytes | None:
    """The body if it is there as a whole; None if it comes piece by piece."""
    try:
        return message.content
    except RuntimeError:  # each library has a subclass of its own
        return None


def origin_of(url: Url) -> str:
    """The URL without path, user and password; it names the pool."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"
