"""``@limited``: a slot for each call of a function."""

from __future__ import annotations

import functools

from leasecap import _ancestry
from leasecap._api import acquire, acquire_async, slot
from leasecap._request import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any, ParamSpec, TypeVar, Unpack

    from leasecap._api import AcquireOptions

    P = ParamSpec("P")
    T = TypeVar("T")


def limited(pool: str, **options: Unpack[AcquireOptions]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Hold a slot of ``pool`` during each call; takes the arguments of `leasecap.acquire`.

    For functions, coroutine functions, and generator functions of both kinds: a generator takes its slot when it is
    first advanced and holds it until it ends or is closed. Only the generator's own code runs under the lease, not
    the code that consumes it: a stream that is half read is still in flight, so its slot is not one to be borrowed.
    """
    Options(**options)  # a wrong keyword is an error of the decoration, not of the first call

    import inspect  # 13 ms

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        wrapped: Any
        if inspect.isasyncgenfunction(function):
            wrapped = _async_generator(function, pool, options)
        elif inspect.isgeneratorfunction(function):
            wrapped = _generator(function, pool, options)
        elif inspect.iscoroutinefunction(function):

            async def wrapped(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with slot(pool, **options):
                    return await function(*args, **kwargs)
        else:

            def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
                with slot(pool, **options):
                    return function(*args, **kwargs)

        return functools.wraps(function)(wrapped)

    return decorate


def _generator(
    function: Callable[..., Generator[Any, Any, Any]], pool: str, options: AcquireOptions
) -> Callable[..., Generator[Any, Any, Any]]:
    def wrapped(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        lease = None
        try:
            lease = acquire(pool, **options)
            inner = function(*args, **kwargs)
            advance, value = inner.send, None
            while True:
                try:
                    with _ancestry.running(lease.reference):
                        item = advance(value)
                except StopIteration as stop:
                    return stop.value
                try:
                    advance, value = inner.send, (yield item)
                except GeneratorExit:
                    inner.close()
                    raise
                except BaseException as error:
                    advance, value = inner.throw, error
        finally:
            if lease is not None:
                lease.release()

    return wrapped


def _async_generator(
    function: Callable[..., AsyncGenerator[Any, Any]], pool: str, options: AcquireOptions
) -> Callable[..., AsyncGenerator[Any, Any]]:
    async def wrapped(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        lease = None
        try:
            lease = await acquire_async(pool, **options)
            inner = function(*args, **kwargs)
            advance, value = inner.asend, None
            while True:
                try:
                    with _ancestry.running(lease.reference):
                        item = await advance(value)
                except StopAsyncIteration:
                    return
                try:
                    advance, value = inner.asend, (yield item)
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:
                    advance, value = inner.athrow, error
        finally:
            if lease is not None:
                lease.release()

    return wrapped
