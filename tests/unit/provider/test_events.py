"""What is read of a copy of an answer: errors that a status of 200 hides, and whether the head may go out."""

from __future__ import annotations

import gzip
import json
import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leasecap._provider.errors import Fault, fault_in
from leasecap._provider.events import HELD_AT_MOST, AnswerReader
from leasecap._provider.reading import MAX_DECODED
from leasecap._provider.sse import Event, EventStream

SSE = b"text/event-stream; charset=utf-8"
JSON = b"application/json"
NDJSON = b"application/x-ndjson"


def reader(media: bytes = SSE, *, status: int = 200, encoding: bytes = b"") -> AnswerReader:
    headers = [(b"Content-Type", media)]
    if encoding:
        headers.append((b"content-ENCODING", encoding))
    return AnswerReader(status, headers)


def fault(body: bytes, media: bytes = SSE, *, encoding: bytes = b"") -> Fault | None:
    read = reader(media, encoding=encoding)
    read.feed(body)
    read.end()
    assert read.first_is_whole
    return read.fault


def event(said: object, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(said).encode() + b"\n\n"


def anthropic(kind: str) -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": "Overloaded"}}


def openai(kind: str | None, code: object) -> dict[str, object]:
    return {"error": {"message": "m", "type": kind, "param": None, "code": code}}


FINE = {
    "anthropic": event({"type": "message_start", "message": {}}, "message_start"),
    "chat": event({"object": "chat.completion.chunk", "choices": [{"delta": {}}]}),
    "azure": event({"object": "chat.completion.chunk", "choices": [], "prompt_filter_results": []}),
    "usage first": event({"object": "chat.completion.chunk", "usage": {"total_tokens": 3}}),
    "null error": event({"object": "chat.completion.chunk", "choices": [], "error": None}),
    "responses": event({"type": "response.output_item.added", "item": {}}, "response.output_item.added"),
    "gemini": event({"candidates": []}),
    "done": b"data: [DONE]\n\n",
}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (anthropic("overloaded_error"), (529, "overloaded_error")),
        (anthropic("rate_limit_error"), (429, "rate_limit_error")),
        (anthropic("api_error"), (500, "api_error")),
        (anthropic("invalid_request_error"), (400, "invalid_request_error")),
        (openai("tokens", "rate_limit_exceeded"), (429, "rate_limit_exceeded")),
        (openai("server_error", None), (500, "server_error")),
        (openai("requests", "429"), (429, "requests")),
        (openai(None, 502), (502, "error")),
        (openai(None, None), (400, "error")),
        (openai("insufficient_quota", "insufficient_quota"), (429, "insufficient_quota", None, True)),
        ({"error": {"code": 503, "status": "UNAVAILABLE", "message": "m"}}, (503, "unavailable")),
        ({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}, (429, "resource_exhausted")),
        ({"error": {"message": "stream error: stream ID 3; INTERNAL_ERROR; received from peer"}}, (500, "error")),
        ({"error": {"status": "INTERNAL_ERROR"}}, (500, "internal_error")),
        ({"error": "the model runner is overloaded"}, (503, "error")),
        ({"error": "no such thing"}, (400, "error")),
        ({"type": "error", "code": "rate_limit_exceeded", "message": "m"}, (429, "rate_limit_exceeded")),
        (
            {"type": "error", "error": {"type": "service_unavailable_error", "code": "server_is_overloaded"}},
            (503, "server_is_overloaded"),
        ),
        ({"type": "response.failed", "response": {"error": {"code": "server_error"}}}, (500, "server_error")),
        ({"type": "response.failed", "response": {"error": {"code": "invalid_prompt"}}}, (400, "invalid_prompt")),
        ({"type": "response.failed", "response": None}, (400, "response.failed")),
        ({"object": "chat.completion.chunk", "id": "x"}, (503, "no_choices")),
        ({"object": "chat.completion.chunk", "choices": None}, (503, "no_choices")),
    ],
)
def test_an_error_event_is_read_as_the_status_it_stands_for(said: object, expected: tuple[object, ...]) -> None:
    wanted = Fault(*expected)  # type: ignore[arg-type]
    assert fault(event(said)) == wanted
    named = str(said["type"]) if isinstance(said, dict) and "type" in said else ""
    assert fault(event(said, named)) == wanted
    assert fault(json.dumps(said).replace(".chunk", "").encode(), JSON) == wanted
    assert fault(json.dumps([said]).encode(), JSON) == wanted
    assert fault(json.dumps(said).encode() + b"\n", NDJSON) == wanted
    assert fault(json.dumps(said).encode(), NDJSON) == wanted


@pytest.mark.parametrize("name", FINE)
def test_an_event_without_an_error_lets_the_head_go(name: str) -> None:
    read = reader()
    read.feed(FINE[name][:-1])
    assert not read.first_is_whole
    read.feed(FINE[name][-1:])
    assert read.first_is_whole
    assert read.fault is None


@pytest.mark.parametrize("name", FINE)
def test_an_error_later_in_the_stream_is_found(name: str) -> None:
    assert fault(FINE[name] * 50 + event(anthropic("overloaded_error"), "error")) == (
        529,
        "overloaded_error",
        None,
        False,
    )


@pytest.mark.parametrize("name", FINE)
@pytest.mark.parametrize("together", [True, False])
def test_an_error_behind_an_event_is_told_from_one_at_the_beginning(name: str, together: bool) -> None:
    read = reader()
    error = event(anthropic("overloaded_error"), "error")
    for piece in (FINE[name] + error,) if together else (FINE[name], error):
        read.feed(piece)
    assert read.fault is not None and read.had_begun
    first = reader()
    first.feed(error + FINE[name])
    assert first.fault is not None and not first.had_begun


def test_a_chunk_without_choices_later_in_the_stream_is_no_fault() -> None:
    assert fault(FINE["chat"] + event({"object": "chat.completion.chunk", "id": "x", "error": None})) is None


@pytest.mark.parametrize(
    "preamble",
    [
        b": OPENROUTER PROCESSING\n\n",
        b"event: ping\ndata: {}\n\n",
        b"data:\n\n",
        b"id: 3\nretry: 10\n\n",
        event({"type": "response.created", "response": {"error": None}}, "response.created")
        + event({"type": "response.in_progress"}, "response.in_progress"),
        event({"type": "response.created", "response": {"error": None}}),
    ],
)
def test_events_before_the_provider_began_hold_the_head(preamble: bytes) -> None:
    read = reader()
    read.feed(preamble)
    assert not read.first_is_whole
    read.feed(event({"type": "error", "code": "server_is_overloaded"}, "error"))
    assert read.first_is_whole
    assert read.fault == Fault(503, "server_is_overloaded")


def test_the_first_error_is_the_one_that_counts() -> None:
    assert fault(event(anthropic("overloaded_error")) + event(anthropic("api_error"))) == Fault(529, "overloaded_error")


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_an_error_event_that_the_stream_ends_in_is_found(end: bytes) -> None:
    assert fault(event(anthropic("overloaded_error")).rstrip() + end) == Fault(529, "overloaded_error")


def test_the_message_of_an_error_is_not_kept() -> None:
    for said in ({"type": "error", "error": {"type": "my secret text"}}, {"error": "my secret"}, openai("a\nb", "c d")):
        assert fault_in(said) == Fault(400, "error")


def test_a_json_answer_holds_the_head_until_it_is_whole() -> None:
    read = reader(JSON)
    body = json.dumps({"object": "chat.completion", "choices": [{}]}).encode()
    read.feed(body)
    assert not read.first_is_whole
    read.end()
    assert read.first_is_whole
    assert read.fault is None


def test_the_first_element_of_an_array_lets_the_head_go() -> None:
    read = reader(JSON)
    read.feed(b'[{"candidates": [{}')
    assert not read.first_is_whole
    read.feed(b"]}\r\n")
    assert read.first_is_whole
    read.feed(b',{"error": {"code": 503, "status": "UNAVAILABLE"}}]')
    read.end()
    assert read.fault == Fault(503, "unavailable")


def test_the_first_line_lets_the_head_go() -> None:
    read = reader(NDJSON)
    read.feed(b'\r\n{"message": {}}')
    assert not read.first_is_whole
    read.feed(b"\n")
    assert read.first_is_whole
    read.feed(b'{"error": "INTERNAL_ERROR"}\n')
    read.end()
    assert read.fault == Fault(500, "error")


def test_an_error_far_on_in_the_stream_is_found_before_its_end() -> None:
    read = reader()
    read.feed(FINE["chat"])
    read.feed(event(anthropic("overloaded_error"), "error"))
    for _ in range(1000):
        read.feed(FINE["chat"])
    assert read.fault == Fault(529, "overloaded_error")


@pytest.mark.parametrize("media", [SSE, JSON, NDJSON])
def test_64_kib_let_the_head_go(media: bytes) -> None:
    read = reader(media)
    read.feed(b"data: [" + b"x" * (HELD_AT_MOST - 8))
    assert not read.first_is_whole
    read.feed(b"x")
    assert read.first_is_whole


@pytest.mark.parametrize("media", [SSE, JSON, NDJSON])
def test_nothing_is_kept_of_what_is_too_long(media: bytes) -> None:
    read = reader(media)
    read.feed(b"data: [" + b"x" * MAX_DECODED)
    assert read.first_is_whole
    read.feed(b"\n\n" + event(anthropic("overloaded_error")))
    read.end()
    assert read.fault is None
    assert not read._body
    assert not read._events._parts
    assert not read._events._data


@pytest.mark.parametrize(
    "read",
    [
        reader(status=429),
        reader(status=500),
        reader(b"text/html"),
        reader(b"application/octet-stream"),
        reader(b""),
        reader(encoding=b"snappy"),
        AnswerReader(200, []),
    ],
)
def test_an_answer_that_cannot_be_read_is_not_waited_for(read: AnswerReader) -> None:
    assert read.first_is_whole
    read.feed(event(anthropic("overloaded_error")))
    read.end()
    assert read.fault is None


def test_content_that_cannot_be_decoded_is_not_waited_for() -> None:
    read = reader(encoding=b"gzip")
    read.feed(event(anthropic("overloaded_error")))
    assert read.first_is_whole
    assert read.fault is None


def test_a_copy_is_decoded() -> None:
    data = gzip.compress(event(anthropic("overloaded_error")))
    assert fault(data, encoding=b"gzip") == Fault(529, "overloaded_error")


def test_many_small_pieces_of_a_value_cost_little() -> None:
    read = reader(JSON)
    for _ in range(HELD_AT_MOST // 2):
        read.feed(b"[}")
    assert read._tries <= 64


@pytest.mark.parametrize(
    "value",
    [None, 3, "x", [], {}, [3], {"error": 3}, {"error": []}, {"type": "response.failed"}, {"type": {}}, {"object": {}}],
)
def test_fault_in_takes_any_value(value: object) -> None:
    found = fault_in(value)
    assert found is None or found.status == 400
    read = reader(JSON)
    read.feed(json.dumps(value).encode())
    read.end()
    assert read.first_is_whole


def google(*details: object) -> dict[str, object]:
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": list(details)}}


def test_googles_details_say_how_long_and_whether_a_quota_is_gone() -> None:
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
    day = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}
    minute = {"violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]}
    assert fault_in(google(retry, minute)) == Fault(429, "resource_exhausted", 34.5)
    assert fault_in(google(retry, day)) == Fault(429, "resource_exhausted", 34.5, True)
    spent = fault_in(google({"reason": "QUOTA_EXHAUSTED"}))
    assert spent is not None
    assert spent.quota


def test_a_plans_limit_is_a_quota_that_says_when_it_is_reset() -> None:
    said = {"error": {"type": "usage_limit_reached", "plan_type": "plus", "resets_in_seconds": 4000}}
    assert fault_in(said) == Fault(429, "usage_limit_reached", 4000.0, True)


@pytest.mark.parametrize("delay", ["-1s", "nan", "inf", "xs", "", True, [], None, "9" * 400 + "s"])
def test_a_delay_that_cannot_be_meant_is_none_or_bounded(delay: object) -> None:
    found = fault_in(google({"retryDelay": delay}))
    assert found is not None
    assert found.retry_after is None or 0 <= found.retry_after < 1e9


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "type", "code", "details", "response", "violations"]), inner)
    ),
    max_leaves=12,
)


@given(json_values)
def test_fault_in_never_fails(value: object) -> None:
    fault_in(value)


bodies = st.one_of(
    st.tuples(
        st.just(SSE),
        st.lists(
            st.sampled_from(
                [
                    *FINE.values(),
                    event(anthropic("overloaded_error"), "error"),
                    event({"object": "chat.completion.chunk"}),
                    event({"type": "response.in_progress"}, "response.in_progress"),
                    b": comment\r\r",
                    b"\xef\xbb\xbf",
                    b"data: {\r\ndata: }\r\n\r\n",
                ]
            ),
            max_size=6,
        ).map(b"".join),
    ),
    st.tuples(st.sampled_from([JSON, NDJSON]), st.lists(json_values, max_size=4).map(lambda v: json.dumps(v).encode())),
    st.tuples(
        st.just(NDJSON), st.lists(json_values, max_size=4).map(lambda v: b"\n".join(json.dumps(x).encode() for x in v))
    ),
    st.tuples(st.sampled_from([SSE, JSON, NDJSON]), st.binary(max_size=200)),
)


@given(bodies, st.lists(st.integers(0, 2000), max_size=30))
@example((b"application/json", b"[[{}]]"), [4])
def test_splits_never_change_what_is_found(case: tuple[bytes, bytes], cuts: list[int]) -> None:
    media, body = case
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    read = reader(media)
    for start, end in pairwise(edges):
        read.feed(body[start:end])
    read.end()
    whole = reader(media)
    whole.feed(body)
    whole.end()
    assert (read.fault, read.had_begun) == (whole.fault, whole.had_begun)


def by_the_standard(stream: bytes) -> list[Event]:
    """The algorithm of the HTML standard, on the whole stream at once."""
    events, name, data = [], b"", b""
    lines = re.split(rb"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf"))
    for line in lines[:-1]:  # what no line end follows is dropped
        if not line:
            if data:
                events.append(Event(name, data[:-1]))
            name = data = b""
            continue
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"event":
            name = value
        elif field == b"data":
            data += value + b"\n"
    return events


chunks = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"data: x", b"data", b"data:  y\r", b"event: e\n", b":", b"x", b"\xef\xbb\xbf"]
)


@given(st.lists(chunks, max_size=25))
def test_event_stream_follows_the_standard(stream: list[bytes]) -> None:
    found = EventStream()
    assert [each for chunk in stream for each in found.feed(chunk)] == by_the_standard(b"".join(stream))


@given(st.lists(chunks, max_size=25).map(b"".join))
def test_event_stream_takes_one_byte_at_a_time(stream: bytes) -> None:
    found = EventStream()
    assert [each for at in range(len(stream)) for each in found.feed(stream[at : at + 1])] == by_the_standard(stream)


def test_a_byte_order_mark_is_dropped_at_the_start_alone() -> None:
    mark = b"\xef\xbb\xbf"
    assert EventStream().feed(mark + b"data: x\n\n") == [Event(b"", b"x")]
    assert EventStream().feed(b"\n" + mark + b"data: x\n\n") == []


def test_a_line_end_in_two_pieces_is_one() -> None:
    found = EventStream()
    events = [found.feed(chunk) for chunk in (b"data: x\r", b"\n", b"\n", b"data: y\n\n")]
    assert events == [[], [], [Event(b"", b"x")], [Event(b"", b"y")]]


def test_an_event_is_there_with_the_last_byte_of_its_blank_line() -> None:
    for end in (b"\n\n", b"\r\r", b"\r\n\r"):
        found = EventStream()
        assert found.feed(b"data: x" + end[:-1]) == []
        assert found.feed(end[-1:]) == [Event(b"", b"x")]


@pytest.mark.parametrize(
    ("pieces", "done"),
    [
        ((b"data: {}\n\n", b"data: [DONE]\n\n"), True),
        ((b"data: {}\n\ndata: [DONE]\n\n",), True),
        ((b"data: {}\n\ndata:[DO", b"NE]\r\n\r\n"), True),
        ((b"data: {}\n\ndata: [DONE]",), True),
        ((b"data: {}\n\n" * 5000, b"data: [DONE]\n\n"), True),
        ((b"data: {}\n\n",), False),
        ((b"data: [DONE]\n\n", b"data: {}\n\n"), False),
        ((b'data: {"text": "data: [DONE]"}\n\n',), False),
    ],
    ids=range(8),
)
def test_a_stream_is_done_when_its_last_event_says_so(pieces: tuple[bytes, ...], done: bool) -> None:
    reader = AnswerReader(200, [(b"content-type", b"text/event-stream")])
    for piece in pieces:
        reader.feed(piece)
    reader.end()
    assert reader.is_done is done
