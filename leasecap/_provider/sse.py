"""Splits a stream of server-sent events as the HTML standard says (9.2.6, interpreting an event stream)."""

from __future__ import annotations

import re

from leasecap._named_tuple import NamedTuple

_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event.

    :ivar name: empty if the stream gives none.
    :ivar data: its lines, joined by line feeds.
    """

    name: bytes
    data: bytes


_BLANK_LINES = (b"\n\n", b"\n\r", b"\r\r")  # the end of a line, and the beginning of the next end
_BLANK_LINE = re.compile(b"|".join(_BLANK_LINES))


def end_of_events(text: bytes) -> int:
    """Where the last event ends that is whole in ``text``; 0: none is."""
    return max(text.rfind(blank) + 2 if blank in text else 0 for blank in _BLANK_LINES)


def end_of_first(text: bytes, at: int) -> int:
    """Where the event ends that begins at ``at``; the end of ``text`` if it isn't whole."""
    blank = _BLANK_LINE.search(text, at)
    return len(text) if blank is None else blank.end()


class EventStream:
    """Takes a stream piece by piece. It keeps what belongs to an event that isn't whole yet: the caller bounds it."""

    __slots__ = ("_after_cr", "_begun", "_data", "_name", "_parts")

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of a line
        self._after_cr = False
        self._begun = False
        self._name = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that ``chunk`` ends."""
        if self._after_cr and chunk.startswith(b"\n"):
            self._after_cr = False
            chunk = chunk[1:]  # the second half of a line's end
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        lines = chunk.splitlines()
        rest = b"" if chunk.endswith((b"\r", b"\n")) else lines.pop()
        if lines:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts.clear()
            if not self._begun:
                self._begun, lines[0] = True, lines[0].removeprefix(_BOM)
        if rest:
            self._parts.append(rest)
        return [each for each in map(self._line, lines) if each is not None]

    def end(self) -> Event | None:
        """The event that the stream ends in. The standard drops it; whoever looks for errors may not."""
        if self._parts:
            self._line(b"".join(self._parts))
        return self._line(b"")

    def _line(self, line: bytes) -> Event | None:
        """The event that ``line`` ends, if it does."""
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            elif name == b"event":
                self._name = value.removeprefix(b" ")
            return None
        found = Event(self._name, b"\n".join(self._data)) if self._data else None
        self._name, self._data = b"", []
        return found
