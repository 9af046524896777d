"""How long the requests of a gate took: by model, with what ran out of time, and told when the time-out comes near."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from commands import DEADLINE, run, until
from gated import Gated, configure
from provider_formats import message_events
from provider_steps import CLOSE, HANG, Latch, broken, refuse, reply, stream

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from provider import Provider

    from leasecap import ModelLatency


def body(model: object, **more: object) -> bytes:
    return json.dumps({"model": model, **more}).encode()


def rows() -> tuple[ModelLatency, ...]:
    return leasecap.status("p", latency=True).pools[0].latency or ()


def counts() -> dict[tuple[str, bool], tuple[int, int]]:
    """How many first bytes and how many whole answers, by model and whether they are streamed."""
    return {(row.model, row.streamed): (row.first_byte.n, row.whole_answer.n) for row in rows()}


def test_answers_are_counted_by_model_and_kind(provider: Provider) -> None:
    with Gated(provider) as gate:
        gate.ask(body=body("opus"))
        for _ in range(3):
            gate.ask(body=body("sonnet", stream=True))
        gate.ask(body=b"{}")
        gate.ask(target=b"/v1/messages/count_tokens")
        assert gate.end()[0] == 0
    assert counts() == {("opus", False): (1, 1), ("sonnet", True): (3, 3), ("", False): (1, 1)}


def test_they_are_counted_when_the_command_dies_of_a_signal(provider: Provider) -> None:
    with Gated(provider) as gate:
        for _ in range(3):
            gate.ask(body=body("opus"))
        gate.process.send_signal(signal.SIGTERM)  # which is the command's, and leasecap dies of it likewise
        assert (
            gate.process.wait(DEADLINE) == -signal.SIGTERM
        )  # its standard input stays open, at whose end it ends, too
    assert counts() == {("opus", False): (3, 3)}


def test_they_are_seen_while_the_gate_runs(provider: Provider) -> None:
    with Gated(provider) as gate:
        gate.ask(body=body("opus"))
        gate.ask(body=body("opus"))
        until(lambda: counts() == {("opus", False): (2, 2)})


def test_refusals_and_what_breaks_off_are_no_answers(provider: Provider) -> None:
    provider.plan(
        refuse(429, b"0"),  # sent again
        stream(*message_events()),
        reply(404, b"{}"),
        broken(stream(*message_events()), CLOSE),
    )
    with Gated(provider) as gate:
        for _ in range(2):
            gate.ask(body=body("opus", stream=True))
        with gate.connect() as client:
            client.send(gate.request(body=body("opus", stream=True)))
            client.await_end()
        assert gate.end()[0] == 0
    assert counts() == {("opus", True): (2, 1)}


def test_one_that_runs_out_of_time_counts_with_that_time(root: Path, provider: Provider) -> None:
    configure(root, "limit = 1\nfirst_byte_timeout = 0.5\n")
    provider.plan((HANG,))
    with Gated(provider) as gate:
        assert gate.ask(body=body("opus", stream=True)).status == 504
        assert gate.end()[0] == 0
    [row] = rows()
    assert (row.first_byte.n, row.whole_answer.n) == (1, 0)
    assert row.first_byte.max is not None and row.first_byte.max >= 0.5


def test_a_time_out_that_comes_near_is_told_at_the_end_and_shown(root: Path, provider: Provider) -> None:
    configure(root, "limit = 1\nfirst_byte_timeout = 0.1\nabsorb = 0\n")
    provider.plan(*[(HANG,)] * 20)
    with Gated(provider) as gate:
        for _ in range(20):
            assert gate.ask(body=body("opus\x1b[31m", stream=True)).status == 504
        status, said = gate.end()
    assert status == 0
    assert said.count("past first_byte_timeout 0.1s: lower the limit") == 1
    assert "opus\\x1b[31m, streamed: first byte p99 " in said and "\x1b[31m" not in said
    assert "past first_byte_timeout 0.1s" in run("status").stdout


def test_a_whole_answer_takes_longer_than_its_first_byte(provider: Provider) -> None:
    rest = Latch()
    provider.plan(stream(message_events()[0], rest, *message_events()[1:]))
    with Gated(provider) as gate:
        with gate.connect() as client:
            client.send(gate.request(body=body("opus", stream=True)))
            client.up_to(b"message_start")
            until(lambda: counts() == {("opus", True): (1, 0)})
            rest.set()
            client.up_to(b"0\r\n\r\n")
        until(lambda: counts() == {("opus", True): (1, 1)})
    [row] = rows()
    assert (row.first_byte.max or 0) < (row.whole_answer.max or 0)
