"""Which requests cost a provider no generation, and so take no slot. Pure.

What is not known is metered: a new endpoint must not run uncapped, and a slot too many costs only a wait.
"""

from __future__ import annotations

from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_FREE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})

# What a path may begin with before the endpoint: versions, and the parts of base URLs that providers publish.
_BEGINNINGS = (
    "api",
    "api/v1",
    "api/anthropic/v1",
    "api/paas/v4",
    "api/coding/paas/v4",
    "backend-api/codex",
    "beta",
    "openai/v1",
    "v1",
    "v1alpha",
    "v1beta",
    "v1internal",
)


class _Endpoints:
    """Some of them, by patterns. "*" is any one segment, or the beginning of one that ends as written; "**" at the end
    is any number of segments.
    """

    def __init__(self, *patterns: str) -> None:
        split = [tuple(pattern.split("/")) for pattern in patterns]
        self._exact = {pattern for pattern in split if not any("*" in part for part in pattern)}
        self._others = [pattern for pattern in split if pattern not in self._exact]

    def match(self, endpoints: Sequence[Sequence[str]]) -> bool:
        """Whether one of these endpoints, each in segments, is among them."""
        return any(tuple(endpoint) in self._exact for endpoint in endpoints) or any(
            _matches(endpoint, pattern) for endpoint in endpoints for pattern in self._others
        )


def _matches(segments: Sequence[str], pattern: Sequence[str]) -> bool:
    if pattern[-1] == "**":
        pattern = pattern[:-1]
        segments = segments[: len(pattern)]
    return len(segments) == len(pattern) and all(map(_fits, segments, pattern))


def _fits(segment: str, pattern: str) -> bool:
    if pattern.startswith("*"):
        return segment.endswith(pattern[1:]) and (":" in pattern or ":" not in segment)
    return segment == pattern


_FREE = _Endpoints(
    # counting
    "messages/count_tokens",
    "responses/input_tokens",
    "models/*:countTokens",
    "tunedModels/*:countTokens",
    "v1internal:countTokens",
    # what there is, and what is kept
    "models",
    "files/**",
    "upload/v1beta/files/**",
    "uploads/**",
    "responses/*/cancel",
    # batches run later, in a budget of their own
    "batches/**",
    "messages/batches/**",
    "models/*:batchGenerateContent",
    # telemetry, logins and feedback of the agents
    "analytics-events/events",
    "api/claude_cli_feedback",
    "api/claude_code/**",
    "api/event_logging/**",
    "api/oauth/**",
    "v1/logs",
    "v1/metrics",
    "v1/oauth/**",
    "v1/traces/**",
    "v1internal:fetchAdminControls",
    "v1internal:listExperiments",
    "v1internal:loadCodeAssist",
    "v1internal:onboardUser",
    "v1internal:recordClientMetrics",
    "v1internal:recordCodeAssistMetrics",
    "v1internal:retrieveUserQuota",
    "v1internal:setCodeAssistGlobalUserSetting",
    # Ollama's store of models
    "api/blobs/**",
    "api/copy",
    "api/delete",
    "api/me",
    "api/pull",
    "api/push",
    "api/show",
    "api/signout",
)

_METERED = _Endpoints(
    "api/chat",
    "api/create",
    "api/embed",
    "api/generate",
    "audio/*",
    "chat/completions",
    "complete",
    "completions",
    "embeddings",
    "fim/completions",
    "images/*",
    "interactions",
    "messages",
    "models/*:batchEmbedContents",
    "models/*:embedContent",
    "models/*:generateContent",
    "models/*:predict",
    "models/*:streamGenerateContent",
    "moderations",
    "ocr",
    "rerank",
    "responses",
    "responses/compact",
    "v1internal:generateContent",
    "v1internal:streamGenerateContent",
)


def is_free(method: bytes, target: bytes, base_path: str = "") -> bool:
    """Whether a request costs no generation.

    :param target: as it came, without the gate's own part.
    :param base_path: what the upstream's own base URL begins its paths with.
    """
    return method in _FREE_METHODS or _looked_up(_path(target), base_path)[0]


def is_known(target: bytes, base_path: str = "") -> bool:
    """Whether the endpoint is known, as free or as metered; a POST to another one is worth a line in the log."""
    return _looked_up(_path(target), base_path)[1]


def _path(target: bytes) -> bytes:
    return target.partition(b"?")[0].partition(b"#")[0]


@lru_cache(maxsize=64)  # a client asks for few, again and again
def _looked_up(path: bytes, base_path: str) -> tuple[bool, bool]:
    """Whether it is free, and whether it is known."""
    endpoints = _endpoints(path, base_path)
    free = _FREE.match(endpoints)
    return free, free or _METERED.match(endpoints)


def _endpoints(path: bytes, base_path: str) -> list[Sequence[str]]:
    """What the path may mean, in segments: with and without each beginning that it has. Empty if that can't be told."""
    from urllib.parse import unquote_to_bytes

    try:
        decoded = unquote_to_bytes(path).decode("ascii")
    except UnicodeDecodeError:
        return []
    segments = [segment for segment in decoded.split("/") if segment]
    # A server that resolves dots, decodes twice or turns backslashes round would serve another path than we read.
    if any(segment in (".", "..") or set(segment) & set("%\\;") or not segment.isprintable() for segment in segments):
        return []
    base = [segment for segment in base_path.split("/") if segment]
    if segments[: len(base)] == base:
        segments = segments[len(base) :]
    ways: list[Sequence[str]] = [segments]
    for beginning in _BEGINNINGS:
        parts = beginning.split("/")
        if segments[: len(parts)] == parts:
            ways.append(segments[len(parts) :])
    return ways
