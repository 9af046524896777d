"""The gate's own answers."""

from __future__ import annotations

import json

import pytest

from leasecap._gate.errors import MARK, answer
from leasecap._provider.absorb import Refusal, refusal

STATUSES = (400, 403, 404, 413, 421, 426, 429, 431, 502, 503, 504)
PROVIDERS = ("anthropic", "openai", "gemini", "ollama", "openrouter", "my own")


def said(
    status: int, provider: str, message: str = "no slot came", retry_after: int | None = None
) -> dict[str, object]:
    found = json.loads(answer(status, message, provider, retry_after)[1])
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", STATUSES)
def test_each_answer_says_where_it_comes_from(status: int, provider: str) -> None:
    headers, body = answer(status, "no slot came", provider)
    assert MARK in headers
    assert (b"content-length", str(len(body)).encode()) in headers
    assert (b"content-type", b"application/json") in headers
    assert b"leasecap: no slot came" in body
    assert all(name == name.lower() for name, _ in headers)


def test_anthropic_gets_its_own_shape() -> None:
    assert said(429, "anthropic") == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "leasecap: no slot came"},
    }
    assert said(431, "anthropic")["error"] == {
        "type": "invalid_request_error",
        "message": "leasecap: no slot came",
    }


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", "bad_request"),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (502, "server_error", "bad_gateway"),
    ],
)
def test_openai_and_all_others_get_openais_shape(status: int, kind: str, code: str) -> None:
    for provider in ("openai", "openrouter", "my own"):
        assert said(status, provider) == {
            "error": {"message": "leasecap: no slot came", "type": kind, "param": None, "code": code}
        }


def test_gemini_gets_its_delay_in_the_body() -> None:
    error = {"code": 429, "message": "leasecap: no slot came", "status": "RESOURCE_EXHAUSTED"}
    assert said(429, "gemini") == {"error": error}
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
    assert said(429, "gemini", retry_after=7) == {"error": {**error, "details": [delay]}}


def test_ollama_gets_a_text() -> None:
    assert said(503, "ollama") == {"error": "leasecap: no slot came"}


def test_the_name_stands_once_before_a_message() -> None:
    assert said(503, "ollama", "leasecap: no slot came") == {"error": "leasecap: no slot came"}


def test_a_message_is_printable_and_bounded() -> None:
    text = said(503, "ollama", "\x1b[31m\r\n" + "x" * 5000)["error"]
    assert isinstance(text, str)
    assert text.isprintable()
    assert len(text) == 500


def test_a_426_names_what_would_do() -> None:
    headers, _ = answer(426, "websockets are not carried", "openai")
    assert (b"upgrade", b"HTTP/1.1") in headers
    assert (b"connection", b"upgrade") in headers


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_gate_before_this_one_reads_a_refusal_and_no_quota(provider: str) -> None:
    headers, body = answer(429, "no slot came", provider, 7)
    assert refusal(429, headers, body, 0.0) == Refusal(429, 7.0)
