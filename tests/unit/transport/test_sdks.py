"""The providers' own SDKs with these transports, against a provider that refuses what is above its cap."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai
import pytest
from provider import Provider
from provider_formats import WORDS, completion_events, message_events, response_events
from provider_steps import HANG, refuse, stream
from referee import DEADLINE

import leasecap
import leasecap.httpx2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from provider_steps import Step

pytestmark = pytest.mark.usefixtures("pool")

TEXT = "".join(WORDS)
ASKED: Any = [{"role": "user", "content": "say it"}]
CALLS = 4
SDKS = ("openai", "responses", "anthropic")
sdks = pytest.mark.parametrize("sdk", SDKS)
both = pytest.mark.parametrize("streams", [False, True], ids=["plain", "stream"])


def sync_client(sdk: str, provider: Provider, retries: int = 0, **slots: Any) -> Any:
    http = leasecap.httpx2.Client(limit=1, **slots)
    if sdk == "anthropic":
        return anthropic.Anthropic(api_key="k", base_url=provider.url, http_client=http, max_retries=retries)
    return openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1", http_client=http, max_retries=retries)


def async_client(sdk: str, provider: Provider, **slots: Any) -> Any:
    http = leasecap.httpx2.AsyncClient(limit=1, **slots)
    if sdk == "anthropic":
        return anthropic.AsyncAnthropic(api_key="k", base_url=provider.url, http_client=http, max_retries=0)
    return openai.AsyncOpenAI(api_key="k", base_url=f"{provider.url}/v1", http_client=http, max_retries=0)


def ask(sdk: str, client: Any, streams: bool = False) -> Any:
    """What the call returns: an answer or a stream, or the promise of one."""
    if sdk == "openai":
        return client.chat.completions.create(model="fake-1", messages=ASKED, stream=streams)
    if sdk == "responses":
        return client.responses.create(model="fake-1", input="say it", stream=streams)
    return client.messages.create(model="fake-1", max_tokens=9, messages=ASKED, stream=streams)


def text_of(sdk: str, answer: Any) -> str:
    """Of a whole answer."""
    if sdk == "openai":
        return str(answer.choices[0].message.content)
    if sdk == "responses":
        return str(answer.output_text)
    return str(answer.content[0].text)


def text_in(sdk: str, event: Any) -> str:
    """That an event of a stream adds."""
    if sdk == "openai":
        return event.choices[0].delta.content or ""
    delta = getattr(event, "delta", "")
    return delta if isinstance(delta, str) else getattr(delta, "text", "")


def unfinished(sdk: str) -> Step:
    """A stream that begins and then says nothing more."""
    events = {"openai": completion_events, "responses": response_events, "anthropic": message_events}[sdk]()
    return (*stream(*events[:4])[:-1], HANG)


def holding(provider: Provider) -> int:
    return leasecap.status(provider.url).pools[0].in_flight


@sdks
@both
def test_threads_take_turns(sdk: str, streams: bool) -> None:
    with Provider(cap=1) as provider, sync_client(sdk, provider) as client:

        def call(_: int) -> str:
            answer = ask(sdk, client, streams)
            return "".join(text_in(sdk, event) for event in answer) if streams else text_of(sdk, answer)

        with ThreadPoolExecutor(CALLS) as threads:
            assert list(threads.map(call, range(CALLS))) == [TEXT] * CALLS
        assert (provider.most, provider.refused, len(provider.requests)) == (1, 0, CALLS)
        assert holding(provider) == 0


@sdks
@both
def test_tasks_take_turns(sdk: str, streams: bool) -> None:
    async def main(provider: Provider) -> None:
        async with async_client(sdk, provider) as client:

            async def call() -> str:
                answer = await ask(sdk, client, streams)
                return "".join([text_in(sdk, event) async for event in answer]) if streams else text_of(sdk, answer)

            assert await asyncio.gather(*(call() for _ in range(CALLS))) == [TEXT] * CALLS

    with Provider(cap=1) as provider:
        asyncio.run(main(provider))
        assert (provider.most, provider.refused, len(provider.requests)) == (1, 0, CALLS)
        assert holding(provider) == 0


@sdks
def test_a_stream_left_in_the_middle_gives_its_slot_back(sdk: str) -> None:
    with Provider() as provider, sync_client(sdk, provider) as client:
        provider.plan(unfinished(sdk))
        with ask(sdk, client, True) as events:
            for _ in events:
                break
        assert holding(provider) == 0
        assert provider.ended().gone is not None


@sdks
def test_an_async_stream_left_in_the_middle_gives_its_slot_back(sdk: str) -> None:
    async def main(provider: Provider) -> None:
        async with async_client(sdk, provider) as client:
            async with await ask(sdk, client, True) as events:
                async for _ in events:
                    break
            assert holding(provider) == 0

    with Provider() as provider:
        provider.plan(unfinished(sdk))
        asyncio.run(main(provider))
        assert provider.ended().gone is not None


@sdks
@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
def test_a_stream_that_is_dropped_gives_its_slot_back(sdk: str) -> None:
    with Provider() as provider, sync_client(sdk, provider) as client:
        provider.plan(unfinished(sdk))
        ask(sdk, client, True)
        gc.collect()
        assert provider.ended().gone is not None
        leasecap.acquire(provider.url, limit=1, timeout=DEADLINE).release()


@sdks
@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
def test_an_async_stream_broken_off_is_found_when_another_one_waits(sdk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The SDKs' streams refer to themselves then: nothing but the garbage collector sees that they are dropped.
    monkeypatch.setattr("leasecap._transport.call.UNREAD_FOR", 0.1)

    async def main(provider: Provider) -> None:
        async with async_client(sdk, provider) as client:
            async for _ in await ask(sdk, client, True):
                break
            assert text_of(sdk, await ask(sdk, client)) == TEXT

    with Provider() as provider:
        provider.plan(unfinished(sdk))
        gc.disable()
        try:
            asyncio.run(main(provider))
        finally:
            gc.enable()
        assert provider.ended().gone is not None


@sdks
def test_no_slot_in_time_is_the_sdks_own_time_out(sdk: str) -> None:
    with Provider() as provider, sync_client(sdk, provider, queue_timeout=0.01) as client:
        lease = leasecap.acquire(provider.url, limit=1)
        with pytest.raises((openai.APITimeoutError, anthropic.APITimeoutError)) as caught:
            ask(sdk, client)
        lease.release()
        assert isinstance(caught.value.__cause__, leasecap.AcquireTimeout)
        assert not provider.requests


@sdks
def test_no_slot_is_held_while_the_sdk_backs_off(sdk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    base = anthropic._base_client if sdk == "anthropic" else openai._base_client
    with Provider() as provider, sync_client(sdk, provider, retries=1) as client:
        provider.plan(refuse(503))
        monkeypatch.setattr(base.time, "sleep", lambda _: held.append(holding(provider)))
        answer = ask(sdk, client)
        monkeypatch.undo()
        assert text_of(sdk, answer) == TEXT
    assert held == [0]
