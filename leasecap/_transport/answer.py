"""Reads one answer as it passes, for what its pool is to be told. Pure but for the wall clock that is passed in."""

from __future__ import annotations

from leasecap._provider.absorb import REFUSALS, refusal, refusal_of, to_report
from leasecap._provider.events import HELD_AT_MOST, AnswerReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._provider.absorb import PoolReport
    from leasecap._provider.reading import Headers


class Answer:
    """One answer. `feed` and `end` return what to tell the pool now, or None."""

    def __init__(
        self,
        status: int,
        headers: Headers,
        ttfb: float,
        wall: Callable[[], float],
        on_name: Callable[[str], object] | None = None,
    ) -> None:
        """
        :param ttfb: seconds from the request to its head.
        :param on_name: see `AnswerReader`.
        """
        self._status = status
        self._headers = headers
        self._ttfb = ttfb
        self._wall = wall
        self._reader = AnswerReader(status, headers, on_name)
        self._start: list[bytes] = []  # of a refusal's body, which may say that a quota is used up
        self._size = 0
        self._told = False  # what its beginning says
        self._told_fault = False

    def feed(self, piece: bytes) -> PoolReport | None:
        """Read the next piece of the body, as it came."""
        if self._status in REFUSALS:
            self._start.append(piece)
            self._size += len(piece)
            return None if self._told or self._size < HELD_AT_MOST else self._refused()
        self._reader.feed(piece)
        return self._news()

    def end(self) -> PoolReport | None:
        """There is no more, or nobody wants it."""
        if self._status in REFUSALS:
            return None if self._told else self._refused()
        self._reader.end()
        return self._news()

    @property
    def succeeded(self) -> bool:
        """Whether it is neither a refusal nor any other error, as far as it was read."""
        return self._status < 400 and self._reader.fault is None

    @property
    def is_done(self) -> bool:
        """Whether it has said that nothing else comes: then clients don't read to its end."""
        return self._reader.is_done

    def _refused(self) -> PoolReport | None:
        self._told = True
        start, self._start = b"".join(self._start), []
        return to_report(self._status, refusal(self._status, self._headers, start, self._wall()))

    def _news(self) -> PoolReport | None:
        fault = self._reader.fault
        if fault is not None and not self._told_fault:
            self._told = self._told_fault = True
            return to_report(None, refusal_of(fault))
        if self._told or not self._reader.first_is_whole:
            return None
        self._told = True
        return to_report(self._status, ttfb=self._ttfb)
