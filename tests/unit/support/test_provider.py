"""The fake provider and the raw client, each judged by the other one."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator

import pytest
from provider import Provider
from provider_formats import OVERLOADED, message_events
from provider_steps import (
    BODY,
    CHUNKED,
    CLOSE,
    CLOSED,
    HANG,
    RESET,
    Latch,
    Request,
    Step,
    broken,
    head,
    refuse,
    reply,
    stream,
)
from raw_http import BrokenError, OverdueError, Raw, request

ASK = request(b"POST", b"/v1/messages", b"Host: x", body=b'{"stream": false}')


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def client(provider: Provider) -> Iterator[Raw]:
    with Raw(provider.port) as client:
        yield client


def test_a_request_is_kept_byte_for_byte(provider: Provider, client: Raw) -> None:
    sent = (
        b"POST /a%2f/..//b|?q HTTP/1.1\r\nhost: x\r\nX-Twice:  1 \r\nx-TWICE: 2\r\nContent-Length: 3\r\n\r\n\x00a\xff"
    )
    assert client.ask(sent).status == 200
    [found] = provider.requests
    assert found.head + found.wire == sent
    assert (found.method, found.target, bytes(found.body)) == (b"POST", b"/a%2f/..//b|?q", b"\x00a\xff")
    assert found.values(b"x-twice") == [b"1", b"2"]
    assert found.header_lines[1] == b"X-Twice:  1 "


def test_a_chunked_request_is_kept_with_its_chunks_and_without(provider: Provider, client: Raw) -> None:
    wire = b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    client.ask(request(b"POST", b"/", b"Transfer-Encoding: chunked") + wire)
    assert (bytes(provider.requests[0].wire), bytes(provider.requests[0].body)) == (wire, b"abcde")


def test_requests_follow_each_other_on_one_connection(provider: Provider, client: Raw) -> None:
    provider.plan(reply(200, b"1"), reply(204), reply(200, b"3", framing=CHUNKED))
    client.send(ASK * 3)
    assert [client.answer().body for _ in range(3)] == [b"1", b"", b"3"]
    assert [each.connection for each in provider.requests] == [1, 1, 1]


def test_what_is_above_the_cap_is_refused(provider: Provider) -> None:
    provider.cap = 1
    latch = Latch()
    provider.plan((latch, *reply(200, b"done")))
    with Raw(provider.port) as first, Raw(provider.port) as second:
        first.send(ASK)
        provider.request()
        refused = second.ask(ASK)
        assert (refused.status, refused.head.values(b"retry-after")) == (429, [b"1"])
        assert provider.in_flight == 1
        latch.set()
        assert first.answer().body == b"done"
        assert second.ask(ASK).status == 200
    assert (provider.most, provider.refused) == (2, 1)
    assert [each.refused for each in provider.requests] == [False, True, False]


def test_a_client_that_has_the_last_byte_is_no_longer_counted(provider: Provider, client: Raw) -> None:
    provider.cap = 1
    for _ in range(100):
        assert client.ask(ASK).status == 200
    assert (provider.refused, provider.most, provider.in_flight) == (0, 1, 0)


def test_a_request_is_in_flight_once_all_of_it_is_there(provider: Provider, client: Raw) -> None:
    client.send(ASK[:-1])
    assert provider.begun().arrived is None
    assert provider.in_flight == 0
    latch = Latch()
    provider.plan((latch, *reply(200)))
    client.send(ASK[-1:])
    provider.request()
    assert provider.in_flight == 1
    latch.set()
    client.answer()
    found = provider.ended()
    assert found.arrived is not None and found.answered is not None and found.ended is not None
    assert found.begun <= found.arrived <= found.answered <= found.ended
    assert found.gone is None


def test_lag_counts_a_finished_request_for_longer() -> None:
    with Provider(cap=1, lag=30) as provider, Raw(provider.port) as client:
        assert client.ask(ASK).status == 200
        assert client.ask(ASK).status == 429


def test_free_requests_are_not_counted(provider: Provider, client: Raw) -> None:
    provider.cap = 0
    assert client.ask(request(b"GET", b"/v1/models", b"Host: x")).status == 200
    assert client.ask(request(b"POST", b"/v1/messages/count_tokens", b"Host: x", body=b"{}")).status == 200
    assert client.ask(ASK).status == 429


def test_a_latch_holds_the_rest_of_an_answer(provider: Provider, client: Raw) -> None:
    latch = Latch()
    provider.plan(stream(b"data: 1\n\n", latch, b"data: 2\n\n"))
    client.send(ASK)
    found = client.head()
    assert client.up_to(b"data: 1\n\n\r\n") == b"9\r\ndata: 1\n\n\r\n"
    assert latch.reached.wait(10)
    assert client.is_silent()
    latch.set()
    assert client.rest(found).body == b"data: 2\n\n"


@pytest.mark.parametrize("leave", [Raw.close, Raw.reset, Raw.half_close])
@pytest.mark.parametrize("step", [(HANG,), stream(b"data: 1\n\n", Latch())], ids=["before the head", "in the body"])
def test_a_peer_that_leaves_is_seen(provider: Provider, leave: object, step: Step) -> None:
    provider.plan(step)
    assert callable(leave)
    with Raw(provider.port) as client:
        client.send(ASK)
        provider.request()
        leave(client)
        assert provider.ended().gone is not None
        provider.until(lambda: provider.open_connections == 0)
    assert provider.in_flight == 0


@pytest.mark.parametrize("how", [CLOSE, RESET])
@pytest.mark.parametrize("framing", [CHUNKED, None], ids=["chunked", "content-length"])
def test_a_break_in_the_body_is_seen(provider: Provider, client: Raw, how: object, framing: object) -> None:
    whole = reply(200, b"abc", framing=CHUNKED) if framing is CHUNKED else reply(200, b"abc")
    assert how is CLOSE or how is RESET
    provider.plan(broken(whole, how))
    client.send(ASK)
    found = client.head()
    with pytest.raises(BrokenError) as caught:
        client.rest(found)
    assert caught.value.reset == (how is RESET)
    assert caught.value.came == (b"3\r\nabc\r\n0\r\n" if framing is CHUNKED else b"a")


def test_a_break_before_the_head_is_seen(provider: Provider, client: Raw) -> None:
    provider.plan((RESET,))
    client.send(ASK)
    with pytest.raises(BrokenError):
        client.head()


def test_a_body_may_end_with_the_connection(provider: Provider, client: Raw) -> None:
    provider.plan(reply(200, b"a", b"b", framing=CLOSED, version=b"1.0"))
    found = client.ask(ASK)
    assert (found.body, found.head.raw[:8]) == (b"ab", b"HTTP/1.0")


def test_interim_heads_are_kept_apart(provider: Provider, client: Raw) -> None:
    provider.plan((head(103, b"Link: <x>"), *reply(200, b"a")))
    assert client.ask(ASK).body == b"a"
    [hint] = client.interim
    assert (hint.status, hint.lines) == (103, [b"Link: <x>"])


def test_continue_is_sent_to_whoever_expects_it(provider: Provider, client: Raw) -> None:
    client.send(request(b"POST", b"/", b"Expect: 100-continue", b"Content-Length: 1"))
    assert client.await_interim().status == 100
    client.send(b"x")
    assert client.answer().status == 200


def test_a_step_can_answer_before_the_body_is_there(provider: Provider, client: Raw) -> None:
    latch = Latch()
    provider.plan((head(200, b"Content-Length: 3"), b"a", latch, BODY, b"bc"))
    client.send(ASK[:-1])
    found = client.head()
    assert latch.reached.wait(10)
    assert provider.begun().arrived is None
    latch.set()
    client.send(ASK[-1:])
    assert client.rest(found).body == b"abc"


def test_a_body_is_not_read_before_the_step_wants_it(provider: Provider, client: Raw) -> None:
    latch = Latch()
    provider.plan((latch, BODY, *reply(200)))
    length = 1 << 26
    client.send(request(b"POST", b"/", b"Content-Length: %d" % length))
    assert client.could_send(length) < length
    assert bytes(provider.begun().body) == b""


def test_bodies_and_heads_are_sent_as_they_are(provider: Provider, client: Raw) -> None:
    packed = gzip.compress(b"x" * 100)
    lines = (b"content-ENCODING: gzip", b"X-Long: " + b"y" * 9000, b"Set-Cookie: a", b"Set-Cookie: b")
    provider.plan(reply(200, packed, headers=lines))
    found = client.ask(ASK)
    assert found.body == packed
    assert found.head.lines[:4] == list(lines)


def test_refusals_and_redirects_are_sent_as_planned(provider: Provider, client: Raw) -> None:
    provider.plan(refuse(529, b"7", b"overloaded_error"), refuse(503), reply(307, headers=(b"Location: /b",)))
    first, second, third = (client.ask(ASK) for _ in range(3))
    assert (first.status, first.head.values(b"retry-after")) == (529, [b"7"])
    assert json.loads(first.body)["error"]["type"] == "overloaded_error"
    assert (second.status, second.head.values(b"retry-after")) == (503, [])
    assert (third.status, third.head.values(b"location")) == (307, [b"/b"])


def test_a_behaviour_sees_the_request(provider: Provider, client: Raw) -> None:
    def echo(asked: Request) -> Step:
        return reply(200, bytes(asked.body))

    provider.default = echo
    assert client.ask(request(b"POST", b"/", body=b"abc")).body == b"abc"


@pytest.mark.parametrize(
    ("path", "first", "last"),
    [
        ("/v1/messages?beta=true", b"event: message_start", b'data: {"type": "message_stop"}\n\n'),
        ("/v1/chat/completions", b"data: {", b"data: [DONE]\n\n"),
        ("/v1/responses", b"event: response.created", b"\n\n"),
    ],
)
def test_each_interface_answers_as_a_whole_and_as_a_stream(client: Raw, path: str, first: bytes, last: bytes) -> None:
    whole = client.ask(request(b"POST", path.encode(), body=b"{}"))
    assert "One cap for all." in json.dumps(json.loads(whole.body))
    streamed = client.ask(request(b"POST", path.encode(), body=b'{"stream": true}'))
    assert streamed.head.values(b"content-type") == [b"text/event-stream"]
    assert streamed.body.startswith(first) and streamed.body.endswith(last)
    for word in (b"One ", b"cap ", b"for ", b"all."):
        assert word in streamed.body


def test_a_stream_may_hold_an_error_event(provider: Provider, client: Raw) -> None:
    provider.plan(stream(OVERLOADED), stream(*message_events()[:3], OVERLOADED))
    assert client.ask(ASK).body == OVERLOADED
    assert client.ask(ASK).body.endswith(OVERLOADED)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST / HTTP/1.1\r\nA : b\r\n\r\n",
        b"POST / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"POST / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
        b"POST / HTTP/1.1\nA: b\n\n",
        b"POST / HTTP/1.1\r\nA: \x00\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    ],
)
def test_a_malformed_request_fails_the_block(sent: bytes) -> None:
    with pytest.raises(AssertionError), Provider() as provider, Raw(provider.port) as client:
        client.send(sent)
        assert client.await_end() == b""


def test_the_client_fails_with_what_came_so_far(provider: Provider) -> None:
    latch = Latch()
    provider.plan((b"HTTP/1.1 200 ", latch))
    with Raw(provider.port, deadline=0.3) as client:
        client.send(ASK)
        assert latch.reached.wait(10)
        with pytest.raises(OverdueError, match=r"HTTP/1\.1 200 "):
            client.head()


def test_pauses_take_their_time(provider: Provider, client: Raw) -> None:
    before = time.monotonic()
    provider.plan((0.1, *reply(200)))
    client.ask(ASK)
    assert time.monotonic() - before >= 0.1
