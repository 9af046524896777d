"""Answers in the shapes of Anthropic's, OpenAI's, Google's and Ollama's interfaces, enough for their own clients."""

from __future__ import annotations

import json
import re

from provider_steps import reply, stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from provider_steps import Request, Step

WORDS = ("One ", "cap ", "for ", "all.")
MODEL = "fake-1"
OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def answer(request: Request) -> Step:
    """What the interface that ``request`` names would say."""
    path = request.target.partition(b"?")[0].decode("latin-1")
    asked = _asked(request)
    if request.method == b"HEAD":
        return (reply(200)[0],)
    if request.values(b"upgrade"):
        return reply(426)
    if path.endswith("/count_tokens"):
        return document({"input_tokens": 5})
    if path.endswith("/models"):
        return document({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "us"}]})
    if request.method != b"POST":
        return document({"error": {"type": "not_found_error", "message": "nothing here"}}, status=404)
    streams = asked.get("stream", False) is True
    for suffix, whole, events in (
        ("/messages", _message, message_events),
        ("/chat/completions", _completion, completion_events),
        ("/responses", _response, response_events),
    ):
        if path.endswith(suffix):
            return stream(*events()) if streams else document(whole())
    if found := re.search(r":(stream)?generateContent$", path, re.IGNORECASE):
        return stream(_data(_content())) if found[1] else document(_content())
    if path in ("/api/chat", "/api/generate"):
        return _ollama(asked.get("stream", True) is True)
    return document({})


def _asked(request: Request) -> dict[str, Any]:
    """What its body says; a body that can't be read is Codex's, which streams."""
    try:
        found = json.loads(bytes(request.body) or b"{}")
    except ValueError:
        return {"stream": True}
    return found if isinstance(found, dict) else {}


def document(content: dict[str, Any], status: int = 200) -> Step:
    return reply(status, json.dumps(content).encode())


def _data(content: dict[str, Any], event: str = "") -> bytes:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {json.dumps(content)}\n\n".encode()


def _typed(kind: str, **more: Any) -> bytes:
    return _data({"type": kind, **more}, kind)


def _message(*, content: bool = True) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": "".join(WORDS)}] if content else [],
        "stop_reason": "end_turn" if content else None,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": len(WORDS)},
    }


def message_events(words: tuple[str, ...] = WORDS) -> list[bytes]:
    """Of Anthropic's messages."""
    return [
        _typed("message_start", message=_message(content=False)),
        _typed("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        PING,
        *(_typed("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in words),
        _typed("content_block_stop", index=0),
        _typed(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"output_tokens": len(words)},
        ),
        _typed("message_stop"),
    ]


def _completion(kind: str = "chat.completion", **choice: Any) -> dict[str, Any]:
    choice = choice or {"message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, **choice}],
        "usage": {"prompt_tokens": 5, "completion_tokens": len(WORDS), "total_tokens": 5 + len(WORDS)},
    }


def completion_events(words: tuple[str, ...] = WORDS) -> list[bytes]:
    """Of OpenAI's chat completions."""
    kind = "chat.completion.chunk"
    return [
        _data(_completion(kind, delta={"role": "assistant", "content": ""}, finish_reason=None)),
        *(_data(_completion(kind, delta={"content": word}, finish_reason=None)) for word in words),
        _data(_completion(kind, delta={}, finish_reason="stop")),
        b"data: [DONE]\n\n",
    ]


def _response(status: str = "completed") -> dict[str, Any]:
    done = status == "completed"
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": len(WORDS),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 5 + len(WORDS),
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "model": MODEL,
        "output": [_item()] if done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage if done else None,
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _item(*, done: bool = True) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "status": "completed" if done else "in_progress",
        "content": [_part("".join(WORDS))] if done else [],
    }


def response_events(words: tuple[str, ...] = WORDS) -> list[bytes]:
    """Of OpenAI's responses."""
    text = "".join(words)
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    events: list[tuple[str, dict[str, Any]]] = [
        ("created", {"response": _response("in_progress")}),
        ("output_item.added", {"output_index": 0, "item": _item(done=False)}),
        ("content_part.added", {**place, "part": _part("")}),
        *(("output_text.delta", {**place, "delta": word, "logprobs": []}) for word in words),
        ("output_text.done", {**place, "text": text, "logprobs": []}),
        ("content_part.done", {**place, "part": _part(text)}),
        ("output_item.done", {"output_index": 0, "item": _item()}),
        ("completed", {"response": _response()}),
    ]
    return [_typed(f"response.{kind}", sequence_number=number, **more) for number, (kind, more) in enumerate(events)]


def _content() -> dict[str, Any]:
    return {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "".join(WORDS)}]}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 4, "totalTokenCount": 9},
        "modelVersion": MODEL,
    }


def _ollama(streams: bool) -> Step:
    said = {
        "model": MODEL,
        "created_at": "2026-01-01T00:00:00Z",
        "message": {"role": "assistant", "content": "".join(WORDS)},
    }
    lines = [json.dumps({**said, "done": done}).encode() + b"\n" for done in ((False, True) if streams else (True,))]
    return reply(200, *lines, headers=(b"Content-Type: application/x-ndjson",))
