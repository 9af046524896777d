"""``order = "task"``: who began earlier goes first, whoever asks first; for library calls and requests of agents."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from commands import status, until
from gated import Gated, configure
from helper_process import helper
from provider_steps import Latch, Step, reply
from turns import CALL, HOUR, turns

import leasecap
from leasecap._host.effects import Effects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from provider import Provider
    from raw_http import Raw

BY_TASK = 'limit = 1\norder = "task"\nadaptive = "off"\n'


def test_call_of_an_earlier_task_goes_first(root: Path) -> None:
    configure(root, BY_TASK)
    if Effects().boot_clock() < 120e9:
        pytest.skip("these tasks would be older than the machine's start")
    assert turns((10, 0), (HOUR, 0), (None, 0), (60, 0)) == [1, 3, 0, 2]


def test_priority_goes_before_the_age_of_a_task(root: Path) -> None:
    configure(root, BY_TASK)
    assert turns((HOUR, 0), (10, 5), (2 * HOUR, -5)) == [1, 0, 2]


def test_task_of_the_future_begins_now(root: Path) -> None:
    configure(root, BY_TASK)
    assert turns((-HOUR, 0), (None, 0), (-HOUR, 0)) == [0, 1, 2]


def test_by_default_the_earlier_call_goes_first(root: Path) -> None:
    configure(root, "limit = 1\n")
    assert turns((None, 0), (HOUR, 0), (10, 0)) == [0, 1, 2]


def test_order_follows_an_edit_for_those_who_come_after_it(root: Path) -> None:
    configure(root, "limit = 1\n")
    with leasecap.slot("p"), helper(CALL, "", "", 0) as first, helper(CALL, "", time.time() - HOUR, 0) as second:
        until(lambda: status().waiting == 2)
        (root / "config.toml").write_text(f"[pools.p]\n{BY_TASK}")
        with helper(CALL, "", time.time() - HOUR, 0) as third:
            until(lambda: status().waiting == 3)
            assert status().waiters[0].pid == third.pid
            assert {first.pid, second.pid} == {waiter.pid for waiter in status().waiters[1:]}


def test_function_says_since_when_at_each_call(root: Path) -> None:
    configure(root, BY_TASK)
    asked: list[float] = []

    def since() -> float:
        asked.append(time.time() - HOUR)
        return asked[-1]

    @leasecap.limited("p", task_since=since)
    def call() -> None:
        pass

    call()
    call()
    assert len(asked) == 2


# -- requests of agents -----------------------------------------------------------------------------------------------


def first(prompt: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": prompt}]}


def second(prompt: str) -> dict[str, object]:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]}
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": "so"}, result]}


def ask(gate: Gated, client: Raw, said: object, target: bytes = b"/v1/messages") -> None:
    client.send(gate.request(b"POST", target, b"Content-Type: application/json", body=json.dumps(said).encode()))


def served(provider: Provider) -> list[object]:
    return [json.loads(bytes(request.body)) for request in provider.requests]


@pytest.mark.parametrize("order", ["task", "arrival"])
def test_agent_half_through_its_prompt_goes_before_one_that_begins(root: Path, provider: Provider, order: str) -> None:
    configure(root, BY_TASK.replace("task", order))
    latch = Latch()
    provider.plan(reply(200), (latch, *reply(200)))
    with (
        Gated(provider) as one,
        Gated(provider) as other,
        one.connect() as half,
        other.connect() as holder,
        other.connect() as begins,
    ):
        ask(one, half, first("half"))
        assert half.answer().status == 200
        ask(other, holder, first("holds"))
        until(lambda: len(provider.requests) == 2)
        ask(other, begins, first("begins"))
        until(lambda: status().waiting == 1)
        ask(one, half, second("half"))
        until(lambda: status().waiting == 2)
        latch.set()
        assert (half.answer().status, begins.answer().status) == (200, 200)
    late = [second("half"), first("begins")]
    assert served(provider)[2:] == (late if order == "task" else late[::-1])


def test_next_prompt_of_an_agent_begins_anew(root: Path, provider: Provider) -> None:
    configure(root, BY_TASK)
    latch = Latch()
    provider.plan(reply(200), (latch, *reply(200)))
    again = second("early")
    assert isinstance(again["messages"], list)
    again["messages"].append({"role": "user", "content": "and now this"})
    with (
        Gated(provider) as one,
        Gated(provider) as other,
        one.connect() as early,
        other.connect() as holder,
        other.connect() as later,
    ):
        ask(one, early, first("early"))
        early.answer()
        ask(other, holder, first("holds"))
        until(lambda: len(provider.requests) == 2)
        ask(other, later, first("later"))
        until(lambda: status().waiting == 1)
        ask(one, early, again)
        until(lambda: status().waiting == 2)
        latch.set()
        later.answer()
        early.answer()
    assert served(provider)[2:] == [first("later"), again]


KEPT = b'{"object": "response", "id": "resp_1", "status": "completed"}'
ANSWERS: dict[str, Step] = {
    "whole": reply(200, KEPT),
    "stream": reply(
        200,
        b'event: response.created\ndata: {"type": "response.created", "response": %b}\n\n' % KEPT,
        b'event: response.completed\ndata: {"type": "response.completed", "response": %b}\n\n' % KEPT,
        headers=(b"Content-Type: text/event-stream",),
    ),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_request_that_goes_on_from_a_kept_answer_is_of_its_task(root: Path, provider: Provider, kind: str) -> None:
    configure(root, BY_TASK)
    latch = Latch()
    provider.plan(ANSWERS[kind], (latch, *reply(200)))
    goes_on = {"previous_response_id": "resp_1", "input": [{"type": "function_call_output", "output": "ok"}]}
    with (
        Gated(provider) as one,
        Gated(provider) as other,
        one.connect() as half,
        other.connect() as holder,
        other.connect() as begins,
    ):
        ask(one, half, {"input": "half", "stream": kind == "stream"}, b"/v1/responses")
        half.answer()
        ask(other, holder, first("holds"))
        until(lambda: len(provider.requests) == 2)
        ask(other, begins, first("begins"))
        until(lambda: status().waiting == 1)
        ask(one, half, goes_on, b"/v1/responses")
        until(lambda: status().waiting == 2)
        latch.set()
        half.answer()
        begins.answer()
    assert served(provider)[2:] == [goes_on, first("begins")]
