"""A request on its way: wait for its slot, send it, and hand out its answer with the slot at the end of it."""

from __future__ import annotations

from leasecap import _ancestry
from leasecap._extras import to_install
from leasecap._transport.messages import content_of, headers_of
from leasecap._transport.meter import comes_again

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, TypeVar

    from leasecap._transport.call import Call
    from leasecap._transport.messages import AsyncByteStream, ByteStream, Request, Response
    from leasecap._transport.meter import Meter

    RequestT = TypeVar("RequestT", bound=Request)
    ResponseT = TypeVar("ResponseT", bound=Response)
    T = TypeVar("T")


def send(
    meter: Meter,
    request: RequestT,
    onward: Callable[[RequestT], ResponseT],
    wrap: Callable[[ByteStream, Call], object],
) -> ResponseT:
    """Send ``request`` by ``onward`` once it has its slot.

    :param wrap: makes the stream that stands in for the answer's own.
    """
    pool = meter.pool_of(request)
    if pool is None:
        return onward(request)
    with meter.keeping(pool, request) as kept:
        call = meter.acquire(pool, request, kept.place)
        try:
            with _ancestry.running(call.lease.reference):
                response = onward(request)
            kept.done = not comes_again(response.status_code)
            call.begin(response.status_code, headers_of(response))
            if response.is_closed:
                call.feed(content_of(response) or b"")
                call.end()
            else:
                call.close_if_dropped(response.stream)
                response.stream = wrap(response.stream, call)
            return response
        except BaseException:
            call.end()
            raise


async def send_async(
    meter: Meter,
    request: RequestT,
    onward: Callable[[RequestT], Awaitable[ResponseT]],
    wrap: Callable[[AsyncByteStream, Call], object],
) -> ResponseT:
    """`send` for a task."""
    pool = meter.pool_of(request)
    if pool is None:
        return await onward(request)
    with meter.keeping(pool, request) as kept:
        call = await meter.acquire_async(pool, request, kept.place)
        try:
            with _ancestry.running(call.lease.reference):
                response = await onward(request)
            kept.done = not comes_again(response.status_code)
            call.begin(response.status_code, headers_of(response))
            if response.is_closed:
                call.feed(content_of(response) or b"")
                await call.end_async()
            else:
                from asyncio import get_running_loop

                call.close_if_dropped_async(response.stream, get_running_loop())
                response.stream = wrap(response.stream, call)
            return response
        except BaseException:
            await call.end_async()
            raise


def of_library(library: str, kind: type[T], given: Any) -> T:
    """``given``, which must be a ``kind`` of that library.

    :raises TypeError: when it is of another one: these libraries take each other's classes, and fail in the middle.
    """
    if isinstance(given, kind):
        return given
    its = type(given)
    raise TypeError(
        f"leasecap.{library} works with {library}.{kind.__name__}, not with {its.__module__}.{its.__name__}"
    )


def missing(library: str) -> ModuleNotFoundError:
    """The error for a library that isn't installed."""
    return ModuleNotFoundError(f"leasecap.{library} needs {library}: {to_install(library)}", name=library)
