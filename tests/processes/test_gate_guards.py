"""What the gate is guarded by where nothing else would show it: troubles of clients, held heads, places, breaks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from commands import status, until
from provider_steps import CHUNKED, CLOSE, Latch, broken, refuse, reply, stream
from raw_http import BrokenError, Raw

from leasecap._gate import exchange
from leasecap._gate.downstream import Downstream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gate_inside import GateInside
    from provider import Provider

STREAMED = b'{"stream": true}'
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


@pytest.fixture
def gate(gate_inside: GateInside) -> GateInside:
    return gate_inside


@pytest.mark.parametrize(("error", "told"), [(ConnectionResetError(), 0), (TimeoutError(), 1)])
def test_trouble_of_the_clients_connection_is_no_time_out_of_ours(
    gate: GateInside, client: Raw, monkeypatch: pytest.MonkeyPatch, error: Exception, told: int
) -> None:
    async def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Downstream, "send", fails)
    client.send(gate.request())
    assert client.await_end() == b""
    until(lambda: status().in_flight == 0)
    assert len(gate.told) == told


@pytest.mark.parametrize("expired", [False, True])
def test_a_slot_whose_time_is_over_is_not_told_as_lost(monkeypatch: pytest.MonkeyPatch, expired: bool) -> None:
    told: list[str] = []
    monkeypatch.setattr(exchange, "log_warning", told.append)
    exchange._log_lost(SimpleNamespace(expired=expired, pool="p", loss="gone"))  # type: ignore[arg-type]
    assert len(told) == (0 if expired else 1)


def test_a_head_is_not_held_for_long_where_nothing_but_pings_comes(
    provider: Provider, client: Raw, gate: GateInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "HELD_FOR", 0.05)
    pings = [part for _ in range(100) for part in (PING, 0.01)]
    provider.plan(stream(*pings, latch := Latch()))
    client.send(gate.request(body=STREAMED))
    assert client.head().status == 200
    latch.set()


def test_who_was_answered_has_no_place_to_come_back_to(provider: Provider, gate: GateInside) -> None:
    assert gate.ask(body=b"again").status == 200
    provider.plan((latch := Latch(), *reply(200)))
    with gate.connect() as holder, gate.connect() as first, gate.connect() as again:
        holder.send(gate.request())
        provider.request(2)
        first.send(gate.request(body=b"first"))
        until(lambda: status().waiting == 1)
        again.send(gate.request(body=b"again"))
        until(lambda: status().waiting == 2)
        latch.set()
        assert (first.answer().status, again.answer().status) == (200, 200)
    assert [bytes(each.body) for each in provider.requests[2:]] == [b"first", b"again"]


def test_a_provider_that_says_at_once_each_time_is_not_asked_without_a_break(
    provider: Provider, gate: GateInside
) -> None:
    provider.plan(refuse(503, b"0"), refuse(503, b"0"))
    assert gate.ask().status == 200
    _, second, third = provider.requests
    assert second.ended is not None and third.arrived is not None
    assert third.arrived - second.ended > 1.4


def test_a_break_within_an_answer_is_no_failure_of_the_gate(provider: Provider, client: Raw, gate: GateInside) -> None:
    provider.plan(broken(stream(b"data: 1\n\n"), CLOSE))
    client.send(gate.request())
    with pytest.raises(BrokenError):
        client.answer()
    until(lambda: not gate.gate._open)
    assert gate.told == []


def test_a_break_is_no_end_for_a_client_that_reads_to_the_close(
    provider: Provider, client: Raw, gate: GateInside
) -> None:
    provider.plan(broken(reply(200, b"a" * 1000, headers=(b"Content-Type: text/plain",), framing=CHUNKED), CLOSE))
    client.send(gate.asking(b"POST %b HTTP/1.0" % gate.target(), gate.host))
    with pytest.raises(BrokenError) as raised:
        client.answer()
    assert raised.value.reset


def test_no_end_of_unknown_endpoints_is_told_of(gate: GateInside, client: Raw) -> None:
    for number in range(105):
        assert client.ask(gate.request(b"POST", b"/v1/unheard-of-%d" % number)).status == 200
    assert len(gate.told) == 100
