"""What passes the gate is not altered: heads, targets, bodies and answers, byte for byte."""

from __future__ import annotations

import os

import pytest
from gated import Gated
from provider_steps import CLOSED, CRLF, Latch, head, reply, stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from provider import Provider
    from raw_http import Raw

# What the gate has to write anew: they concern one connection, and the host is another one.
OWN = (b"host", b"connection", b"keep-alive")
ODD = (
    b"x-lower: a",
    b"X-UPPER: b",
    b"X-Twice: 1",
    b"x-tWICE: 2",
    b"X-Twice: 1",
    b"Authorization: Bearer sk-key",
    b"X-Long: " + b"y" * 9000,
    b"X-Empty:",
    b"X-Latin: \xe9\xff",
    b"User-Agent: odd/1",
    b"Accept-Encoding: br, zstd",
)


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    return shared_provider


@pytest.fixture
def gate(shared: tuple[Provider, Gated]) -> Gated:
    return shared[1]


def passed_on(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Names and values; white space around a value is no part of it."""
    pairs = [line.partition(b":") for line in lines]
    return [(name, value.strip()) for name, _, value in pairs if name.lower() not in OWN]


def test_headers_go_up_in_their_case_and_order(provider: Provider, gate: Gated) -> None:
    assert gate.ask(b"POST", b"/v1/messages", *ODD).status == 200
    found = provider.request()
    assert passed_on(found.header_lines) == passed_on([*ODD, b"Content-Length: 2"])
    assert found.values(b"host") == [b"127.0.0.1:%d" % provider.port]


def test_headers_come_down_in_their_case_and_order(provider: Provider, gate: Gated) -> None:
    lines = (*ODD, b"Set-Cookie: a", b"set-cookie: b", b"Retry-After: 7", b"Access-Control-Allow-Origin: *")
    provider.plan(reply(201, b"made", headers=lines))
    found = gate.ask()
    assert found.head.raw.startswith(b"HTTP/1.1 201 Whatever\r\n")
    assert passed_on(found.head.lines) == passed_on([*lines, b"Content-Length: 4"])


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/a%2fb%2F..",
        b"/v1/../x/./y",
        b"//v1//messages//",
        b"/v1/a|b^c`{d}",
        b"/v1/messages?x=a|b&y=%7C&z=//..",
        b"/v1/messages?",
        b'/v1/"quoted"',
        b"/v1/messages;x=1?a=http://example.com/",
        b"/%e2%82%ac/%FF",
        b"/",
        b"?x",
        b"",
    ],
)
def test_a_target_goes_up_as_it_is(provider: Provider, gate: Gated, target: bytes) -> None:
    gate.ask(b"POST", target)
    # A request line without a path would be none.
    assert provider.request().target == (target if target.startswith(b"/") else b"/" + target)


def test_the_path_of_a_base_url_is_kept(provider: Provider) -> None:
    with Gated(provider, base="/base/v9") as gate:
        gate.ask(b"POST", b"/base/v9/v1/messages")
    assert provider.request().target == b"/base/v9/v1/messages"


@pytest.mark.parametrize("coding", [b"gzip", b"zstd", b"br", b"deflate", b"x-unheard-of", b"gzip, br"])
def test_coded_bodies_pass_as_they_are(provider: Provider, gate: Gated, coding: bytes) -> None:
    up, down = os.urandom(70_000), os.urandom(70_000)
    line = b"Content-Encoding: " + coding
    provider.plan(reply(200, down, headers=(line,)))
    found = gate.ask(b"POST", b"/v1/messages", line, body=up)
    asked = provider.request()
    assert (bytes(asked.body), asked.values(b"content-encoding")) == (up, [coding])
    assert (found.body, found.head.values(b"content-encoding")) == (down, [coding])


def test_a_chunked_request_goes_up_whole(provider: Provider, client: Raw, gate: Gated) -> None:
    client.send(gate.request(b"POST", b"/v1/messages", b"Transfer-Encoding: chunked", body=None))
    client.send(b"3\r\nabc\r\n", b"2;x=y\r\nde\r\n", b"0\r\n\r\n")
    assert client.answer().status == 200
    assert bytes(provider.request().body) == b"abcde"


def test_a_stream_comes_down_event_by_event(provider: Provider, client: Raw, gate: Gated) -> None:
    latches = [Latch(), Latch()]
    provider.plan(stream(b"data: 1\n\n", latches[0], b"data: 2\n\n", latches[1], b"data: 3\n\n"))
    client.send(gate.request())
    found = client.head()
    client.up_to(b"data: 1\n\n")
    latches[0].set()
    client.up_to(b"data: 2\n\n")
    assert client.up_to(CRLF) == CRLF
    latches[1].set()
    assert client.rest(found).body == b"data: 3\n\n"


@pytest.mark.parametrize("status", [200, 204, 304, 400, 404, 418, 500, 599])
def test_every_status_comes_down(provider: Provider, gate: Gated, status: int) -> None:
    provider.plan(reply(status))
    assert (gate.ask().status, len(provider.requests)) == (status, 1)


def test_an_answer_that_ends_with_the_connection_comes_down_whole(provider: Provider, gate: Gated) -> None:
    provider.plan(reply(200, b"a", b"b" * 70_000, framing=CLOSED, version=b"1.0"))
    assert gate.ask().body == b"a" + b"b" * 70_000


def test_the_length_of_an_answer_to_head_comes_down(provider: Provider, gate: Gated) -> None:
    provider.plan((head(200, b"Content-Length: 12345"),))
    assert gate.ask(b"HEAD", b"/", body=None).head.values(b"content-length") == [b"12345"]


def test_an_interim_head_from_upstream_spoils_nothing(provider: Provider, gate: Gated) -> None:
    provider.plan((head(103, b"Link: </a>"), head(102), *reply(200, b"done")))
    assert gate.ask().body == b"done"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_passed_on_and_not_followed(provider: Provider, gate: Gated, code: int) -> None:
    location = provider.url.encode() + b"/elsewhere"
    provider.plan(reply(code, headers=(b"Location: " + location,)))
    found = gate.ask()
    assert (found.status, found.head.values(b"location")) == (code, [location])
    assert len(provider.requests) == 1
