"""Clients that leave: at each stage of a request, and at random. Nothing of theirs stays."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator

import pytest
from commands import status, until
from gate_inside import GateInside
from gated import POOL, Gated
from provider import Provider
from provider_steps import CHUNKED, CLOSE, HANG, Latch, Request, Step, broken, refuse, reply, stream
from raw_http import Raw

from leasecap._api import pool_store
from leasecap._control import resume
from leasecap._gate.exchange import Exchange
from leasecap._gate.wire import Wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Reach = Callable[[Provider, GateInside, Raw, pytest.MonkeyPatch], object]

STREAMED = b'{"stream": true}'
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


@pytest.fixture
def gate(gate_inside: GateInside) -> GateInside:
    return gate_inside


class Stop:
    """Stops the gate for good where it calls ``name``, the first time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, *, after: bool = False) -> None:
        self.reached = threading.Event()
        original = getattr(owner, name)

        async def stopped(*arguments: Any, **named: Any) -> Any:
            if self.reached.is_set():
                return await original(*arguments, **named)
            result = await original(*arguments, **named) if after else None
            self.reached.set()
            await asyncio.Event().wait()
            return result

        monkeypatch.setattr(owner, name, stopped)

    def wait(self) -> None:
        assert self.reached.wait(20)


def while_its_body_is_read(provider: Provider, gate: GateInside, client: Raw, _: pytest.MonkeyPatch) -> None:
    client.send(gate.request(b"POST", b"/v1/messages", b"Expect: 100-continue", b"Content-Length: 4", body=None))
    client.await_interim()
    client.send(b"12")


def between_grant_and_sending(provider: Provider, gate: GateInside, client: Raw, patch: pytest.MonkeyPatch) -> None:
    stop = Stop(patch, Exchange, "_send")
    client.send(gate.request())
    stop.wait()
    assert status().in_flight == 1


def while_it_connects(provider: Provider, gate: GateInside, client: Raw, patch: pytest.MonkeyPatch) -> None:
    stop = Stop(patch, Wire, "connect")
    client.send(gate.request())
    stop.wait()


def before_the_head(provider: Provider, gate: GateInside, client: Raw, _: pytest.MonkeyPatch) -> None:
    provider.plan((HANG,))
    client.send(gate.request())
    provider.request()


def before_the_first_event(provider: Provider, gate: GateInside, client: Raw, _: pytest.MonkeyPatch) -> None:
    provider.plan(stream(PING, latch := Latch()))
    client.send(gate.request(body=STREAMED))
    assert latch.reached.wait(20)


def within_the_stream(provider: Provider, gate: GateInside, client: Raw, _: pytest.MonkeyPatch) -> None:
    provider.plan(stream(b"data: 1\n\n", Latch()))
    client.send(gate.request(body=STREAMED))
    client.up_to(b"data: 1\n\n")


def while_it_reads_nothing(provider: Provider, gate: GateInside, client: Raw, _: pytest.MonkeyPatch) -> None:
    provider.plan(reply(200, *([bytes(1 << 20)] * 64)))
    client.send(gate.request())
    client.head()


def between_two_attempts(provider: Provider, gate: GateInside, client: Raw, _: pytest.MonkeyPatch) -> None:
    provider.plan(refuse(503, b"50"))
    client.send(gate.request())
    provider.ended()
    until(lambda: status().in_flight == 0)
    resume(pool_store(POOL))  # the refusal has closed it


@pytest.mark.parametrize("leave", [Raw.close, Raw.reset])
@pytest.mark.parametrize(
    "reach",
    [
        while_its_body_is_read,
        between_grant_and_sending,
        while_it_connects,
        before_the_head,
        before_the_first_event,
        within_the_stream,
        while_it_reads_nothing,
        between_two_attempts,
    ],
)
def test_a_client_that_leaves_leaves_nothing(
    provider: Provider,
    gate: GateInside,
    monkeypatch: pytest.MonkeyPatch,
    reach: Reach,
    leave: Callable[[Raw], None],
) -> None:
    with gate.connect() as client:
        reach(provider, gate, client, monkeypatch)
        leave(client)
    until(lambda: gate.busy == 0)
    provider.until(lambda: provider.in_flight == 0)
    until(lambda: not gate.gate._open)
    assert (status().in_flight, status().waiting, gate.gate._shared.room._taken) == (0, 0, 0)
    came = len(provider.requests)
    assert gate.ask().status == 200
    assert len(provider.requests) == came + 1  # and not what the other one had asked for
    assert gate.told == []


# -- what they leave is a refusal -------------------------------------------------------------------------------------

ERROR = b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error", "message": "not now"}}\n\n'


def reduced_limit() -> int | None:
    feedback = status().feedback
    return None if feedback is None else feedback.reduced_limit


def at_a_refusal(provider: Provider, gate: GateInside, client: Raw) -> None:
    provider.plan(reply(429, b'{"type":', Latch(), b'"error"}'))
    client.send(gate.request())
    until(lambda: [each.request is not None and each.request.phase for each in status().holders] == ["streaming"])
    client.close()


def at_a_refusal_that_breaks(provider: Provider, gate: GateInside, client: Raw) -> None:
    provider.plan(broken(reply(429, b'{"type": "error"}'), CLOSE))
    client.send(gate.request())


def at_an_error_in_the_stream(provider: Provider, gate: GateInside, client: Raw) -> None:
    provider.plan(stream(b"data: 1\n\n", ERROR, Latch()))
    client.send(gate.request(body=STREAMED))
    client.up_to(ERROR)
    client.close()


@pytest.mark.parametrize("reach", [at_a_refusal, at_a_refusal_that_breaks, at_an_error_in_the_stream])
def test_a_refusal_is_told_before_the_slot_is_free_though_the_answer_has_no_end(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, reach: Callable[[Provider, GateInside, Raw], object]
) -> None:
    with GateInside(provider, monkeypatch, limit=2) as gate, gate.connect() as client:
        reach(provider, gate, client)
        provider.request()
        until(lambda: status().in_flight == 0)
        assert reduced_limit() == 1


# -- many at once -----------------------------------------------------------------------------------------------------

REQUESTS, CLIENTS, SLOTS = 300, 10, 2


def served(_: Request) -> Step:
    """Each a little different, so that clients leave at all places."""
    event = b"data: 1\n\n"
    pause = random.uniform(0.0, 0.01)
    return random.choice(
        (
            (pause, *stream(event, pause, event, pause, event)),
            (pause, *reply(200, b"{}")),
            reply(200, bytes(200_000), pause, bytes(200_000), framing=CHUNKED),
        )
    )


def use(gate: Gated, numbers: Iterator[int], faults: list[BaseException]) -> None:
    """Send requests; half of the clients leave after a while, some with a reset."""
    chance = random.Random()
    try:
        for _ in numbers:
            with gate.connect() as client:
                leaves = chance.random() < 0.5
                client.send(gate.request(body=chance.choice((b"{}", STREAMED))))
                if leaves:
                    if not client.is_silent(chance.uniform(0.0, 0.03)) and chance.random() < 0.5:
                        client.up_to(b"HTTP")
                    chance.choice((Raw.close, Raw.reset, Raw.half_close))(client)
                else:
                    assert client.answer().status == 200
    except BaseException as error:
        faults.append(error)


def test_of_a_storm_of_leaving_clients_nothing_stays() -> None:
    numbers = iter(range(REQUESTS))
    faults: list[BaseException] = []
    with Provider(cap=SLOTS, default=served) as provider, Gated(provider, limit=SLOTS) as gate:
        clients = [threading.Thread(target=use, args=(gate, numbers, faults)) for _ in range(CLIENTS)]
        for each in clients:
            each.start()
        for each in clients:
            each.join()
        until(lambda: status().in_flight == status().waiting == 0)
        provider.until(lambda: provider.in_flight == 0)
        assert (faults, provider.refused) == ([], 0)
        assert provider.most <= SLOTS
        provider.until(lambda: provider.open_connections <= SLOTS)  # those that are kept
        assert gate.ask().status == 200
        assert gate.end() == (0, "")
