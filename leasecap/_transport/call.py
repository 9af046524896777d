"""One request that has a slot, from the grant to the end of its answer's body."""

from __future__ import annotations

import gc
import sys
from _thread import start_new_thread
from _warnings import warn
from functools import partial
from time import monotonic, time
from weakref import WeakValueDictionary

from leasecap._durations import format_duration
from leasecap._errors import LeasecapError
from leasecap._latency import Timed
from leasecap._log import log_warning
from leasecap._provider.first_bytes import FirstBytes
from leasecap._transport.answer import Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator

    from leasecap._lease import Lease
    from leasecap._provider.absorb import PoolReport
    from leasecap._provider.reading import Headers, RequestFacts
    from leasecap._provider.tasks import Task
    from leasecap._transport.messages import AsyncByteStream, ByteStream
    from leasecap._wait.progress import Waiting

UNREAD_FOR = 30.0
"""Seconds for which nobody has asked for the rest of an answer, after which that is logged when a request waits."""

_HOW = "read it to its end, close it, or use `with` (`async with`)"

_first_bytes = FirstBytes()

_open: WeakValueDictionary[int, Call] = WeakValueDictionary()
"""Those whose answers haven't ended."""

_if_dropped: dict[int, Callable[[], None]] = {}
"""What gives the slots back of those to which nothing refers any more.

Leases and streams are kept here, and not by the calls alone: what the garbage collector finds together it ends in any
order, and the connection has to be closed first.
"""

_closing: set[asyncio.Task[None]] = set()


class Call:
    """A request with a slot.

    :ivar lease: the slot.
    """

    _ended = True  # until the object is whole, so that `__del__` does nothing to a half-made one

    def __init__(self, lease: Lease, facts: RequestFacts, host: str, netloc: str, task: Task | None) -> None:
        """
        :param netloc: for people.
        :param task: what the request is part of, where the pool goes by that.
        """
        self.lease = lease
        self._host = netloc
        self._task = task
        self._timed = Timed(lease.root, lease.pool, facts, host)
        self._is_read = False  # to its end
        self._answer: Answer | None = None
        self._unread_since: float | None = None
        self._warned = False
        _if_dropped[id(self)] = lease.release
        _open[id(self)] = self
        self._ended = False

    def __del__(self) -> None:
        # A finalizer may run inside any lock, so what takes locks is done in a thread. `threading` takes some itself.
        if self._ended or sys.is_finalizing():
            return
        give_back = _if_dropped.pop(id(self), None)
        if give_back is None or not self.lease.held:
            return  # a fork's child has nothing to give
        said = f"an answer of {self._host} was dropped before its end, and held a slot of pool {self.lease.pool!r}"
        try:
            start_new_thread(_end_dropped, (self.lease, self._answer, give_back, f"{said} until then: {_HOW}"))
        except RuntimeError:
            pass  # the interpreter ends, or there are too many threads: the lease is dropped as well, and warns
        warn(f"{said}: {_HOW}", ResourceWarning, 2)

    # -- the answer ---------------------------------------------------------------------------------------------------

    def begin(self, status: int, headers: Headers) -> None:
        """The head of the answer is there."""
        self._timed.begins()
        self.lease.note_answer()
        task = self._task
        if task is not None and status < 400:
            task.answered = True
        follow = None if task is None else task.is_followed
        self._answer = Answer(status, headers, self._timed.ttfb, time, follow)
        self._unread_since = monotonic()

    def close_if_dropped(self, stream: ByteStream) -> None:
        """Close ``stream`` before the slot is given back, if nothing refers to this call any more."""
        _if_dropped[id(self)] = partial(_close, stream, self.lease)

    def close_if_dropped_async(self, stream: AsyncByteStream, loop: asyncio.AbstractEventLoop) -> None:
        _if_dropped[id(self)] = partial(_close_in, loop, stream, self.lease)

    def feed(self, piece: bytes) -> None:
        """Read a piece of the answer on its way."""
        if self._answer is not None:
            self._tell(self._answer.feed(piece))

    def end(self) -> None:
        """The answer is over: give the slot back."""
        if not self._ended:
            try:
                self._finish()
            finally:
                self.lease.release()

    async def end_async(self) -> None:
        """`end` for a task: those that end in one round of the loop hand off together."""
        if not self._ended:
            try:
                self._finish()
            finally:
                await self.lease.__aexit__(None, None, None)

    def _finish(self) -> None:
        self._ended = True
        _if_dropped.pop(id(self), None)
        _open.pop(id(self), None)
        if self._answer is not None:
            self._tell(self._answer.end())
            if self._answer.succeeded and (self._is_read or self._answer.is_done):
                self._timed.note_end()

    def pieces(self, stream: ByteStream) -> Iterator[bytes]:
        """Those of the answer's body; the slot is free once they are over, or nobody wants more of them."""
        inner = iter(stream)
        self._unread_since = None
        try:
            for piece in inner:
                self.feed(piece)
                self._unread_since = monotonic()
                yield piece
                self._unread_since = None
            self._is_read = True
        finally:
            try:
                close = getattr(inner, "close", None)
                if close is not None:
                    close()
            finally:
                self.end()

    async def pieces_async(self, stream: AsyncByteStream) -> AsyncIterator[bytes]:
        """`pieces` for a task."""
        inner = aiter(stream)
        self._unread_since = None
        try:
            async for piece in inner:
                self.feed(piece)
                self._unread_since = monotonic()
                yield piece
                self._unread_since = None
            self._is_read = True
        finally:
            try:
                aclose = getattr(inner, "aclose", None)
                if aclose is not None:
                    await aclose()
            finally:
                await self.end_async()

    # -- what others are told -----------------------------------------------------------------------------------------

    def _tell(self, report: PoolReport | None) -> None:
        """What the provider's answer does to the pool must never be this request's trouble."""
        if report is None:
            return
        ttfb = report.ttfb
        if report.kind is None and ttfb is not None:
            self._timed.note_begin()
            ttfb = _first_bytes.note(self.lease.pool, ttfb, monotonic())
            if ttfb is None:
                return
        _note(self.lease, report._replace(ttfb=ttfb))

    def has_sat_unread(self, now: float) -> bool:
        """Whether nobody asks for the rest of the answer; true once."""
        since = self._unread_since
        if since is None or self._warned or now - since < UNREAD_FOR:
            return False
        self._warned = True
        return True

    def warn_of_unread(self, now: float) -> None:
        since = self._unread_since
        if since is not None:
            log_warning(
                f"nobody has read on in an answer of {self._host} for {format_duration(now - since)}; it holds a slot "
                f"of pool {self.lease.pool!r} for which others wait: {_HOW}"
            )


def look_for_unread(waiting: Waiting) -> None:
    """See which answers of this process hold slots of the pool and are not read, since a request waits for one.

    A stream that a loop has left often refers to itself, so that only the garbage collector can tell that nobody else
    does. What is there after it has run goes to the log.
    """
    now = monotonic()
    unread = [found for found in _open.valuerefs() if _is_unread(found(), waiting.pool, now)]
    if not unread:
        return
    gc.collect()
    for found in unread:
        call = found()
        if call is not None:
            call.warn_of_unread(now)


def _is_unread(call: Call | None, pool: str, now: float) -> bool:
    return call is not None and call.lease.pool == pool and call.has_sat_unread(now)


def _note(lease: Lease, report: PoolReport) -> None:
    try:
        lease.tell(report.status, retry_after=report.retry_after, kind=report.kind, ttfb=report.ttfb)
    except LeasecapError as error:
        log_warning(f"what the provider answered could not be noted: {error}")


def _end_dropped(lease: Lease, answer: Answer | None, give_back: Callable[[], None], message: str) -> None:
    try:
        try:
            report = None if answer is None else answer.end()
            if report is not None and report.kind is not None:  # a refusal that nobody has read to its end
                _note(lease, report)
        finally:
            give_back()
    except Exception as error:
        message = f"{message} ({error!r})"
    log_warning(message)


def _close(stream: ByteStream, lease: Lease) -> None:
    try:
        stream.close()
    finally:
        lease.release()


def _close_in(loop: asyncio.AbstractEventLoop, stream: AsyncByteStream, lease: Lease) -> None:
    """Have the loop close its stream, if it still can."""

    async def close() -> None:
        try:
            await stream.aclose()
        finally:
            lease.release()

    def start() -> None:
        task = loop.create_task(close())
        _closing.add(task)
        task.add_done_callback(_closing.discard)

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError:  # it is closed, and with it what the connection was read by
        lease.release()
