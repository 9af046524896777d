"""How long requests of the transports and of the SDKs took, by model: what counts, and as what."""

from __future__ import annotations

import asyncio

import anthropic
import openai
import pytest
from provider_formats import OVERLOADED, message_events
from provider_steps import CLOSE, HANG, broken, refuse, reply, stream

import leasecap
import leasecap.httpx2
from leasecap._latency import latencies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from provider import Provider

pytestmark = pytest.mark.usefixtures("pool")

PATH = "/v1/messages"
PLAIN: dict[str, object] = {"model": "fake-1"}
STREAMED: dict[str, object] = {**PLAIN, "stream": True}
ASKED: Any = [{"role": "user", "content": "say it"}]


def counts() -> dict[tuple[str, bool], tuple[int, int]]:
    """How many first bytes and how many whole answers, by model and whether they are streamed."""
    latencies.end()
    rows = leasecap.status("p", latency=True).pools[0].latency or ()
    assert all(row.first_byte.max is None or row.first_byte.max < 60 for row in rows)
    found: dict[tuple[str, bool], tuple[int, int]] = {}
    for row in rows:  # of two hours, if one has just begun
        first, whole = found.get((row.model, row.streamed), (0, 0))
        found[row.model, row.streamed] = first + row.first_byte.n, whole + row.whole_answer.n
    return found


def test_answers_are_counted_by_model_and_kind(face: Any, provider: Provider) -> None:
    with face.Client("p") as client:
        client.post(provider.url + PATH, json=PLAIN)
        client.post(provider.url + PATH, json=STREAMED)
        client.post(provider.url + PATH, json=STREAMED)
        client.post(provider.url + PATH, content=b"\x00 no JSON")
        client.get(provider.url + "/v1/models")
    assert counts() == {("fake-1", False): (1, 1), ("fake-1", True): (2, 2), ("", False): (1, 1)}


def test_those_of_tasks_as_well(face: Any, provider: Provider) -> None:
    async def ask() -> None:
        async with face.AsyncClient("p") as client:
            await client.post(provider.url + PATH, json=STREAMED)

    asyncio.run(ask())
    assert counts() == {("fake-1", True): (1, 1)}


@pytest.mark.parametrize(
    ("step", "counted"),
    [
        (refuse(429), {}),
        (reply(404, b"{}"), {}),
        (stream(OVERLOADED), {}),
        (stream(*message_events()[:4], OVERLOADED), {("fake-1", True): (1, 0)}),
        (broken(stream(*message_events()), CLOSE), {("fake-1", True): (1, 0)}),
    ],
    ids=["refused", "error", "overloaded", "error-later", "broken"],
)
def test_what_is_no_answer_or_not_whole_is_left_out(
    face: Any, library: Any, provider: Provider, step: Any, counted: object
) -> None:
    provider.plan(step)
    with face.Client("p") as client:
        try:
            client.post(provider.url + PATH, json=STREAMED)
        except library.RemoteProtocolError:
            pass
    assert counts() == counted


def test_an_answer_that_is_left_in_the_middle_has_no_end(face: Any, provider: Provider) -> None:
    provider.plan((*stream(*message_events()[:4])[:-1], HANG))
    with face.Client("p") as client, client.stream("POST", provider.url + PATH, json=STREAMED) as response:
        next(response.iter_raw())
    assert counts() == {("fake-1", True): (1, 0)}


@pytest.mark.parametrize("sdk", ["openai", "responses", "anthropic"])
def test_a_stream_that_an_sdk_has_read_is_whole(sdk: str, provider: Provider) -> None:
    events: Any
    with leasecap.httpx2.Client("p") as http:
        if sdk == "anthropic":
            claude = anthropic.Anthropic(api_key="k", base_url=provider.url, http_client=http, max_retries=0)
            events = claude.messages.create(model="fake-1", max_tokens=9, messages=ASKED, stream=True)
        else:
            client = openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1", http_client=http, max_retries=0)
            if sdk == "openai":
                events = client.chat.completions.create(model="fake-1", messages=ASKED, stream=True)
            else:
                events = client.responses.create(model="fake-1", input="say it", stream=True)
        assert len(list(events)) > 2
    assert counts() == {("fake-1", True): (1, 1)}


def test_a_pool_that_cant_be_told_is_not_the_requests_trouble(
    face: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("leasecap._latency._add", fail)
    with face.Client("p") as client:
        for _ in range(3):
            assert client.post(provider.url + PATH, json=PLAIN).status_code == 200
            latencies.end()
    assert caplog.text.count("No space left") == 1
    latencies.start()
