"""What a limited function returns keeps its slot for as long as it goes on, and stays what it is."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import threading
import types
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any, TypeAlias

    Wrap: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

pytestmark = pytest.mark.usefixtures("pool")


def in_flight() -> int:
    return leasecap.status("p").pools[0].in_flight


class Work:
    """Counts how much of it goes on at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            yield
        finally:
            self.now -= 1

    async def coroutine(self) -> int:
        with self.one():
            await asyncio.sleep(0.01)
            return in_flight()

    async def stream(self) -> AsyncIterator[int]:
        with self.one():
            await asyncio.sleep(0.01)
            yield in_flight()

    def task(self) -> asyncio.Task[int]:
        return asyncio.get_running_loop().create_task(self.coroutine())

    def unmarked(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    async def __call__(self) -> int:
        return await self.coroutine()


@pytest.fixture
def work() -> Work:
    return Work()


KINDS: dict[str, tuple[Callable[[Work], Callable[[], Any]], type]] = {
    "a lambda": (lambda work: lambda: work.coroutine(), types.CoroutineType),
    "an object with an async call": (lambda work: work, types.CoroutineType),
    "a partial of it": (lambda work: functools.partial(work), types.CoroutineType),
    "a wrapper that is not marked": (lambda work: work.unmarked(work.coroutine), types.CoroutineType),
    "a task": (lambda work: work.task, asyncio.Task),
    "ensure_future": (lambda work: lambda: asyncio.ensure_future(work.coroutine()), asyncio.Task),
}


@pytest.mark.parametrize(("make", "kind"), KINDS.values(), ids=KINDS)
def test_what_is_awaited_has_a_slot_until_it_ends(
    work: Work, make: Callable[[Work], Callable[[], Any]], kind: type
) -> None:
    limited = leasecap.limited("p")(make(work))

    async def main() -> list[int]:
        begun = [limited() for _ in range(4)]
        assert {type(one) for one in begun} == {kind}
        return list(await asyncio.gather(*begun))

    for _ in range(2):
        assert asyncio.run(main()) == [1, 1, 1, 1]
        assert work.most == 1 and in_flight() == 0


def test_a_first_task_is_returned_as_it_is(work: Work) -> None:
    made: list[asyncio.Task[int]] = []

    @leasecap.limited("p")
    def begin() -> asyncio.Task[int]:
        made.append(work.task())
        return made[-1]

    async def main() -> None:
        task = begin()
        assert task is made[0] and in_flight() == 1
        await task
        second = begin()
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second

    asyncio.run(main())
    assert in_flight() == 0


def test_a_future_of_a_thread_has_a_slot_until_it_is_done() -> None:
    goes_on = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        future = leasecap.limited("p")(lambda: threads.submit(goes_on.wait, 60))()
        assert isinstance(future, Future) and in_flight() == 1
        goes_on.set()
        assert future.result()
    assert in_flight() == 0
    done: Future[int] = Future()
    done.set_result(1)
    assert leasecap.limited("p")(lambda: done)() is done
    assert in_flight() == 0


def test_an_async_stream_has_a_slot_until_it_ends(work: Work) -> None:
    limited = leasecap.limited("p")(lambda: work.stream())

    async def read() -> list[int]:
        stream = limited()
        assert type(stream) is types.AsyncGeneratorType
        return [one async for one in stream]

    async def main() -> list[list[int]]:
        return list(await asyncio.gather(*(read() for _ in range(4))))

    assert asyncio.run(main()) == [[1], [1], [1], [1]]
    assert work.most == 1 and in_flight() == 0


def test_a_stream_has_a_slot_until_it_ends_or_is_dropped() -> None:
    limited = leasecap.limited("p")(lambda: (one for one in "ab"))
    stream = limited()
    assert inspect.isgenerator(stream)
    assert next(stream) == "a" and in_flight() == 1
    assert list(stream) == ["b"] and in_flight() == 0
    stream = limited()
    next(stream)
    stream.close()
    assert in_flight() == 0


def test_an_object_with_a_generator_call_is_a_generator() -> None:
    class Stream:
        def __call__(self) -> Iterator[int]:
            yield in_flight()

    assert list(leasecap.limited("p")(Stream())()) == [1]
    assert in_flight() == 0


MANAGERS: dict[str, Wrap] = {
    "made by contextlib": lambda function: function,
    "returned by a lambda": lambda function: lambda *args: function(*args),
}


@pytest.mark.parametrize("wrap", MANAGERS.values(), ids=MANAGERS)
def test_a_context_manager_has_a_slot_until_it_is_left(wrap: Wrap) -> None:
    @contextlib.contextmanager
    def manager(word: str) -> Iterator[str]:
        try:
            yield word
        except KeyError:
            pass

    limited = leasecap.limited("p")(wrap(manager))
    for _ in range(2):
        entered = limited("a")
        assert type(entered) is type(manager(""))
        with entered as word:
            assert (word, in_flight()) == ("a", 1)
            raise KeyError
        assert in_flight() == 0
    with pytest.raises(ZeroDivisionError), limited("a"):
        raise ZeroDivisionError
    assert in_flight() == 0


def test_a_context_manager_that_decorates_has_a_slot_in_each_call() -> None:
    @leasecap.limited("p")
    @contextlib.contextmanager
    def manager() -> Iterator[None]:
        yield

    function = manager()(in_flight)
    assert [function(), function(), in_flight()] == [1, 1, 0]


@pytest.mark.parametrize("wrap", MANAGERS.values(), ids=MANAGERS)
def test_an_async_context_manager_blocks_no_loop(work: Work, wrap: Wrap) -> None:
    @contextlib.asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        with work.one():
            yield

    limited = leasecap.limited("p")(wrap(manager))

    async def enter() -> int:
        async with limited():
            await asyncio.sleep(0.01)
            return in_flight()

    async def main() -> list[int]:
        return list(await asyncio.gather(*(enter() for _ in range(4))))

    assert asyncio.run(main()) == [1, 1, 1, 1]
    assert work.most == 1 and in_flight() == 0


def test_an_object_that_can_merely_be_entered_ends_with_the_call(tmp_path: Path) -> None:
    with leasecap.limited("p")(open)(tmp_path / "file", "w"):
        assert in_flight() == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::ResourceWarning")
def test_what_is_never_begun_keeps_no_slot(work: Work) -> None:
    manager = contextlib.contextmanager(iter)
    for function in (lambda: work.coroutine(), lambda: (one for one in "a"), lambda: manager([1])):
        leasecap.limited("p")(function)()
        gc.collect()
        leasecap.acquire("p", timeout=60).release()


def test_a_function_that_raises_in_making_its_result_keeps_no_slot() -> None:
    with pytest.raises(ZeroDivisionError):
        leasecap.limited("p")(lambda: 1 // 0)()
    assert in_flight() == 0


def test_a_coroutine_that_gets_no_slot_is_closed(work: Work) -> None:
    limited = leasecap.limited("p", timeout=0)(lambda: work.coroutine())

    async def main() -> None:
        await limited()
        with pytest.raises(leasecap.AcquireTimeout):
            lease = leasecap.acquire("p")
            try:
                await limited()
            finally:
                lease.release()

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [lambda: None, 5, None, ["p"]])
def test_without_a_pool_the_decoration_fails(wrong: Any) -> None:
    with pytest.raises(TypeError, match="name of a pool"):
        leasecap.limited(wrong)


@pytest.mark.parametrize("options", [{"on_lost": 5}, {"on_wait": "x"}, {"timeout": True}, {"limit": "2"}, {"label": 5}])
def test_a_wrong_argument_fails_at_the_decoration(options: Any) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        leasecap.limited("p", **options)
