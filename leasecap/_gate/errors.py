"""The gate's own answers: errors in the shape that a provider's clients know how to read."""

from __future__ import annotations

import json

from leasecap._redact import printable

MARK = (b"x-leasecap", b"1")
"""Stands in each answer that is the gate's own, so that nobody takes it for the provider's."""

_LONGEST_MESSAGE = 500  # characters

_ANTHROPIC = {
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
}
_OPENAI = {
    403: "permission_denied",
    404: "not_found",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    502: "bad_gateway",
    503: "service_unavailable",
    504: "gateway_timeout",
}
_GEMINI = {
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def answer(
    status: int, message: str, provider: str, retry_after: int | None = None
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """The headers and the body of an answer that comes from the gate itself.

    :param message: for people; nothing of the request's headers or body.
    :param provider: an id of the table of providers. OpenAI's shape is what all others have taken over.
    :param retry_after: seconds.
    """
    line = " ".join(message.removeprefix("leasecap:").split())
    text = printable(f"leasecap: {line}", _LONGEST_MESSAGE)
    shape = _SHAPES.get(provider, _openai)
    body = json.dumps(shape(status, text, retry_after)).encode("ascii")
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), MARK]
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    if status == 426:  # RFC 9110, 15.5.22: what would do
        headers += [(b"upgrade", b"HTTP/1.1"), (b"connection", b"upgrade")]
    return headers, body


def _anthropic(status: int, text: str, _: int | None) -> dict[str, object]:
    return {"type": "error", "error": {"type": _ANTHROPIC.get(status, "invalid_request_error"), "message": text}}


def _openai(status: int, text: str, _: int | None) -> dict[str, object]:
    kind = "invalid_request_error" if status < 500 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    return {"error": {"message": text, "type": kind, "param": None, "code": _OPENAI.get(status, "bad_request")}}


def _gemini(status: int, text: str, retry_after: int | None) -> dict[str, object]:
    error: dict[str, object] = {"code": status, "message": text, "status": _GEMINI.get(status, "INVALID_ARGUMENT")}
    if retry_after is not None:  # its clients read this and not the header
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_after}s"}]
    return {"error": error}


def _ollama(_: int, text: str, __: int | None) -> dict[str, object]:
    return {"error": text}


_SHAPES = {"anthropic": _anthropic, "gemini": _gemini, "ollama": _ollama}
