"""A slot for each request that an httpx2 client makes, as those of openai, anthropic, google-genai and mistralai are.

::

    client = openai.OpenAI(http_client=leasecap.httpx2.Client())

A request waits for its slot before it is sent, and holds it until the body of its answer was read to the end or closed.
`leasecap.httpx` is the same for httpx.
"""

from __future__ import annotations

from functools import partial

try:
    import httpx2
except ModuleNotFoundError as error:
    if error.name != "httpx2":
        raise
    from leasecap._transport.sending import missing

    raise missing("httpx2") from None

from leasecap._errors import AcquireTimeout
from leasecap._request import UNSET, Options
from leasecap._transport.meter import Meter
from leasecap._transport.sending import of_library, send, send_async

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType
    from typing import Any, Self, Unpack

    from leasecap._api import AcquireOptions
    from leasecap._lease import Lease
    from leasecap._request import Unset
    from leasecap._transport.call import Call
    from leasecap._transport.messages import AsyncByteStream, ByteStream
    from leasecap._wait.progress import Waiting

__all__ = ["AsyncClient", "AsyncLeaseTransport", "Client", "LeaseTransport", "SlotTimeout"]


class SlotTimeout(AcquireTimeout, httpx2.PoolTimeout):
    """No slot came in time. SDKs treat it as a time-out of their own, and may try again: from the same place."""

    _request: httpx2.Request | None = None


class LeaseTransport(httpx2.BaseTransport):
    """Sends each request by another transport, with a slot."""

    def __init__(
        self, pool: str | None = None, transport: httpx2.BaseTransport | None = None, **options: Unpack[AcquireOptions]
    ) -> None:
        """
        :param pool: whose slots; None: the pool that the scheme, host and port of each request's URL name.
        :param transport: does the sending; None: a new ``httpx2.HTTPTransport()``.
        :param options: the arguments of `leasecap.acquire`, for each request. ``timeout`` bounds the wait for the slot
            alone, and the client's own time-outs don't count that wait.
        """
        self._transport = of_library(
            "httpx2", httpx2.BaseTransport, httpx2.HTTPTransport() if transport is None else transport
        )
        self._meter = Meter(pool, Options(**options), SlotTimeout)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """
        :raises SlotTimeout: no slot came in time.
        :raises ConfigError: the configuration can't be used, or nothing gives the pool a limit.
        :raises StoreError: the state directory can't be used.
        """
        request = of_library("httpx2", httpx2.Request, request)
        return send(self._meter, request, self._transport.handle_request, _Stream)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._transport.__exit__(exc_type, exc_value, traceback)


class AsyncLeaseTransport(httpx2.AsyncBaseTransport):
    """`LeaseTransport` for an ``httpx2.AsyncClient`` on asyncio, with the same arguments."""

    def __init__(
        self,
        pool: str | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        **options: Unpack[AcquireOptions],
    ) -> None:
        self._transport = of_library(
            "httpx2", httpx2.AsyncBaseTransport, httpx2.AsyncHTTPTransport() if transport is None else transport
        )
        self._meter = Meter(pool, Options(**options), SlotTimeout)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See `LeaseTransport.handle_request`."""
        request = of_library("httpx2", httpx2.Request, request)
        return await send_async(self._meter, request, self._transport.handle_async_request, _AsyncStream)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc_value, traceback)


class Client(httpx2.Client):
    """An ``httpx2.Client`` whose requests take slots: its proxies and certificates stay as they are."""

    def __init__(
        self,
        pool: str | None = None,
        *,
        queue_timeout: float | Unset | None = UNSET,
        limit: int | Unset | None = UNSET,
        priority: int | Unset = UNSET,
        label: str | None = None,
        borrow: bool = True,
        on_wait: Callable[[Waiting], object] | None = None,
        on_lost: Callable[[Lease], object] | None = None,
        max_hold: float | Unset | None = UNSET,
        task_since: float | Callable[[], float | None] | None = None,
        **client: Any,
    ) -> None:
        """
        :param pool: see `LeaseTransport`; so are all up to ``client``.
        :param queue_timeout: its ``timeout``: seconds to wait for a slot.
        :param client: the arguments of ``httpx2.Client``, whose ``timeout`` doesn't count the wait.
        """
        with_slots = partial(
            LeaseTransport,
            pool,
            timeout=queue_timeout,
            limit=limit,
            priority=priority,
            label=label,
            borrow=borrow,
            on_wait=on_wait,
            on_lost=on_lost,
            max_hold=max_hold,
            task_since=task_since,
        )
        super().__init__(**client)
        # What the client has made of its arguments and the environment, which it would not heed with a transport given.
        self._transport = with_slots(self._transport)
        self._mounts = {at: None if one is None else with_slots(one) for at, one in self._mounts.items()}


class AsyncClient(httpx2.AsyncClient):
    """`Client` for asyncio."""

    def __init__(
        self,
        pool: str | None = None,
        *,
        queue_timeout: float | Unset | None = UNSET,
        limit: int | Unset | None = UNSET,
        priority: int | Unset = UNSET,
        label: str | None = None,
        borrow: bool = True,
        on_wait: Callable[[Waiting], object] | None = None,
        on_lost: Callable[[Lease], object] | None = None,
        max_hold: float | Unset | None = UNSET,
        task_since: float | Callable[[], float | None] | None = None,
        **client: Any,
    ) -> None:
        """See `Client`."""
        with_slots = partial(
            AsyncLeaseTransport,
            pool,
            timeout=queue_timeout,
            limit=limit,
            priority=priority,
            label=label,
            borrow=borrow,
            on_wait=on_wait,
            on_lost=on_lost,
            max_hold=max_hold,
            task_since=task_since,
        )
        super().__init__(**client)
        self._transport = with_slots(self._transport)
        self._mounts = {at: None if one is None else with_slots(one) for at, one in self._mounts.items()}


class _Stream(httpx2.SyncByteStream):
    def __init__(self, stream: ByteStream, call: Call) -> None:
        self._stream = stream
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        return self._call.pieces(self._stream)

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._call.end()


class _AsyncStream(httpx2.AsyncByteStream):
    def __init__(self, stream: AsyncByteStream, call: Call) -> None:
        self._stream = stream
        self._call = call

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._call.pieces_async(self._stream)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._call.end_async()
