"""Bodies of requests, kept so that they can be sent again."""

from __future__ import annotations

from contextlib import contextmanager

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from leasecap._gate.downstream import Downstream

BODY_MAX = 32 * 1024 * 1024
"""Bytes of a body that are kept; what is longer is read when its slot is there, and sent once."""

BODIES_MAX = 256 * 1024 * 1024
"""Bytes of all bodies that a gate keeps at once."""


class Body(NamedTuple):
    """What a client sends.

    :ivar start: the whole body, or what was read of it.
    :ivar rest: what is still to be read, once; None: nothing.
    """

    start: bytes | None
    rest: AsyncIterator[bytes] | None = None

    @property
    def can_be_sent_again(self) -> bool:
        return self.rest is None

    def content(self) -> bytes | AsyncIterator[bytes] | None:
        """What to send upstream."""
        return self.start if self.rest is None else _joined(self.start or b"", self.rest)


async def _joined(start: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if start:
        yield start
    async for piece in rest:
        yield piece


class Room:
    """For the bodies of one gate."""

    def __init__(self) -> None:
        self._taken = 0

    @contextmanager
    def holding(self) -> Iterator[Holding]:
        """During the block a body may be kept."""
        holding = Holding(self)
        try:
            yield holding
        finally:
            self._taken -= holding.size

    def take(self, size: int) -> bool:
        """Whether there was room for so many bytes more."""
        if self._taken + size > BODIES_MAX:
            return False
        self._taken += size
        return True


class Holding:
    """The room that one body takes.

    :ivar size: in bytes.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self.size = 0

    async def read(self, down: Downstream, length: int | None) -> Body:
        """The body that the client sends, as far as it can be kept.

        :param length: that it says it has; None: it doesn't say.
        :raises Refused: when it can't be read.
        """
        pieces: list[bytes] = []
        rest = down.body()
        if length is not None and not self._grow(length):
            return Body(None, rest)
        async for piece in rest:
            pieces.append(piece)
            if length is None and not self._grow(len(piece)):
                return Body(b"".join(pieces), rest)
        return Body(b"".join(pieces))

    def _grow(self, size: int) -> bool:
        if self.size + size > BODY_MAX or not self._room.take(size):
            return False
        self.size += size
        return True
