"""What of a request's head is refused, and where it goes."""

from __future__ import annotations

import h11
import pytest

from leasecap._gate.head import Refused, check, is_whole, route, to_client, to_upstream

HOST = b"Host: 127.0.0.1:80\r\n"


def parsed(raw: bytes) -> h11.Request:
    http = h11.Connection(h11.SERVER)
    http.receive_data(raw)
    request = http.next_event()
    assert isinstance(request, h11.Request)
    return request


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\r\n\tb\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: a\n",  # before the head is whole
    ],
)
def test_head_that_can_be_read_in_two_ways_is_refused(raw: bytes) -> None:
    with pytest.raises(Refused) as caught:
        is_whole(raw)
    assert caught.value.status == 400


def test_head_is_waited_for() -> None:
    raw = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    for length in range(len(raw)):
        assert not is_whole(raw[:length])
    assert is_whole(raw) and is_whole(raw + b"the body\n")


def test_long_head_is_refused_before_it_is_whole() -> None:
    assert not is_whole(b"GET / HTTP/1.1\r\nX: " + b"a" * 60_000)
    with pytest.raises(Refused) as caught:
        is_whole(b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000)
    assert caught.value.status == 431


@pytest.mark.parametrize(
    ("status", "raw"),
    [
        (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (400, b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"),
        (400, b"GET http://127.0.0.1:80/ HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"CONNECT api.anthropic.com:443 HTTP/1.1\r\n" + HOST + b"\r\n"),
        (400, b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"),
        (421, b"GET / HTTP/1.1\r\nHost: evil.example:80\r\n\r\n"),
        (421, b"GET / HTTP/1.1\r\nHost: 127.0.0.1:81\r\n\r\n"),
        (421, b"GET / HTTP/1.0\r\n\r\n"),
        (426, b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n"),
    ],
)
def test_request_that_is_not_for_a_gate_is_refused(status: int, raw: bytes) -> None:
    with pytest.raises(Refused) as caught:
        check(parsed(raw), 80)
    assert caught.value.status == status


@pytest.mark.parametrize("host", [b"127.0.0.1:80", b"LOCALHOST:80", b"[::1]:80"])
def test_names_of_this_machine_are_answered(host: bytes) -> None:
    check(parsed(b"GET /x HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"), 80)


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        (b"/T/anthropic/v1/messages?beta=true", b"/v1/messages?beta=true"),
        (b"/T/anthropic//a/..//%2f|x", b"//a/..//%2f|x"),
        (b"/T/anthropic", b"/"),
        (b"/T/anthropic/", b"/"),
        (b"/T/anthropic?a=/b", b"/?a=/b"),
    ],
)
def test_target_goes_on_byte_for_byte(target: bytes, sent: bytes) -> None:
    found = route(parsed(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n"), "T", ["anthropic"])
    assert found == ("anthropic", sent)


@pytest.mark.parametrize(
    ("status", "target", "more"),
    [
        (403, b"/", b""),
        (403, b"/anthropic/v1", b""),
        (403, b"/t/anthropic/v1", b""),
        (403, b"//T/anthropic", b""),
        (403, b"/-/anthropic", b""),
        (403, b"/-/anthropic", b"X-Leasecap-Gate: no\r\n"),
        (404, b"/T", b""),
        (404, b"/T/elsewhere/x", b""),
        (404, b"/T/../anthropic/x", b""),
    ],
)
def test_address_of_no_upstream_is_refused(status: int, target: bytes, more: bytes) -> None:
    with pytest.raises(Refused) as caught:
        route(parsed(b"GET " + target + b" HTTP/1.1\r\n" + HOST + more + b"\r\n"), "T", ["anthropic"])
    assert caught.value.status == status and "T/" not in str(caught.value)


def test_token_may_come_in_a_header() -> None:
    request = parsed(b"GET /-/openai/v1/models HTTP/1.1\r\n" + HOST + b"x-leasecap-gate: T\r\n\r\n")
    assert route(request, "T", ["openai"]) == ("openai", b"/v1/models")
    assert to_upstream(request, b"api.openai.com") == [(b"Host", b"api.openai.com")]


def test_headers_of_this_connection_go_nowhere() -> None:
    request = parsed(
        b"POST / HTTP/1.1\r\nX-Api-Key: k\r\nHOST: 127.0.0.1:80\r\nConnection: keep-alive, X-Own, Authorization\r\n"
        b"x-own: 1\r\nKeep-Alive: 1\r\nExpect: 100-continue\r\nx-a: 1\r\nX-A: 2\r\nAuthorization: b\r\n\r\n"
    )
    assert to_upstream(request, b"up:1") == [
        (b"X-Api-Key", b"k"),
        (b"HOST", b"up:1"),
        (b"x-a", b"1"),
        (b"X-A", b"2"),
        (b"Authorization", b"b"),
    ]
    answered = [(b"Connection", b"close"), (b"X-a", b"1"), (b"x-A", b"1"), (b"Content-Length", b"0")]
    assert to_client(answered) == answered[1:]
