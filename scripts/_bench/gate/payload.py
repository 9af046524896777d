"""What the clients of the gate's workloads send and get: as much as coding agents send, and a long streamed answer."""

from __future__ import annotations

import json
from typing import Any

BODY_SIZE = 76_000  # bytes: what Claude Code sends first
EVENTS = 450
MODEL = "demo"
PLAIN, FREE = "/v1/chat/completions", "/v1/messages/count_tokens"


def question(*, stream: bool) -> bytes:
    """A request's body: tools and messages, in as many small pieces as agents send."""
    asked: dict[str, Any] = {"model": MODEL, "stream": stream, "messages": [], "tools": []}
    for number in range(20):
        properties = {f"argument_{each}": {"type": "string", "description": "What it is for."} for each in range(6)}
        schema = {"type": "object", "properties": properties, "required": ["argument_0"]}
        tool = {"name": f"tool_{number}", "description": 'Does "something"\nwith care.', "parameters": schema}
        asked["tools"].append({"type": "function", "function": tool})
    text = 'A line of a file,\twith "quotes" in it.\n' * 30
    while len(json.dumps(asked)) < BODY_SIZE:
        asked["messages"].append({"role": "user" if len(asked["messages"]) % 2 == 0 else "assistant", "content": text})
    return json.dumps(asked).encode()


def request(port: int, path: str, body: bytes, token: str = "") -> bytes:
    """Its bytes."""
    head = (
        f"POST {token}{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer nobody\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def as_json(said: object) -> bytes:
    """An answer's bytes."""
    body = json.dumps(said).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _completion(kind: str, **choice: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, **choice}],
    }


def _answer() -> bytes:
    message = {"role": "assistant", "content": "One cap holds for all of us. " * 20}
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    said = {**_completion("chat.completion", message=message, finish_reason="stop"), "usage": usage}
    return as_json(said)


def _events() -> list[bytes]:
    chunks = [
        _completion("chat.completion.chunk", delta={"role": "assistant", "content": "One "}, finish_reason=None),
    ] * (EVENTS - 2)
    last = _completion("chat.completion.chunk", delta={}, finish_reason="stop")
    return [*(b"data: %b\n\n" % json.dumps(each).encode() for each in [*chunks, last]), b"data: [DONE]\n\n"]


WHOLE = _answer()
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = [b"%x\r\n%b\r\n" % (len(event), event) for event in _events()]
LAST_CHUNK = b"0\r\n\r\n"
