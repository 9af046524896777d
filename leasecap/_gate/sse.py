"""Splits a stream of server-sent events as the HTML standard says (9.2.6, interpreting an event stream)."""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event.

    :ivar name: empty if the stream gives none.
    :ivar data: its lines, joined by line feeds.
    """

    name: bytes
    data: bytes


class EventStream:
    """Takes a stream piece by piece. It keeps what belongs to an event that isn't whole yet: the caller bounds it."""

    __slots__ = ("_after_cr", "_begun", "_data", "_name", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of a line
        self._after_cr = False
        self._begun = False
        self._name = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that ``chunk`` ends."""
        if not chunk:
            return
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # the second half of a line's end
        self._after_cr = chunk.endswith(b"\r")
        for piece in chunk.splitlines(keepends=True):
            self._parts.append(piece.rstrip(b"\r\n"))
            if not piece.endswith((b"\r", b"\n")):
                break  # the last one: its line goes on
            line = b"".join(self._parts)
            self._parts.clear()
            if not self._begun:
                self._begun, line = True, line.removeprefix(_BOM)
            if line:
                self._field(line)
            else:
                yield from self._event()

    def end(self) -> Iterator[Event]:
        """The event that the stream ends in. The standard drops it; whoever looks for errors may not."""
        if self._parts:
            self._field(b"".join(self._parts))
        yield from self._event()

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"event":
            self._name = value.removeprefix(b" ")
        elif name == b"data":
            self._data.append(value.removeprefix(b" "))

    def _event(self) -> Iterator[Event]:
        name, data = self._name, self._data
        self._name, self._data = b"", []
        if data:
            yield Event(name, b"\n".join(data))
