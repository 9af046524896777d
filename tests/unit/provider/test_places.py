"""The places of clients that gave up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from commands import status, until

import leasecap
from leasecap._api import acquire_async_with
from leasecap._provider.places import Places
from leasecap._request import Options


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def places(clock: Clock) -> Places:
    return Places(clock)


def taken(places: Places, key: bytes | None, *, done: bool = False) -> object:
    with places.keeping(None if key is None else lambda: key, 120) as kept:
        kept.done = done
        return kept.place


def test_place_is_given_to_the_next_request_of_its_key(places: Places) -> None:
    first = taken(places, b"a")
    assert taken(places, b"b") is not first
    assert taken(places, b"a") is first


def test_place_of_an_answered_request_is_not_kept(places: Places) -> None:
    first = taken(places, b"a", done=True)
    assert taken(places, b"a") is not first


def test_place_is_kept_when_the_client_goes(places: Places) -> None:
    with pytest.raises(asyncio.CancelledError), places.keeping(lambda: b"a", 120) as kept:
        raise asyncio.CancelledError
    assert taken(places, b"a") is kept.place


def test_place_is_forgotten_in_the_end(places: Places, clock: Clock) -> None:
    first = taken(places, b"a")
    clock.now += 119
    assert taken(places, b"a") is first
    clock.now += 121
    assert taken(places, b"a") is not first


def test_place_is_not_shared_by_two_at_once(places: Places) -> None:
    first = taken(places, b"a")
    with places.keeping(lambda: b"a", 120) as one, places.keeping(lambda: b"a", 120) as other:
        assert one.place is first and other.place is not first


def test_place_without_a_key_is_not_kept(places: Places) -> None:
    assert taken(places, None) is not taken(places, None)


def test_key_of_an_answered_request_is_not_computed(places: Places) -> None:
    def key() -> bytes:
        raise AssertionError("it reads the whole body")

    with places.keeping(key, 120) as kept:
        kept.done = True


def test_places_are_bounded(places: Places) -> None:
    first = taken(places, b"0")
    for number in range(1000):
        taken(places, b"%d" % (number + 1))
    assert taken(places, b"0") is not first


def test_key_tells_parts_apart(places: Places) -> None:
    assert places.key(b"a", b"bc") == places.key(b"a", b"bc")
    assert places.key(b"a", b"bc") != places.key(b"ab", b"c")
    assert places.key(b"a") != Places(Clock()).key(b"a")  # keyed anew in each gate


@pytest.mark.usefixtures("pool")
def test_who_comes_again_stands_before_who_came_meanwhile(places: Places) -> None:
    order: list[str] = []

    async def ask(name: str, key: bytes) -> None:
        with places.keeping(lambda: key, 120) as kept:
            async with await acquire_async_with("p", Options(limit=1, place=kept.place)):
                order.append(name)
                kept.done = True

    async def waiting(number: int) -> None:
        await asyncio.to_thread(until, lambda: len(status().waiters) == number)

    async def main() -> None:
        held = leasecap.acquire("p", limit=1)
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(ask("gave up", b"a"))]
        await waiting(1)
        tasks.append(asyncio.create_task(ask("came later", b"b")))
        await waiting(2)
        tasks[0].cancel()
        await waiting(1)
        tasks.append(asyncio.create_task(ask("came again", b"a")))
        await waiting(2)
        held.release()
        await asyncio.wait(tasks)

    asyncio.run(main())
    assert order == ["came again", "came later"]
