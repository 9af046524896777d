"""What the gate keeps from its clients: refusals of the provider, and the place of one that gave up waiting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import status, until
from gated import Gated, configure
from provider_formats import OVERLOADED, message_events
from provider_steps import Latch, Step, refuse, reply, stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from provider import Provider

PLAIN = "limit = 1\nadaptive = 'off'\nstagger = 0\n"
STREAMED = b'{"stream": true}'


@pytest.fixture
def gate(root: Path, provider: Provider) -> Iterator[Gated]:
    configure(root, PLAIN)
    with Gated(provider) as gate:
        yield gate


@pytest.mark.parametrize(
    "refusal",
    [refuse(429), refuse(429, b"1"), refuse(503), refuse(529, kind=b"overloaded_error"), stream(OVERLOADED)],
    ids=["429", "429 with a hint", "503", "529", "an error event"],
)
def test_a_refusal_is_kept_from_the_client(provider: Provider, gate: Gated, refusal: Step) -> None:
    provider.plan(refusal, stream(*message_events()))
    found = gate.ask(body=STREAMED)
    assert (found.status, found.body) == (200, b"".join(message_events()))
    first, second = provider.requests
    assert (first.head, bytes(first.body)) == (second.head, bytes(second.body))
    assert first.ended is not None and second.arrived is not None and first.ended <= second.arrived


@pytest.mark.parametrize(
    "refusal",
    [
        refuse(429, b"100"),
        refuse(402, kind=b"billing_error"),
        refuse(429, kind=b"insufficient_quota"),
        refuse(400),
        refuse(500),
    ],
    ids=["too long", "payment", "quota", "bad request", "server error"],
)
def test_what_waiting_doesnt_help_goes_through_at_once(provider: Provider, gate: Gated, refusal: Step) -> None:
    provider.plan(refusal)
    found = gate.ask()
    head, body = refusal
    assert isinstance(head, bytes)
    assert found.head.raw.partition(b" ")[2].partition(b"\r\n")[0] == head.partition(b" ")[2].partition(b"\r\n")[0]
    assert found.body == body
    assert len(provider.requests) == 1


def test_refusals_go_through_where_absorbing_is_off(root: Path, provider: Provider) -> None:
    configure(root, PLAIN + "absorb = 0\n")
    provider.plan(refuse(429, b"1"))
    with Gated(provider) as gate:
        found = gate.ask()
    assert (found.status, found.head.values(b"retry-after")) == (429, [b"1"])
    assert len(provider.requests) == 1


def test_an_error_event_after_others_goes_through_and_is_reported(root: Path, provider: Provider) -> None:
    configure(root, "limit = 2\n")
    latch = Latch()
    events = (*message_events()[:3], OVERLOADED)
    provider.plan((latch, *reply(200)), stream(*events))
    with Gated(provider, limit=2) as gate, gate.connect() as holder:
        holder.send(gate.request())
        provider.request()
        assert gate.ask(body=STREAMED).body == b"".join(events)
        assert len(provider.requests) == 2
        feedback = status().feedback
        latch.set()
    assert feedback is not None and feedback.reduced_limit == 1


def test_who_gave_up_and_comes_again_has_its_old_place(provider: Provider, gate: Gated) -> None:
    latch = Latch()
    provider.plan((latch, *reply(200)))
    with gate.connect() as holder, gate.connect() as later:
        holder.send(gate.request())
        provider.request()
        with gate.connect() as first:
            first.send(gate.request(body=b"first"))
            until(lambda: status().waiting == 1)
            later.send(gate.request(body=b"later"))
            until(lambda: status().waiting == 2)
        until(lambda: status().waiting == 1)
        with gate.connect() as again:
            again.send(gate.request(body=b"first"))
            until(lambda: status().waiting == 2)
            latch.set()
            assert (again.answer().status, later.answer().status) == (200, 200)
    assert [bytes(each.body) for each in provider.requests] == [b"{}", b"first", b"later"]


def test_nothing_is_granted_to_who_gave_up(provider: Provider, gate: Gated) -> None:
    latch = Latch()
    provider.plan((latch, *reply(200)))
    with gate.connect() as holder:
        holder.send(gate.request())
        provider.request()
        with gate.connect() as gone:
            gone.send(gate.request(body=b"gone"))
            until(lambda: status().waiting == 1)
        until(lambda: status().waiting == 0)
        latch.set()
        holder.answer()
    until(lambda: status().in_flight == 0)
    assert len(provider.requests) == 1


def test_a_gate_behind_a_gate_takes_one_slot(root: Path, provider: Provider, gate: Gated) -> None:
    outer = gate.seen["ANTHROPIC_BASE_URL"]
    with Gated(provider, ANTHROPIC_BASE_URL=outer, LEASECAP_GATE=gate.seen["LEASECAP_GATE"]) as inner:
        latch = Latch()
        provider.plan((latch, *reply(200, b"done")))
        with inner.connect() as client:
            client.send(inner.request(b"POST", f"/{gate.token}/anthropic/v1/messages".encode()))
            provider.request()
            assert status().in_flight == 1
            latch.set()
            assert client.answer().body == b"done"
    assert provider.request().target == b"/v1/messages"
