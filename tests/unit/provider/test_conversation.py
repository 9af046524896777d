"""Which prompt a request works on, and since when, by what agents send."""

from __future__ import annotations

import json

import pytest

from leasecap._provider.conversation import NO_PROMPT, Prompt, read_prompt, response_id
from leasecap._provider.reading import read_request
from leasecap._provider.tasks import Tasks

USER, ASSISTANT = {"role": "user", "content": "fix it"}, {"role": "assistant", "content": "looking"}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]}
REMINDER = {"type": "text", "text": "<system-reminder>be brief</system-reminder>"}
SAME = Prompt(("fix it", "fix it"), True)

ONE_TURN = {
    "anthropic": {"system": "s", "messages": [USER]},
    "anthropic blocks": {"messages": [{"role": "user", "content": [{"type": "text", "text": "fix it"}]}]},
    "anthropic, marked": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "fix it", "cache_control": {"type": "e"}}]}]
    },
    "claude code": {"messages": [{"role": "user", "content": [REMINDER, {"type": "text", "text": "fix it"}]}]},
    "claude code, reminded": {"messages": [USER, {"role": "user", "content": [REMINDER]}]},
    "chat": {"messages": [{"role": "system", "content": "s"}, USER]},
    "responses": {
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix it"}]}]
    },
    "codex": {"input": [{"type": "message", "role": "developer"}, USER, {"type": "configuration_update"}]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "fix it"}]}]},
}
LATER = {
    "anthropic": {"messages": [USER, ASSISTANT, RESULT]},
    "anthropic, reminded": {"messages": [USER, ASSISTANT, {**RESULT, "content": [*RESULT["content"], REMINDER]}]},
    "anthropic, queued words": {
        "messages": [USER, ASSISTANT, {**RESULT, "content": [*RESULT["content"], {"type": "text", "text": "and this"}]}]
    },
    "chat": {"messages": [USER, ASSISTANT, {"role": "tool", "tool_call_id": "t", "content": "ok"}]},
    "responses": {
        "input": [
            USER,
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "c"},
            {"type": "function_call_output", "call_id": "c", "output": "ok"},
        ]
    },
    "gemini": {
        "contents": [
            {"role": "user", "parts": [{"text": "fix it"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f"}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f"}}]},
        ]
    },
}


@pytest.mark.parametrize("name", ONE_TURN)
def test_first_request_of_a_prompt_begins_it(name: str) -> None:
    assert read_prompt(ONE_TURN[name]) == SAME


@pytest.mark.parametrize("name", LATER)
def test_results_of_tools_belong_to_the_prompt_before_them(name: str) -> None:
    assert read_prompt(LATER[name]) == SAME._replace(begins=False)


def test_next_prompt_of_a_conversation_is_another_one() -> None:
    said = {"messages": [USER, ASSISTANT, RESULT, ASSISTANT, {"role": "user", "content": "now the tests"}]}
    assert read_prompt(said) == Prompt(("fix it", "now the tests"), True)


def test_text_alone_is_a_prompt() -> None:
    assert read_prompt({"input": "fix it"}) == read_prompt({"prompt": "fix it"}) == Prompt(("fix it",), True)


def test_picture_alone_is_a_prompt() -> None:
    said = {"messages": [{"role": "user", "content": [{"type": "image", "source": {"data": "AAAA"}}]}]}
    assert read_prompt(said) == Prompt(("(image)", "(image)"), True)


FOLLOWS: list[dict[str, object]] = [
    {"previous_response_id": "resp_1"},
    {"conversation": "resp_1"},
    {"conversation": {"id": "resp_1"}},
]


@pytest.mark.parametrize("said", FOLLOWS)
def test_what_the_provider_keeps_is_followed(said: dict[str, object]) -> None:
    output = {"type": "function_call_output", "call_id": "c", "output": "ok"}
    assert read_prompt({**said, "input": [output]}) == Prompt(follows="resp_1")
    assert read_prompt({**said, "input": "more"}) == Prompt(("more",), True, "resp_1")


@pytest.mark.parametrize(
    "said",
    [
        None, 3, [], {}, {"messages": 3}, {"messages": [3, None, {"role": "user"}, {"role": "user", "content": 3}]},
        {"messages": [{"role": "user", "content": []}]}, {"messages": [{"role": "user", "content": [3]}]},
        {"messages": [{"role": {}, "content": "x"}]}, {"messages": [{"type": [], "role": []}]},
        {"contents": [{"role": "user", "parts": None}]}, {"previous_response_id": 3}, {"conversation": {"id": []}},
    ],
)  # fmt: skip
def test_what_has_no_prompt_is_no_error(said: object) -> None:
    assert read_prompt(said) == NO_PROMPT


def test_kind_of_a_block_that_is_no_text_says_nothing() -> None:
    said = {"messages": [{"role": "user", "content": [{"type": {}, "text": "x"}]}]}
    assert read_prompt(said) == Prompt(("x", "x"), True)


def test_name_of_an_answer_is_found_in_its_events_alone() -> None:
    whole = {"object": "response", "id": "resp_1"}
    assert response_id(whole) == response_id({"type": "response.created", "response": whole}) == "resp_1"
    others: list[object] = [
        None,
        [],
        {"id": "msg_1"},
        {"object": "chat.completion", "id": "c"},
        {"response": {"id": "x"}},
    ]
    for other in others:
        assert response_id(other) is None


def test_prompt_of_a_long_conversation_is_read_where_it_is_asked_for() -> None:
    said = {"model": "m", "messages": [USER, {"role": "assistant", "content": "x" * (3 << 20)}, RESULT]}
    body = json.dumps(said).encode()
    found = read_request(b"/v1/messages", b"application/json", b"", body, prompt=True)
    assert found.prompt == SAME._replace(begins=False)
    assert read_request(b"/v1/messages", b"application/json", b"", body).prompt == NO_PROMPT
    gemini = json.dumps(LATER["gemini"]).encode()
    found = read_request(b"/v1beta/models/g:streamGenerateContent", b"application/json", b"", gemini, prompt=True)
    assert found[:2] == ("g", True) and found.prompt == SAME._replace(begins=False)


# -- since when -------------------------------------------------------------------------------------------------------


class World:
    def __init__(self) -> None:
        self.now = 1e9
        self.tasks = Tasks(lambda: self.now)

    def began(self, prompt: Prompt, *who: bytes, answered: bool = True) -> float:
        """When the task of a request began, by the seconds since this world did; the next request comes later."""
        task = self.tasks.of(prompt, who)
        task.answered = task.answered or answered
        self.now += 10
        return task.began - 1e9


@pytest.fixture
def world() -> World:
    return World()


FIRST, NEXT = SAME, SAME._replace(begins=False)
OTHER = Prompt(("fix it", "and test"), True)


def test_all_requests_of_a_prompt_have_its_time(world: World) -> None:
    assert [world.began(prompt) for prompt in (FIRST, NEXT, OTHER, NEXT)] == [0, 0, 20, 0]


def test_first_request_that_comes_again_unanswered_is_the_same(world: World) -> None:
    assert [world.began(FIRST, answered=False) for _ in range(3)] == [0, 0, 0]


def test_prompt_that_reads_the_same_as_one_that_was_answered_is_a_new_one(world: World) -> None:
    assert [world.began(prompt) for prompt in (FIRST, NEXT, FIRST, NEXT)] == [0, 0, 20, 20]


def test_same_words_of_somebody_else_are_another_task(world: World) -> None:
    assert [world.began(NEXT, *who) for who in ((b"a", b"k"), (b"b", b"k"), (b"a", b""), (b"a", b"k"))] == [
        0,
        10,
        20,
        0,
    ]


def test_what_has_no_prompt_begins_now_and_is_not_kept(world: World) -> None:
    assert [world.began(NO_PROMPT) for _ in range(2)] == [0, 10]
    assert not world.tasks._tasks


def test_answers_that_are_followed_belong_to_the_task(world: World) -> None:
    task = world.tasks.of(Prompt(("fix it",), True), (b"who",))
    world.now += 10
    for number in range(5):
        task.is_followed(f"resp_{number}")
        follower = world.tasks.of(Prompt(follows=f"resp_{number}"), (b"who",))
        assert follower is task
    assert world.tasks.of(Prompt(follows="resp_1"), (b"somebody",)) is not task
    assert world.tasks.of(Prompt(("more",), True, "resp_4"), (b"who",)) is not task


def test_conversation_that_is_kept_goes_on_with_its_last_prompt(world: World) -> None:
    kept = Prompt(follows="conv_1")
    first, second = (kept._replace(texts=(text,), begins=True) for text in ("fix it", "and test"))
    assert [world.began(prompt) for prompt in (first, kept, second, kept)] == [0, 0, 20, 20]


def test_number_and_time_of_what_is_kept_are_bounded(world: World) -> None:
    assert world.began(NEXT) == 0
    world.now += 24 * 3600
    assert world.began(NEXT) > 0, "nobody has used it for a day"
    used = Prompt(("used", "used"))
    began = world.began(used)
    for number in range(10_000):
        world.tasks.of(Prompt((str(number),)), ())
        world.tasks.of(used, ())
    assert len(world.tasks._tasks) == 4096 and world.began(used) == began
