"""The gate between raw sockets and a fake provider: what costs takes a slot, and connections are kept."""

from __future__ import annotations

import threading

import pytest
from commands import status, until
from gated import Gated
from provider import Provider
from provider_steps import CHUNKED, Latch, reply, stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from raw_http import Raw


# -- what takes a slot ------------------------------------------------------------------------------------------------


def test_a_request_holds_a_slot_until_its_answer_has_ended(provider: Provider, client: Raw, gate: Gated) -> None:
    latch = Latch()
    provider.plan(stream(b"data: 1\n\n", latch))
    client.send(gate.request())
    client.up_to(b"data: 1\n\n\r\n")
    assert len(status().holders) == 1
    latch.set()
    assert client.up_to(b"0\r\n\r\n") == b"0\r\n\r\n"
    until(lambda: status().in_flight == 0)


def test_a_second_request_waits_for_the_first_ones_end(provider: Provider, gate: Gated) -> None:
    latch = Latch()
    provider.plan((latch, *reply(200, b"first")), reply(200, b"second"))
    with gate.connect() as first, gate.connect() as second:
        first.send(gate.request())
        provider.request()
        second.send(gate.request())
        until(lambda: status().waiting == 1)
        assert len(provider.requests) == 1
        assert second.is_silent()  # no 200 before its time, and no 100 that nobody asked for
        latch.set()
        assert (first.answer().body, second.answer().body) == (b"first", b"second")
    assert provider.most == 1


def test_many_clients_stay_within_the_cap() -> None:
    latches = [Latch(), Latch()]
    with Provider(cap=2) as provider, Gated(provider, limit=2) as gate:
        provider.plan(*((latch, *reply(200)) for latch in latches))
        clients = [threading.Thread(target=lambda: [gate.ask() for _ in range(5)]) for _ in range(8)]
        for each in clients:
            each.start()
        provider.request(2)
        for latch in latches:
            latch.set()
        for each in clients:
            each.join()
        assert len(provider.requests) == 40
    assert (provider.refused, provider.most) == (0, 2)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        (b"GET", b"/v1/models"),
        (b"GET", b"/whatever"),
        (b"HEAD", b"/"),
        (b"OPTIONS", b"/v1/messages"),
        (b"POST", b"/v1/messages/count_tokens?beta=true"),
        (b"POST", b"//v1//messages/count%5Ftokens/"),
        (b"POST", b"/messages/count_tokens"),
    ],
)
def test_what_costs_nothing_takes_no_slot(provider: Provider, gate: Gated, method: bytes, target: bytes) -> None:
    latch = Latch()
    provider.plan((latch, *reply(200)))
    with gate.connect() as holder:
        holder.send(gate.request())
        provider.request()
        assert gate.ask(method, target, body=b"{}" if method == b"POST" else None).status in (200, 404)
        assert len(provider.requests) == 2
        latch.set()
        holder.answer()


@pytest.mark.parametrize(
    ("method", "target"),
    [(b"POST", b"/v1/unheard-of"), (b"POST", b"/"), (b"PUT", b"/v1/x"), (b"POST", b"/v1/x?/count_tokens")],
)
def test_what_is_unknown_takes_a_slot(
    provider: Provider, client: Raw, gate: Gated, method: bytes, target: bytes
) -> None:
    latch = Latch()
    provider.plan((latch, *reply(200)))
    client.send(gate.request(method, target))
    provider.request()
    assert status().in_flight == 1
    latch.set()
    client.answer()


@pytest.mark.parametrize(
    "line",
    [
        b"GET http://127.0.0.1:%(port)d%(target)b HTTP/1.1",
        b"POST http://example.com/v1/messages HTTP/1.1",
        b"CONNECT example.com:443 HTTP/1.1",
        b"CONNECT 127.0.0.1:%(port)d HTTP/1.1",
    ],
)
def test_it_is_no_proxy(provider: Provider, client: Raw, gate: Gated, line: bytes) -> None:
    client.send(gate.asking(line % {b"port": gate.port, b"target": gate.target()}, gate.host, body=None))
    assert client.answer().status == 400
    assert provider.requests == []


@pytest.mark.parametrize("value", [b"websocket", b"WebSocket"])
def test_a_websocket_is_told_to_use_http(provider: Provider, client: Raw, gate: Gated, value: bytes) -> None:
    lines = (b"Connection: Upgrade", b"Upgrade: " + value, b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: eA==")
    assert client.ask(gate.request(b"GET", b"/v1/responses", *lines, body=None)).status == 426
    assert provider.requests == []


def test_a_wait_that_is_bounded_ends_in_a_429_with_a_hint(provider: Provider) -> None:
    latch = Latch()
    provider.plan((latch, *reply(200)))
    with Gated(provider, "-w", "0.2") as gate, gate.connect() as holder:
        holder.send(gate.request())
        provider.request()
        found = gate.ask()
        latch.set()
    [hint] = found.head.values(b"retry-after")
    assert found.status == 429 and 1 <= int(hint) <= 59
    assert len(provider.requests) == 1


# -- connections ------------------------------------------------------------------------------------------------------


def test_one_connection_carries_one_request_after_the_other(provider: Provider, client: Raw, gate: Gated) -> None:
    provider.plan(reply(200, b"1"), reply(204), reply(200, b"3", framing=CHUNKED), reply(200))
    bodies = [client.ask(gate.request(body=b"%d" % number)).body for number in range(4)]
    assert bodies == [b"1", b"", b"3", b""]
    assert [bytes(each.body) for each in provider.requests] == [b"0", b"1", b"2", b"3"]


def test_pipelined_requests_are_answered_in_their_order(provider: Provider, client: Raw, gate: Gated) -> None:
    provider.plan(reply(200, b"1"), reply(200, b"2", framing=CHUNKED), reply(200, b"3"))
    client.send(b"".join(gate.request(body=b"%d" % number) for number in range(3)))
    assert [client.answer().body for _ in range(3)] == [b"1", b"2", b"3"]
    assert [bytes(each.body) for each in provider.requests] == [b"0", b"1", b"2"]


def test_a_client_that_asks_for_it_is_parted_from(provider: Provider, client: Raw, gate: Gated) -> None:
    assert client.ask(gate.request(b"POST", b"/v1/messages", b"Connection: close")).status == 200
    assert client.await_end() == b""


def test_an_old_client_is_answered_without_chunks(provider: Provider, client: Raw, gate: Gated) -> None:
    provider.plan(reply(200, b"a", b"b", framing=CHUNKED))
    client.send(gate.asking(b"POST %b HTTP/1.0" % gate.target(), gate.host))
    found = client.answer()
    assert (found.body, found.head.values(b"transfer-encoding")) == (b"ab", [])
    assert client.await_end() == b""


@pytest.mark.long
def test_who_waits_for_long_gets_early_hints_unless_it_is_old(provider: Provider, gate: Gated) -> None:
    latch = Latch()
    provider.plan((latch, *reply(200)))
    with gate.connect() as holder, gate.connect() as new, gate.connect() as old:
        holder.send(gate.request())
        provider.request()
        old.send(gate.asking(b"POST %b HTTP/1.0" % gate.target(), gate.host))
        until(lambda: status().waiting == 1)
        new.send(gate.request())
        assert new.await_interim().status == 103
        assert old.is_silent()
        latch.set()
        assert (new.answer().status, old.answer().status) == (200, 200)
        assert {each.status for each in new.interim} == {103}
        assert old.interim == []


# -- the wrapper ------------------------------------------------------------------------------------------------------


def test_nothing_is_said_of_requests_that_pass(gate: Gated) -> None:
    assert gate.ask().status == 200
    assert gate.end() == (0, "")


def test_loopback_is_added_to_what_no_proxy_holds(gate: Gated) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        assert "127.0.0.1" in gate.seen[name].split(",")
