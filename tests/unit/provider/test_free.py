from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap._provider.free import is_free, is_known

FREE = [
    "/v1/messages/count_tokens?beta=true",
    "/messages/count_tokens",
    "/v1/responses/input_tokens",
    "/v1/files",
    "/v1/files/file-1/content",
    "/v1/batches/b/cancel",
    "/v1/messages/batches",
    "/v1beta/models/gemini-2.5-flash:countTokens",
    "/v1beta/models/gemini-2.5-flash:batchGenerateContent",
    "/upload/v1beta/files",
    "/v1internal:loadCodeAssist",
    "/api/event_logging/v2/batch",
    "/v1/traces/ingest",
    "/api/pull",
    "/api/push",
    "/api/show",
    "/api/blobs/sha256:00",
    "/backend-api/codex/analytics-events/events",
    "//v1///files//",
    "/v1/mess%61ges/count_tokens",
]

METERED = [
    "/v1/messages?beta=true",
    "/v1/messages",
    "/v1/chat/completions",
    "/chat/completions",
    "/v1/responses",
    "/responses/compact",
    "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
    "/v1beta/models/gemini-2.5-flash:generateContent",
    "/v1internal:streamGenerateContent",
    "/api/chat",
    "/api/generate",
    "/api/create",
    "/v1/embeddings",
    "/backend-api/codex/responses",
    "/api/v1/chat/completions",
]

UNKNOWN = [
    "",
    "/",
    "*",
    "/v2/generate-everything",
    "/pull",
    "/v1/pull",
    "/v1/files/../messages",
    "/v1/files/%2e%2e/messages",
    "/v1/files/%252e%252e/messages",
    "/v1/files\\..\\messages",
    "/v1/files;/messages",
    "/v1/files/\xe9",
    "/v1/chat/completions/messages/count_tokens",
    "/v1/models/x:generateContent:countTokens/y",
]


@pytest.mark.parametrize("target", FREE)
def test_free_endpoints_take_no_slot(target: str) -> None:
    assert is_free(b"POST", target.encode("latin-1"))
    assert is_known(target.encode("latin-1"))


@pytest.mark.parametrize("target", METERED)
def test_metered_endpoints_are_known(target: str) -> None:
    assert not is_free(b"POST", target.encode())
    assert is_known(target.encode())


@pytest.mark.parametrize("target", UNKNOWN)
def test_unknown_endpoints_are_metered(target: str) -> None:
    assert not is_free(b"POST", target.encode("latin-1"))
    assert not is_known(target.encode("latin-1"))


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
def test_reading_is_free_everywhere(method: bytes) -> None:
    assert is_free(method, b"/v2/anything")


@pytest.mark.parametrize("method", [b"get", b"PUT", b"PATCH", b"DELETE", b"X"])
def test_other_methods_are_metered_unless_known(method: bytes) -> None:
    assert not is_free(method, b"/v2/anything")
    assert is_free(method, b"/v1/files/file-1")


def test_the_base_path_of_an_upstream_is_left_out() -> None:
    assert not is_known(b"/team/llm/v1/messages")
    assert is_known(b"/team/llm/v1/messages", "/team/llm")
    assert is_free(b"POST", b"/team/llm/v1/messages/count_tokens", "/team/llm/")
    assert not is_free(b"POST", b"/files/v1/messages", "/files/v1")


@given(st.binary(max_size=60))
def test_any_bytes_get_an_answer(target: bytes) -> None:
    assert is_free(b"GET", target)
    assert is_known(target) or not is_free(b"POST", target)
