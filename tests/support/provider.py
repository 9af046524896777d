"""A fake provider on loopback: it refuses what is above its cap, judges by its own count, and keeps every byte it got.

It is a referee outside the code under test: plain asyncio streams in a thread of the test, and none of leasecap's code.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque

from provider_connection import Connection
from provider_formats import answer
from provider_steps import BODY, CLOSE, HANG, RESET, Latch, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from provider_steps import Behaviour, Request, Step

DEADLINE = 30.0
TICK = 0.002  # seconds between two looks at a latch, which another thread opens


class Provider:
    """Serves on loopback while its block lasts.

    :ivar requests: all of them, in the order in which their heads came.
    :ivar most: the most that were in flight at once, refused ones with them.
    :ivar failures: what no well-behaved client sends, and what went wrong in here; any fails the block at its end.
    """

    def __init__(
        self, cap: int | None = None, *, lag: float = 0.0, retry_after: bytes | None = b"1", default: Behaviour = answer
    ) -> None:
        """:param lag: seconds for which a finished request is counted still.

        :param default: what to do with a request that nothing was planned for.
        """
        self.cap, self.lag, self.retry_after, self.default = cap, lag, retry_after, default
        self.port = 0
        self.requests: list[Request] = []
        self.in_flight = self.most = self.refused = 0
        self.connections = self.open_connections = 0
        self.failures: list[str] = []
        self._planned: deque[Behaviour] = deque()
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="provider")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def plan(self, *steps: Behaviour) -> None:
        """What to do with the next requests that aren't refused, one after another; then the default again."""
        self._planned.extend(steps)

    def clear(self) -> None:
        """Forget what came and what is planned, for the next test of one that several share."""
        self.requests.clear()
        self._planned.clear()
        self.most = self.refused = 0

    def begun(self, number: int = 1) -> Request:
        """The ``number``-th request, once its head is there."""
        return self._nth(number, lambda request: True)

    def request(self, number: int = 1) -> Request:
        """The ``number``-th request, once all of it is there."""
        return self._nth(number, lambda request: request.arrived is not None)

    def ended(self, number: int = 1) -> Request:
        """The ``number``-th request, once it is no longer in flight."""
        return self._nth(number, lambda request: request.ended is not None)

    def _nth(self, number: int, ready: Callable[[Request], bool]) -> Request:
        self.until(lambda: len(self.requests) >= number and ready(self.requests[number - 1]))
        return self.requests[number - 1]

    def until(self, what: Callable[[], bool]) -> None:
        """Return when ``what()`` is true of this provider."""
        with self._changed:
            assert self._changed.wait_for(what, DEADLINE), f"it did not come true: {self.requests}"

    def __enter__(self) -> Self:
        self._thread.start()
        self.until(lambda: self.port > 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()
        self._loop.close()
        assert error is not None or not self.failures, self.failures

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._converse(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(met, "127.0.0.1", 0, backlog=1024)
        with self._changed:
            self.port = server.sockets[0].getsockname()[1]
            self._changed.notify_all()
        await self._stopping.wait()
        server.close()
        ending = list(tasks)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first request to its end."""
        with self._changed:
            self.connections += 1
            self.open_connections += 1
        connection = Connection(reader, writer, self.connections)
        try:
            while await self._exchange(connection):
                pass
            connection.close()
        except ConnectionError:
            pass
        except Exception as error:
            self.failures.append(repr(error))
        finally:
            if not writer.is_closing():
                connection.drop()
            try:
                await asyncio.sleep(0)  # for the transport's end
            finally:
                with self._changed:
                    self.open_connections -= 1
                    self._changed.notify_all()

    async def _exchange(self, connection: Connection) -> bool:
        """One request and its answer; returns whether another one may follow."""
        request = await connection.head()
        if request is None:
            return False
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        try:
            planned = self._planned[0] if self._planned else ()
            if isinstance(planned, tuple) and BODY in planned:
                self._planned.popleft()
                begin = planned.index(BODY)
                await self._perform(connection, request, planned[:begin])
                await connection.body(request)
                self._count_in(request)
                return await self._perform_while_watched(connection, request, planned[begin + 1 :])
            await connection.body(request)
            refused = not self._count_in(request)
            step = refuse(429, self.retry_after) if refused else self._step(request)
            return await self._perform_while_watched(connection, request, step)
        except ConnectionError:
            request.gone = request.gone or time.monotonic()
            raise
        finally:
            self._count_out(request)

    def _step(self, request: Request) -> Step:
        behaviour = self._planned.popleft() if self._planned else self.default
        return behaviour if isinstance(behaviour, tuple) else behaviour(request)

    def _count_in(self, request: Request) -> bool:
        """Whether it may be served."""
        with self._changed:
            request.arrived = time.monotonic()
            request.refused = request.costs and self.cap is not None and self.in_flight >= self.cap
            self.refused += request.refused
            self.most = max(self.most, self.in_flight + request.costs)
            self.in_flight += request.costs and not request.refused
            self._changed.notify_all()
        return not request.refused

    def _count_out(self, request: Request) -> None:
        if request.ended is not None:
            return
        with self._changed:
            request.ended = time.monotonic()
            self._changed.notify_all()
        if request.arrived is not None and request.costs and not request.refused:
            if self.lag:
                self._loop.call_later(self.lag, self._forget)
            else:
                self._forget()

    def _forget(self) -> None:
        with self._changed:
            self.in_flight -= 1
            self._changed.notify_all()

    async def _perform_while_watched(self, connection: Connection, request: Request, step: Step) -> bool:
        """Perform it as long as the peer is there."""
        performing = asyncio.create_task(self._perform(connection, request, step, last=True))
        watching = asyncio.create_task(self._watch(connection, request))
        both = (performing, watching)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if performing.done():
                return performing.result()
            raise ConnectionResetError
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _watch(self, connection: Connection, request: Request) -> None:
        """Count it out when its peer goes, before anything else is done about that."""
        await connection.peer_goes()
        if request.ended is None:
            request.gone = time.monotonic()
            self._count_out(request)

    async def _perform(self, connection: Connection, request: Request, step: Step, *, last: bool = False) -> bool:
        """:param last: whether the answer ends with this step."""
        for number, act in enumerate(step, 1):
            ends = last and number == len(step)
            if isinstance(act, bytes):
                if request.answered is None and not act.startswith(b"HTTP/1.1 1"):
                    request.answered = time.monotonic()
                if ends:
                    # Whoever has the last byte may send its next request before anything more runs here.
                    await connection.send(act[:-1])
                    self._count_out(request)
                    act = act[-1:]
                await connection.send(act)
            elif isinstance(act, Latch):
                act.reached.set()
                while not act.is_set():
                    await asyncio.sleep(TICK)
            elif isinstance(act, int | float):
                await asyncio.sleep(act)
            elif act is HANG:
                await asyncio.Event().wait()
            elif act in (CLOSE, RESET):
                self._count_out(request)
                if act is RESET:
                    connection.reset()
                return False
        return True
