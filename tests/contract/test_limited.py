"""`@limited`: a slot for each call of a function, and for a generator until it ends."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from each_store import IN_PROCESS
from referee import until

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


pytestmark = [IN_PROCESS, pytest.mark.usefixtures("pool")]


def in_flight() -> int:
    return leasecap.status("p").pools[0].in_flight


def assert_idle() -> None:
    """A server hears a moment later what an event loop gives back."""
    until(lambda: in_flight() == 0, "nobody holds a slot")


def test_a_limited_function_holds_a_slot_during_each_call() -> None:
    @leasecap.limited("p")
    def function(one: int, *, two: int = 2) -> tuple[int, int, int]:
        """Its own words."""
        return one, two, in_flight()

    assert function(1, two=3) == (1, 3, 1)
    assert_idle()
    assert (function.__name__, function.__doc__) == ("function", "Its own words.")
    assert list(inspect.signature(function).parameters) == ["one", "two"]


def test_a_limited_function_that_raises_gives_its_slot_back() -> None:
    @leasecap.limited("p")
    def function() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        function()
    assert_idle()


def test_a_limited_function_may_call_itself() -> None:
    @leasecap.limited("p", timeout=10)
    def countdown(number: int) -> int:
        return in_flight() if number == 0 else countdown(number - 1)

    assert countdown(3) == 1


def test_a_limited_coroutine_holds_a_slot_while_it_runs() -> None:
    @leasecap.limited("p")
    async def function() -> int:
        await asyncio.sleep(0)
        return in_flight()

    assert inspect.iscoroutinefunction(function)

    async def main() -> list[int]:
        return list(await asyncio.gather(*(function() for _ in range(5))))

    assert asyncio.run(main()) == [1, 1, 1, 1, 1]
    assert_idle()


def test_a_limited_generator_holds_its_slot_from_the_first_step_to_the_end() -> None:
    @leasecap.limited("p")
    def count() -> Any:
        return [(yield 0), (yield 1)]

    assert inspect.isgeneratorfunction(count)
    steps = count()
    assert_idle()
    assert next(steps) == 0
    assert in_flight() == 1
    assert steps.send("a") == 1
    with pytest.raises(StopIteration) as stopped:
        steps.send("b")
    assert stopped.value.value == ["a", "b"]
    assert_idle()


def test_a_limited_generator_can_be_thrown_into_and_closed_early() -> None:
    seen: list[object] = []

    @leasecap.limited("p")
    def endless() -> Any:
        try:
            while True:
                try:
                    yield "on"
                except ValueError:
                    seen.append("caught")
        finally:
            seen.append(in_flight())

    steps = endless()
    next(steps)
    assert steps.throw(ValueError) == "on"
    with pytest.raises(KeyError):
        steps.throw(KeyError)
    steps = endless()
    next(steps)
    steps.close()
    assert seen == ["caught", 1, 1]
    assert_idle()


def test_what_consumes_a_limited_stream_borrows_no_slot_from_it() -> None:
    @leasecap.limited("p")
    def stream() -> Any:
        with leasecap.slot("p", timeout=0):  # its own code may
            pass
        yield 1
        yield 2

    for _ in stream():
        assert leasecap.try_acquire("p") is None
    assert_idle()


def test_a_limited_async_generator_holds_its_slot_until_it_is_closed() -> None:
    seen: list[object] = []

    @leasecap.limited("p")
    async def endless() -> Any:
        try:
            while True:
                try:
                    seen.append((yield in_flight()))
                except ValueError:
                    seen.append("caught")
        finally:
            await asyncio.sleep(0)
            seen.append(in_flight())

    assert inspect.isasyncgenfunction(endless)

    async def main() -> None:
        steps = endless()
        assert_idle()
        assert await anext(steps) == 1
        assert await steps.asend("sent") == 1
        assert await steps.athrow(ValueError) == 1
        assert leasecap.try_acquire("p") is None
        await steps.aclose()
        assert_idle()
        assert [one async for one in two()] == [1, 1]
        assert_idle()

    @leasecap.limited("p")
    async def two() -> Any:
        yield in_flight()
        yield in_flight()

    asyncio.run(main())
    assert seen == ["sent", "caught", 1]
