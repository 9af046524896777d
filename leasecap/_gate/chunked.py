"""Takes the framing off a chunked body, many chunks at once: a streamed answer has one for each of its events. Pure.

h11 does the same, one by one, which takes ten times as long. What isn't plain is left to it: extensions, the last chunk
and what follows that, and whatever is wrong.
"""

from __future__ import annotations

import re

import h11

_HEADER = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")
_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,8}\r?")
_FOOTER = b"\r\n"


class Chunks:
    """Of one body.

    :ivar rest: what is for h11, from the beginning of a chunk on; None: all was plain so far.
    """

    __slots__ = ("_begun", "_footer", "_left", "rest")

    def __init__(self) -> None:
        self.rest: bytes | None = None
        self._begun = b""  # of a header
        self._left = 0  # bytes of the chunk that are still to come
        self._footer = b""  # as far as it is still to come

    def feed(self, data: bytes) -> bytes:
        """The content in ``data``, the next piece; chunks that aren't whole are not waited for.

        :raises h11.RemoteProtocolError: when a chunk is longer than it says.
        """
        data, self._begun = self._begun + data, b""
        parts: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._left:
                parts.append(data[at : at + self._left])
                at += len(parts[-1])
                self._left -= len(parts[-1])
            elif self._footer:
                found = data[at : at + len(self._footer)]
                if not self._footer.startswith(found):
                    raise h11.RemoteProtocolError("a chunk is longer than it says")
                at += len(found)
                self._footer = self._footer[len(found) :]
            else:
                header = _HEADER.match(data, at)
                length = 0 if header is None else int(header[1], 16)
                if header is None or length == 0:
                    if header is None and _BEGUN.fullmatch(data, at):
                        self._begun = data[at:]
                    else:
                        self.rest = data[at:]
                    break
                at = header.end()
                if data.startswith(_FOOTER, at + length):  # it is whole, as most are
                    parts.append(data[at : at + length])
                    at += length + len(_FOOTER)
                else:
                    self._left, self._footer = length, _FOOTER
        return b"".join(parts)

    def give_up(self) -> None:
        """Nothing more comes: h11 says what that means."""
        self.rest = self._begun
