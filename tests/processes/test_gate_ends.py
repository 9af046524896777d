"""How a request through the gate ends before its time, for its client, the provider and the slot; and its body."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import DEADLINE, environment, run, status, until
from gated import POOL, Gated, configure
from places import REPOSITORY
from provider import Provider
from provider_steps import CHUNKED, CLOSE, HANG, LENGTH, RESET, Act, Framing, Latch, broken, head, reply, stream
from raw_http import BrokenError, Raw

MIB = 1 << 20
BUFFERED = 32 * MIB
STREAMED = b'{"stream": true}'


def hold(provider: Provider, gate: Gated, holder: Raw) -> Latch:
    """Take the one slot; it is free once the latch is set."""
    latch = Latch()
    provider.plan((latch, *reply(200)))
    holder.send(gate.request())
    provider.request()
    return latch


# -- the provider breaks off ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [CLOSE, RESET])
@pytest.mark.parametrize("framing", [CHUNKED, LENGTH])
@pytest.mark.parametrize("method", [b"POST", b"GET"], ids=["metered", "free"])
def test_a_break_upstream_is_a_break_downstream(
    provider: Provider, client: Raw, gate: Gated, how: Act, framing: Framing, method: bytes
) -> None:
    latch = Latch()
    provider.plan(broken(reply(200, b"a" * 70_000, b"mark", latch, b"bcd", framing=framing), how))
    client.send(gate.request(method, b"/v1/x", body=b"{}" if method == b"POST" else None))
    found = client.head()
    client.up_to(b"mark")
    latch.set()
    with pytest.raises(BrokenError):
        if framing is CHUNKED:
            client.up_to(b"0\r\n\r\n")
        else:
            client.rest(found)
    assert len(provider.requests) == 1
    until(lambda: status().in_flight == 0)


@pytest.mark.parametrize("how", [CLOSE, RESET])
def test_a_break_before_the_head_is_a_bad_gateway(provider: Provider, gate: Gated, how: Act) -> None:
    provider.plan((how,))
    assert gate.ask().status == 502
    assert len(provider.requests) == 1  # the provider may have done the work
    assert status().in_flight == 0


def test_a_break_inside_the_head_is_a_bad_gateway(provider: Provider, gate: Gated) -> None:
    provider.plan((b"HTTP/1.1 200 OK\r\nContent-Le", CLOSE))
    assert gate.ask().status == 502


def test_an_answer_that_is_no_http_is_a_bad_gateway(provider: Provider, gate: Gated) -> None:
    provider.plan((b"SSH-2.0-OpenSSH\r\n\r\n", CLOSE))
    assert gate.ask().status == 502


def test_a_provider_that_is_not_there_is_a_bad_gateway() -> None:
    with Provider() as gone:
        pass
    with Gated(gone) as gate:
        assert gate.ask().status == 502
        assert status().in_flight == 0


def test_a_break_between_requests_is_no_error(provider: Provider, client: Raw, gate: Gated) -> None:
    provider.plan((*reply(200), CLOSE))
    assert client.ask(gate.request()).status == 200
    provider.until(lambda: provider.open_connections == 0)
    assert client.ask(gate.request()).status == 200


# -- the client leaves ------------------------------------------------------------------------------------------------

LEAVING = pytest.mark.parametrize("leave", [Raw.close, Raw.reset])


@LEAVING
def test_a_client_that_leaves_the_queue_leaves_no_ticket(
    provider: Provider, client: Raw, gate: Gated, leave: Callable[[Raw], None]
) -> None:
    latch = hold(provider, gate, client)
    with gate.connect() as waiter:
        waiter.send(gate.request())
        until(lambda: status().waiting == 1)
        leave(waiter)
        until(lambda: status().waiting == 0)
    latch.set()
    client.answer()
    assert gate.ask(body=b"after").status == 200
    assert [bytes(each.body) for each in provider.requests] == [b"{}", b"after"]


@LEAVING
@pytest.mark.parametrize("step", [(HANG,), stream(b"data: 1\n\n", Latch())], ids=["before the head", "within the body"])
def test_a_client_that_leaves_frees_provider_and_slot_at_once(
    provider: Provider, gate: Gated, leave: Callable[[Raw], None], step: tuple[bytes | Act, ...]
) -> None:
    provider.plan(step)
    with gate.connect() as client, gate.connect() as waiter:
        client.send(gate.request())
        provider.request()
        if step != (HANG,):
            client.up_to(b"data: 1\n\n")
        waiter.send(gate.request())
        until(lambda: status().waiting == 1)
        leave(client)
        assert waiter.answer().status == 200
    found = provider.ended()
    assert found.gone is not None
    assert provider.most == 1  # the next one came once the provider could know that this one is over


def test_a_client_that_leaves_within_a_free_answer_ends_it(provider: Provider, gate: Gated) -> None:
    provider.plan(stream(b"data: 1\n\n", Latch()))
    with gate.connect() as client:
        client.send(gate.request(b"GET", b"/v1/models", body=None))
        client.up_to(b"data: 1\n\n")
    assert provider.ended().gone is not None


def test_a_client_that_doesnt_read_gets_no_more_than_buffers_hold(provider: Provider, gate: Gated) -> None:
    piece = bytes(MIB)
    provider.plan(reply(200, *([piece] * 64)), reply(200))
    with gate.connect() as client, gate.connect() as waiter:
        client.send(gate.request())
        client.head()
        waiter.send(gate.request())
        until(lambda: status().waiting == 1)
        assert waiter.is_silent()
        assert provider.requests[0].ended is None
        client.close()
        assert waiter.answer().status == 200


def test_the_slot_is_free_after_the_providers_end_though_nobody_reads(provider: Provider, gate: Gated) -> None:
    with gate.connect() as idle:
        idle.send(gate.request())
        assert gate.ask().status == 200
        assert idle.answer().status == 200


# -- time-outs --------------------------------------------------------------------------------------------------------


def test_a_late_first_byte_is_a_time_out_that_is_not_sent_again(root: Path, provider: Provider) -> None:
    configure(root, "first_byte_timeout = 0.3\n")
    provider.plan((HANG,))
    with Gated(provider) as gate:
        assert gate.ask(body=STREAMED).status == 504
        assert status().in_flight == 0
    assert provider.ended().gone is not None
    assert len(provider.requests) == 1


def test_a_late_first_byte_cuts_the_limit(root: Path, provider: Provider) -> None:
    configure(root, "limit = 2\nfirst_byte_timeout = 0.3\n")
    with Gated(provider, limit=2) as gate, gate.connect() as holder:
        latch = hold(provider, gate, holder)
        provider.plan((HANG,))
        assert gate.ask(body=STREAMED).status == 504
        feedback = status().feedback
        latch.set()
        holder.answer()
    assert feedback is not None and feedback.reduced_limit == 1


def test_a_head_alone_is_no_first_byte(root: Path, provider: Provider) -> None:
    """As from vLLM, which sends it before its model has said anything."""
    configure(root, "limit = 2\nfirst_byte_timeout = 0.3\n")
    begins = head(200, b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked")
    with Gated(provider, limit=2) as gate, gate.connect() as holder:
        latch = hold(provider, gate, holder)
        provider.plan((begins, HANG))
        assert gate.ask(body=STREAMED).status == 504
        feedback = status().feedback
        latch.set()
        holder.answer()
    assert feedback is not None and feedback.reduced_limit == 1


def test_an_idle_stream_is_broken_off(root: Path, provider: Provider) -> None:
    configure(root, "idle_timeout = 2\n")
    provider.plan(stream(b"data: 1\n\n", latch := Latch()))
    with Gated(provider) as gate, gate.connect() as client:
        client.send(gate.request(body=STREAMED))
        found = client.head()
        with pytest.raises(BrokenError):
            client.rest(found)
        until(lambda: status().in_flight == 0)
    assert provider.ended().gone is not None and not latch.is_set()


def test_a_whole_answer_has_a_time_out_of_its_own(root: Path, provider: Provider) -> None:
    configure(root, "first_byte_timeout = 0.3\nidle_timeout = 0.3\nanswer_timeout = 6\n")
    provider.plan((0.6, *reply(200, b"late")), (HANG,))
    with Gated(provider) as gate:
        assert gate.ask(body=b'{"stream": false}').body == b"late"
        assert gate.ask(body=b'{"stream": false}').status == 504


def test_a_time_out_doesnt_count_the_queue(root: Path, provider: Provider) -> None:
    configure(root, "first_byte_timeout = 2\n")
    latch = Latch()
    provider.plan(
        (head(200, b"Content-Type: text/event-stream", b"Content-Length: 7"), b"data:", latch, b"\n\n"), reply(200)
    )
    with Gated(provider) as gate, gate.connect() as holder, gate.connect() as waiter:
        holder.send(gate.request(body=STREAMED))
        provider.request()
        waiter.send(gate.request(body=STREAMED))
        until(lambda: status().waiting == 1)
        before = time.monotonic()
        until(lambda: time.monotonic() > before + 2.5)  # longer than the time-out
        latch.set()
        assert waiter.answer().status == 200


# -- the wrapper ends -------------------------------------------------------------------------------------------------


def test_a_killed_wrapper_breaks_its_connections_and_frees_its_slots(
    provider: Provider, client: Raw, gate: Gated
) -> None:
    provider.plan(stream(b"data: 1\n\n", Latch()))
    client.send(gate.request())
    client.up_to(b"data: 1\n\n")
    gate.process.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))
    with pytest.raises(BrokenError):
        client.up_to(b"0\r\n\r\n")
    until(lambda: not any(holder.alive for holder in status().holders))
    gate.process.wait(DEADLINE)  # the kernel closes what a killed process had open one by one, in no order
    with pytest.raises(ConnectionRefusedError):
        gate.connect()


def test_a_command_that_ends_ends_its_gate(gate: Gated) -> None:
    gate.ask()
    assert gate.end()[0] == 0
    with pytest.raises(ConnectionRefusedError):
        gate.connect()


# -- bodies -----------------------------------------------------------------------------------------------------------


def test_a_free_request_streams_both_ways(provider: Provider, client: Raw, gate: Gated) -> None:
    latch = Latch()
    provider.plan(reply(200, b"a", latch, b"b"))
    client.send(gate.request(b"POST", b"/v1/files", b"Content-Length: 4", body=None), b"12")
    until(lambda: bytes(provider.begun().body) == b"12")
    client.send(b"34")
    found = client.head()
    client.up_to(b"a")
    latch.set()
    client.up_to(b"b")
    assert (found.status, bytes(provider.ended().body)) == (200, b"1234")


def test_a_metered_body_is_whole_before_a_slot_is_asked_for(provider: Provider, client: Raw, gate: Gated) -> None:
    client.send(gate.request(b"POST", b"/v1/messages", b"Content-Length: 4", body=None), b"12")
    assert gate.ask().status == 200  # had the other one asked for the slot, this one would wait
    assert len(provider.requests) == 1
    client.send(b"34")
    assert client.answer().status == 200
    assert bytes(provider.request(2).body) == b"1234"


def test_a_body_within_the_bound_is_read_while_it_waits(provider: Provider, gate: Gated) -> None:
    body = os.urandom(20 * MIB)
    with gate.connect() as holder, gate.connect() as client:
        latch = hold(provider, gate, holder)
        client.send(gate.request(body=body))  # returns though the slot is taken
        until(lambda: status().waiting == 1)
        latch.set()
        assert client.answer().status == 200
    assert bytes(provider.request(2).body) == body


def test_a_body_beyond_the_bound_is_not_read_before_its_grant(provider: Provider, gate: Gated) -> None:
    length = BUFFERED + 16 * MIB  # what is beyond is more than systems buffer
    with gate.connect() as holder, gate.connect() as client:
        latch = hold(provider, gate, holder)
        client.send(gate.request(b"POST", b"/v1/messages", b"Content-Length: %d" % length, body=None))
        sent = client.could_send(length)
        assert sent < length
        latch.set()
        client.send(bytes(length - sent))
        assert client.answer().status == 200
    assert len(provider.request(2).body) == length


def test_continue_is_sent_once_the_body_is_wanted(provider: Provider, client: Raw, gate: Gated) -> None:
    client.send(gate.request(b"POST", b"/v1/messages", b"Expect: 100-continue", b"Content-Length: 3", body=None))
    assert client.await_interim().status == 100
    client.send(b"abc")
    assert client.answer().status == 200
    assert len(client.interim) == 1
    assert bytes(provider.request().body) == b"abc"


def test_continue_for_a_large_body_waits_for_the_grant(provider: Provider, gate: Gated) -> None:
    length = BUFFERED + 1
    lines = (b"Expect: 100-continue", b"Content-Length: %d" % length)
    with gate.connect() as holder, gate.connect() as client:
        latch = hold(provider, gate, holder)
        client.send(gate.request(b"POST", b"/v1/messages", *lines, body=None))
        until(lambda: status().waiting == 1)
        assert client.is_silent()
        latch.set()
        assert client.await_interim().status == 100
        client.send(bytes(length))
        assert client.answer().status == 200


def test_continue_is_not_sent_where_the_answer_is_no(gate: Gated, client: Raw) -> None:
    lines = (gate.host, b"Expect: 100-continue", b"Content-Length: 3")
    client.send(gate.asking(b"POST /wrong/anthropic/v1/messages HTTP/1.1", *lines, body=None))
    assert client.answer().status in (403, 404)
    assert client.interim == []


# -- the command ends -------------------------------------------------------------------------------------------------

ASKS_AND_LEAVES = """
import os, socket, sys, time
from urllib.parse import urlsplit
url = urlsplit(os.environ["ANTHROPIC_BASE_URL"])
with socket.create_connection((url.hostname, url.port)) as connection:
    head = f"POST {url.path}/v1/messages HTTP/1.1\\r\\nHost: {url.netloc}\\r\\nContent-Length: 2\\r\\n\\r\\n{{}}"
    connection.sendall(head.encode())
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.01)
"""


def test_a_look_up_of_a_name_that_takes_long_does_not_keep_the_wrapper(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    (tmp_path / "sitecustomize.py").write_text(
        "import pathlib, socket, time\n"
        "look_up = socket.getaddrinfo\n"
        "def slow(host, *about, **more):\n"
        "    if host == 'slow.invalid':\n"
        f"        pathlib.Path({str(asked)!r}).touch()\n"
        "        time.sleep(600)\n"
        "    return look_up(host, *about, **more)\n"
        "socket.getaddrinfo = slow\n"
    )
    where = environment(ANTHROPIC_BASE_URL="http://slow.invalid", PYTHONPATH=f"{tmp_path}{os.pathsep}{REPOSITORY}")
    command = (sys.executable, "-c", ASKS_AND_LEAVES, str(asked))
    done = run("run", "--per-request", "-p", POOL, "--limit", "1", "--", *command, env=where)
    assert done.returncode == 0, done.stderr
    assert asked.exists()
    until(lambda: status().in_flight == 0)
