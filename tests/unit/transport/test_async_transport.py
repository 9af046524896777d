"""The transports of both libraries in an event loop."""

from __future__ import annotations

import asyncio
import gc

import httpx2
import pytest
from provider_formats import PING
from provider_steps import HANG, Latch, refuse, stream
from referee import DEADLINE, until

import leasecap
from leasecap._transport import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from provider import Provider

pytestmark = pytest.mark.usefixtures("pool")

PATH = "/v1/messages"
BODY = {"model": "fake-1"}
HANGING = (*stream(PING)[:-1], HANG)
REFUSED = (*refuse(429, b"50")[:-1], b"{", HANG)


def in_flight() -> int:
    return leasecap.status("p").pools[0].in_flight


async def ended(provider: Provider) -> None:
    await asyncio.to_thread(provider.ended)


async def came_free() -> None:
    (await leasecap.acquire_async("p", timeout=DEADLINE, borrow=False)).release()


def test_the_slot_is_held_until_the_body_is_read(face: Any, provider: Provider) -> None:
    rest = Latch()
    provider.plan(stream(PING, rest, PING))

    async def main() -> None:
        async with face.AsyncClient("p") as client, client.stream("POST", provider.url + PATH, json=BODY) as response:
            pieces = response.aiter_raw()
            await anext(pieces)
            assert in_flight() == 1
            rest.set()
            assert [piece async for piece in pieces]
            assert in_flight() == 0

    asyncio.run(main())


def test_tasks_take_turns(face: Any) -> None:
    from provider import Provider

    async def main(provider: Provider) -> None:
        async with face.AsyncClient("p") as client:
            answers = await asyncio.gather(*(client.post(provider.url + PATH, json=BODY) for _ in range(8)))
            assert {answer.status_code for answer in answers} == {200}

    with Provider(cap=1) as provider:
        asyncio.run(main(provider))
        assert (provider.most, provider.refused) == (1, 0)


def test_no_slot_in_time_is_both_errors(face: Any, library: Any, provider: Provider) -> None:
    async def main() -> None:
        lease = await leasecap.acquire_async("p")
        async with face.AsyncClient("p", queue_timeout=0.01) as client:
            with pytest.raises(library.PoolTimeout) as caught:
                await client.post(provider.url + PATH, json=BODY)
            assert type(caught.value) is face.SlotTimeout
        lease.release()

    asyncio.run(main())
    assert not provider.requests


def test_what_costs_nothing_takes_no_slot(face: Any, provider: Provider) -> None:
    async def main() -> None:
        lease = leasecap.acquire("p")
        async with face.AsyncClient("p", queue_timeout=0) as client:
            assert (await client.get(provider.url + "/v1/models")).status_code == 200
        lease.release()

    asyncio.run(main())


def test_a_task_that_is_cancelled_gives_its_slot_back(face: Any, provider: Provider) -> None:
    provider.plan((HANG,))

    async def main() -> None:
        async with face.AsyncClient("p") as client:
            task = asyncio.create_task(client.post(provider.url + PATH, json=BODY))
            await asyncio.to_thread(provider.request)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert in_flight() == 0

    asyncio.run(main())


def test_an_answer_left_in_the_middle_gives_its_slot_back(face: Any, provider: Provider) -> None:
    provider.plan(HANGING)

    async def main() -> None:
        async with face.AsyncClient("p") as client:
            response = await client.send(client.build_request("POST", provider.url + PATH, json=BODY), stream=True)
            async for _ in response.aiter_raw():
                break
            await came_free()
            await ended(provider)
            await response.aclose()

    asyncio.run(main())


def test_an_answer_that_is_dropped_unread_gives_its_slot_back(
    face: Any, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.plan(HANGING)

    async def main() -> None:
        async with face.AsyncClient("p") as client:
            response = await client.send(client.build_request("POST", provider.url + PATH, json=BODY), stream=True)
            with pytest.warns(ResourceWarning, match="was dropped before its end"):
                del response
                gc.collect()
            await ended(provider)
            await came_free()

    asyncio.run(main())
    until(lambda: "was dropped before its end" in caplog.text, "a line in the log")


@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
def test_a_refusal_that_is_dropped_unread_is_told_before_the_slot_is_free(face: Any, provider: Provider) -> None:
    provider.plan(REFUSED)

    async def main() -> None:
        async with face.AsyncClient("p") as client:
            response = await client.send(client.build_request("POST", provider.url + PATH, json=BODY), stream=True)
            assert response.status_code == 429
            del response
            gc.collect()
            await ended(provider)
            while in_flight():
                await asyncio.sleep(0.01)

    asyncio.run(main())
    feedback = leasecap.status("p").pools[0].feedback
    assert feedback is not None and feedback.paused


def test_an_answer_whose_loop_is_closed_gives_its_slot_back() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    lease = leasecap.acquire("p")
    call._close_in(loop, httpx2.ByteStream(b""), lease)
    assert not lease.held


def test_an_answer_that_is_there_as_a_whole_holds_nothing(face: Any, library: Any) -> None:
    async def main() -> None:
        inner = library.MockTransport(lambda request: library.Response(200, json={}))
        async with library.AsyncClient(transport=face.AsyncLeaseTransport("p", inner)) as client:
            await client.post("http://example.invalid/v1/messages")
            assert in_flight() == 0

    asyncio.run(main())
