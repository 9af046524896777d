"""Clients of the gate that are slow, silent, too many or in a hurry."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from commands import status, until
from gated import Gated
from provider_steps import Latch, chunk, reply, stream
from raw_http import Raw

from leasecap._gate import bodies, downstream
from leasecap._gate import gate as gate_module
from leasecap._gate.downstream import ClientConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gate_inside import GateInside
    from provider import Provider

MIB = 1 << 20


@pytest.fixture
def gate(gate_inside: GateInside) -> GateInside:
    return gate_inside


def hold(provider: Provider, gate: Gated, holder: Raw) -> Latch:
    """Take the one slot; it is free once the latch is set."""
    latch = Latch()
    provider.plan((latch, *reply(200)))
    holder.send(gate.request())
    provider.request()
    return latch


# -- who sends slowly -------------------------------------------------------------------------------------------------


def test_a_head_may_come_byte_by_byte(client: Raw, gate: GateInside) -> None:
    for byte in gate.request():
        client.send(bytes([byte]))
    assert client.answer().status == 200


@pytest.mark.parametrize("begun", [b"P", b"POST / HTTP/1.1\r\nHost: "])
def test_a_head_that_never_ends_is_given_up(
    client: Raw, gate: GateInside, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(downstream, "HEAD_TIMEOUT", 0.1)
    client.send(begun)
    assert client.answer().status == 408
    assert client.await_end() == b""


def test_an_idle_connection_is_kept(client: Raw, gate: GateInside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downstream, "HEAD_TIMEOUT", 0.01)
    monkeypatch.setattr(downstream, "BODY_TIMEOUT", 0.01)
    assert client.is_silent()
    assert client.ask(gate.request()).status == 200
    assert client.is_silent()
    assert client.ask(gate.request()).status == 200


def test_a_body_that_never_comes_takes_no_slot(
    provider: Provider, client: Raw, gate: GateInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downstream, "BODY_TIMEOUT", 0.1)
    client.send(gate.request(b"POST", b"/v1/messages", b"Content-Length: 4", body=None), b"12")
    assert client.answer().status == 408
    assert client.await_end() == b""
    assert provider.requests == []


def test_a_long_body_that_never_comes_gives_its_slot_back(
    provider: Provider, client: Raw, gate: GateInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downstream, "BODY_TIMEOUT", 0.1)
    monkeypatch.setattr(bodies, "BODY_MAX", 3)
    client.send(gate.request(b"POST", b"/v1/messages", b"Content-Length: 4", body=None), b"12")
    assert client.answer().status == 408
    assert provider.begun().arrived is None
    until(lambda: status().in_flight == 0)
    assert gate.ask().status == 200


# -- bodies -----------------------------------------------------------------------------------------------------------


def test_a_body_of_unknown_length_beyond_the_bound_is_sent_whole(
    provider: Provider, gate: GateInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_MAX", 5)
    with gate.connect() as holder, gate.connect() as client:
        latch = hold(provider, gate, holder)
        client.send(gate.request(b"POST", b"/v1/messages", b"Transfer-Encoding: chunked", body=None))
        client.send(chunk(b"123"), chunk(b"456"))
        until(lambda: status().waiting == 1)
        latch.set()
        client.send(chunk(b"789"), b"0\r\n\r\n")
        assert client.answer().status == 200
    assert bytes(provider.request(2).body) == b"123456789"


def test_what_all_bodies_take_is_bounded(provider: Provider, gate: GateInside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODIES_MAX", 10)
    lines = (b"Expect: 100-continue", b"Content-Length: 8")
    with gate.connect() as holder, gate.connect() as first, gate.connect() as second:
        latch = hold(provider, gate, holder)
        first.send(gate.request(b"POST", b"/v1/messages", *lines, body=None))
        first.await_interim()
        first.send(b"12345678")
        until(lambda: status().waiting == 1)
        second.send(gate.request(b"POST", b"/v1/messages", *lines, body=None))
        until(lambda: status().waiting == 2)
        assert second.is_silent()  # it is not asked for its body yet
        latch.set()
        assert first.answer().status == 200
        second.await_interim()
        second.send(b"abcdefgh")
        assert second.answer().status == 200
    assert [bytes(each.body) for each in provider.requests] == [b"{}", b"12345678", b"abcdefgh"]
    until(lambda: gate.gate._shared.room._taken == 0)


@pytest.mark.parametrize("sent", [0, 1000, 200_000, 32 * MIB])
@pytest.mark.parametrize("leave", [Raw.close, Raw.reset])
@pytest.mark.linux("elsewhere such an end shows only later")
def test_who_leaves_before_its_long_body_is_read_leaves_no_ticket(
    provider: Provider,
    gate: GateInside,
    monkeypatch: pytest.MonkeyPatch,
    leave: Callable[[Raw], None],
    sent: int,
) -> None:
    monkeypatch.setattr(bodies, "BODY_MAX", 100)
    monkeypatch.setattr(downstream, "PRESENCE_EVERY", 0.05)
    with gate.connect() as holder:
        latch = hold(provider, gate, holder)
        with gate.connect() as gone:
            gone.send(gate.request(b"POST", b"/v1/messages", b"Content-Length: %d" % (33 * MIB), body=None))
            until(lambda: status().waiting == 1)
            gone.could_send(sent)
            leave(gone)
        until(lambda: status().waiting == 0)
        latch.set()
        holder.answer()
    assert gate.ask().status == 200
    assert len(provider.requests) == 2


def test_who_waits_with_a_long_body_is_not_taken_for_gone(
    provider: Provider, gate: GateInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_MAX", 100)
    monkeypatch.setattr(downstream, "PRESENCE_EVERY", 0.01)
    with gate.connect() as holder, gate.connect() as client:
        latch = hold(provider, gate, holder)
        client.send(gate.request(b"POST", b"/v1/messages", b"Content-Length: %d" % (33 * MIB), body=None))
        sent = client.could_send(33 * MIB)
        until(lambda: status().waiting == 1)
        latch.set()
        client.send(bytes(33 * MIB - sent))
        assert client.answer().status == 200
    assert len(provider.request(2).body) == 33 * MIB


def test_it_is_looked_for_until_its_answer_begins(
    provider: Provider, client: Raw, gate: GateInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    monkeypatch.setattr(bodies, "BODY_MAX", 1)
    monkeypatch.setattr(downstream, "PRESENCE_EVERY", 0.01)
    monkeypatch.setattr(downstream, "has_closed", looks.append)
    provider.plan((latch := Latch(), *reply(200)))
    client.send(gate.request(body=b"long"))
    until(lambda: len(looks) > 2)
    latch.set()
    client.answer()
    before = len(looks)
    assert client.is_silent()
    assert len(looks) == before


# -- who reads slowly -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [MIB, 8 * MIB], ids=["all in the system's buffers", "more"])
def test_who_reads_late_gets_all_before_the_close(
    provider: Provider, client: Raw, gate: GateInside, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(downstream, "LINGER", 0.01)
    provider.plan(reply(200, bytes(size)))
    client.send(gate.request(b"POST", b"/v1/messages", b"Connection: close"))
    head = client.head()
    late = time.monotonic() + 0.5
    until(lambda: time.monotonic() > late)
    assert len(client.rest(head).body) == size
    assert client.await_end() == b""


def test_who_keeps_sending_gets_its_refusal(client: Raw, gate: GateInside) -> None:
    lines = (gate.host, b"Content-Length: %d" % (16 * MIB))
    client.send(gate.asking(b"POST /wrong/anthropic/v1/messages HTTP/1.1", *lines, body=None))
    client.send_until_refused(bytes(MIB))
    assert client.answer().status == 403
    assert client.await_end() == b""


def test_the_slot_is_free_while_the_client_takes_the_last_of_it(
    provider: Provider, client: Raw, gate: GateInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ClientConnection.write
    stalled: list[Callable[[], object]] = []

    def write_and_stall(connection: ClientConnection, parts: Sequence[bytes | bytearray]) -> None:
        write(connection, parts)
        if b"last" in b"".join(parts):
            connection.pause_writing()
            loop = asyncio.get_running_loop()
            stalled.append(lambda: loop.call_soon_threadsafe(connection.resume_writing))

    monkeypatch.setattr(ClientConnection, "write", write_and_stall)
    provider.plan(stream(b"data: 1\n\n", b"data: last\n\n"))
    client.send(gate.request())
    client.up_to(b"data: last\n\n")
    until(lambda: stalled and status().in_flight == 0)
    [go_on] = stalled
    go_on()
    client.up_to(b"0\r\n\r\n")
    assert client.ask(gate.request()).status == 200


# -- who is answered without a body -----------------------------------------------------------------------------------


def test_a_refusal_without_reading_the_body_says_that_it_closes(client: Raw, gate: GateInside) -> None:
    client.send(gate.asking(b"POST /wrong/anthropic/v1/messages HTTP/1.1", gate.host, b"Content-Length: 5", body=None))
    assert client.answer().head.values(b"connection") == [b"close"]
    assert client.await_end() == b""


@pytest.mark.parametrize("wrong", [True, False], ids=["refused", "no provider"])
def test_an_error_for_head_has_no_body(
    provider: Provider, client: Raw, gate: GateInside, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    line = b"HEAD /wrong/anthropic/ HTTP/1.1" if wrong else b"HEAD %b HTTP/1.1" % gate.target(b"/")
    if not wrong:
        provider.plan((b"SSH-2.0\r\n\r\n",))
    client.send(gate.asking(line, gate.host, body=None))
    assert client.answer(b"HEAD").status == (403 if wrong else 502)
    if wrong:
        assert client.await_end() == b""
    else:
        assert client.ask(gate.request()).status == 200
    assert gate.told == []


@pytest.mark.parametrize("together", [True, False], ids=["pipelined", "one after the other"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
def test_after_a_request_without_a_body_the_connection_takes_another(
    client: Raw, gate: GateInside, method: bytes, together: bool
) -> None:
    first, second = gate.request(method, b"/v1/models", body=None), gate.request()
    client.send(first + second if together else first)
    assert client.answer(method).status == 200
    if not together:
        client.send(second)
    assert client.answer().status == 200


# -- who comes in crowds ----------------------------------------------------------------------------------------------


def test_too_many_connections_are_refused(gate: GateInside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "CONNECTIONS_MAX", 2)
    with gate.connect() as first, gate.connect() as second:
        assert first.ask(gate.request()).status == 200
        assert second.ask(gate.request()).status == 200
        with gate.connect() as third:
            assert third.answer().status == 503
            assert third.await_end() == b""
        assert first.ask(gate.request()).status == 200
    until(lambda: not gate.gate._open)
    assert gate.ask().status == 200


@pytest.mark.linux("its limit is changed from outside")
def test_running_out_of_descriptors_is_told_once_at_the_end(provider: Provider) -> None:
    if sys.platform == "linux":
        import resource

        with Gated(provider) as gate:
            assert gate.ask().status == 200
            descriptors = Path(f"/proc/{gate.process.pid}/fd")
            before = len(list(descriptors.iterdir()))
            hard = resource.prlimit(gate.process.pid, resource.RLIMIT_NOFILE)[1]
            resource.prlimit(gate.process.pid, resource.RLIMIT_NOFILE, (32, hard))
            crowd = [gate.connect() for _ in range(60)]
            crowd[0].send(gate.request(b"GET", b"/v1/models", body=None))
            assert crowd[0].answer(b"GET").status in (200, 502)
            for each in crowd:
                each.close()
            # asyncio accepts nothing for a second, then all at once: those that have closed take what there is again
            until(lambda: gate.ask().status == 200 and len(list(descriptors.iterdir())) <= before + 2)
            code, said = gate.end()
        assert (code, said.count("leasecap: the gate is in trouble: Too many open files\n")) == (0, 1)
        assert all("too many open files" in line.lower() for line in said.splitlines()), (
            "what else met it, if it lasted"
        )


def test_clients_that_come_and_go_cost_nothing(gate: GateInside) -> None:
    def come_and_go() -> None:
        for _ in range(30):
            gate.connect().reset()

    crowd = [threading.Thread(target=come_and_go) for _ in range(5)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    until(lambda: not gate.gate._open)
    assert gate.ask().status == 200
    assert gate.told == []
