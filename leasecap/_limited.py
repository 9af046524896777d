"""``@limited``: a slot for each call of a function, and for as long as what it returns goes on."""

from __future__ import annotations

import functools
import sys

from leasecap import _ancestry
from leasecap._api import acquire, acquire_async, slot
from leasecap._log import log_warning
from leasecap._request import Options, refuse_wrong
from leasecap._threads import is_in_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from typing import Any, ParamSpec, TypeVar, Unpack

    from leasecap._api import AcquireOptions
    from leasecap._lease import Lease

    P = ParamSpec("P")
    T = TypeVar("T")

_COROUTINE, _GENERATOR, _ASYNC_GENERATOR = "coroutine", "generator", "async generator"
_MANAGER, _ASYNC_MANAGER, _TASK, _FUTURE, _VALUE = "manager", "async manager", "task", "future", "value"

_NOT_BEGUN = frozenset({_COROUTINE, _ASYNC_GENERATOR, _ASYNC_MANAGER})
"""Kinds of results that do nothing before an event loop runs them."""


def limited(pool: str, **options: Unpack[AcquireOptions]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Hold a slot of ``pool`` during each call; takes the arguments of `leasecap.acquire`.

    A call returns what the function returns. If that is a coroutine, a future (a task stays that task), a generator of
    either kind, or what ``contextlib.contextmanager`` and ``asynccontextmanager`` make, the slot is held until it has
    ended. With any other object the slot is given back when the call ends, even if the object can be entered or awaited
    (a response, a file, a connection).

    A generator function, a coroutine function and a context manager take their slot when they are first advanced or
    entered. A plain function that returns one takes it when it is called, at least in its first call. Only a
    generator's own code runs under the lease, not the code that consumes it: a stream that is half read is still in
    flight, so its slot can't be borrowed.

    :raises TypeError, ValueError: for arguments that can't be meant, at once.
    """
    if not isinstance(pool, str):
        raise TypeError(f'limited() takes the name of a pool, as in @leasecap.limited("anthropic"), not {pool!r}')
    refuse_wrong(Options(**options))  # a wrong argument raises here, and not in the first call

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        return functools.wraps(function)(_wrapped(function, pool, options))

    return decorate


def _wrapped(function: Callable[..., Any], pool: str, options: AcquireOptions) -> Callable[..., Any]:
    import inspect  # slow to load

    # For an object that can be called, its ``__call__`` may be of any kind.
    called = (function, getattr(type(function), "__call__", None))  # noqa: B004  # not whether it can be called
    if any(map(inspect.isasyncgenfunction, called)):
        return _async_generator(function, functools.partial(acquire_async, pool, **options))
    if any(map(inspect.isgeneratorfunction, called)):
        return _generator(function, functools.partial(acquire, pool, **options))
    if any(map(inspect.iscoroutinefunction, called)):

        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            async with slot(pool, **options):
                return await function(*args, **kwargs)

        return wrapped
    if _makes_managers(function):
        return lambda *args, **kwargs: _keep(function(*args, **kwargs), pool, options, None)
    return _by_result(function, pool, options)


def _makes_managers(function: object) -> bool:
    """Whether ``contextlib`` has made the function: all such functions share one code object."""
    import contextlib

    made = contextlib.contextmanager(iter), contextlib.asynccontextmanager(iter)  # type: ignore[arg-type]
    code = getattr(function, "__code__", None)
    return any(code is one.__code__ for one in made)


def _by_result(function: Callable[..., Any], pool: str, options: AcquireOptions) -> Callable[..., Any]:
    kinds: set[str] = set()  # the kinds of what it has returned until now

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        # To wait for a slot here would block the very loop that has to bring the holders of slots to their end.
        if kinds and kinds <= _NOT_BEGUN and is_in_loop():
            result = function(*args, **kwargs)
            kinds.add(_kind(result))
            if not kinds <= _NOT_BEGUN:
                log_warning(
                    f"{function!r}, limited by the pool {pool!r}, returned what an event loop runs until now, and in "
                    f"this call {type(result)!r}: this one call had no slot"
                )
                return result
            return _keep(result, pool, options, None)
        if kinds == {_TASK} and is_in_loop():
            return _later(function, args, kwargs, pool, options)
        lease = acquire(pool, **options)
        try:
            with _ancestry.running(lease.reference):
                result = function(*args, **kwargs)
            kinds.add(_kind(result))
            kept = _keep(result, pool, options, lease)
        except BaseException:
            lease.release()
            raise
        if _kind(result) == _VALUE:
            lease.release()
        return kept

    return wrapped


def _kind(result: object) -> str:
    import contextlib
    import types

    kinds: tuple[tuple[type, str], ...] = (
        (types.CoroutineType, _COROUTINE),
        (types.GeneratorType, _GENERATOR),
        (types.AsyncGeneratorType, _ASYNC_GENERATOR),
        (contextlib._GeneratorContextManager, _MANAGER),
        (contextlib._AsyncGeneratorContextManager, _ASYNC_MANAGER),
    )
    for kind, name in kinds:
        if isinstance(result, kind):
            return name
    asyncio, futures = sys.modules.get("asyncio"), sys.modules.get("concurrent.futures")
    if asyncio is not None and asyncio.isfuture(result):
        return _TASK
    return _FUTURE if futures is not None and isinstance(result, futures.Future) else _VALUE


def _keep(result: Any, pool: str, options: AcquireOptions, lease: Lease | None) -> Any:
    """``result`` with a slot that is held until it has ended: the slot of ``lease``, or one taken when it begins."""

    def begin() -> Lease:
        return acquire(pool, **options) if lease is None else lease

    async def begin_async() -> Lease:
        return await acquire_async(pool, **options) if lease is None else lease

    kind = _kind(result)
    if kind == _COROUTINE:
        return _coroutine(result, begin_async)
    if kind == _GENERATOR:
        return _generator(lambda: result, begin)()
    if kind == _ASYNC_GENERATOR:
        return _async_generator(lambda: result, begin_async)()
    if kind in (_MANAGER, _ASYNC_MANAGER):
        # A manager has a generator to be entered, and makes another one each time when it is used as a decorator.
        inner, again = result.gen, result.func
        if kind == _MANAGER:
            result.gen = _generator(lambda: inner, begin)()
            result.func = _generator(again, functools.partial(acquire, pool, **options))
        else:
            result.gen = _async_generator(lambda: inner, begin_async)()
            result.func = _async_generator(again, functools.partial(acquire_async, pool, **options))
    elif kind in (_TASK, _FUTURE) and lease is not None:
        result.add_done_callback(lambda _: lease.release())
    return result


async def _coroutine(inner: Any, begin: Callable[[], Awaitable[Lease]]) -> Any:
    try:
        lease = await begin()
    except BaseException:
        inner.close()
        raise
    async with lease:
        return await inner


def _later(function: Callable[..., Any], args: Any, kwargs: Any, pool: str, options: AcquireOptions) -> object:
    """A task that calls the function once it has a slot."""
    import asyncio

    async def call() -> Any:
        async with slot(pool, **options):
            result = function(*args, **kwargs)
            return await result if _kind(result) in (_TASK, _COROUTINE) else result

    return asyncio.ensure_future(call())


def _generator(
    function: Callable[..., Generator[Any, Any, Any]], begin: Callable[[], Lease]
) -> Callable[..., Generator[Any, Any, Any]]:
    def wrapped(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        lease = None
        try:
            lease = begin()
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
    function: Callable[..., AsyncGenerator[Any, Any]], begin: Callable[[], Awaitable[Lease]]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    async def wrapped(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        lease = None
        try:
            lease = await begin()
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
