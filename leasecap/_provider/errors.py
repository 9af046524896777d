"""Reads what a provider says in an error object: the status it would have had, how long to wait, what is used up.

Only the words that name an error are kept of it, never its message: that may repeat what was asked.
"""

from __future__ import annotations

import re

from leasecap._durations import LONGEST
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Fault(NamedTuple):
    """An error as its provider words it.

    :ivar status: which HTTP status says the same; 400 for what says nothing about load.
    :ivar kind: the provider's own word for it.
    :ivar retry_after: seconds; None: it doesn't say.
    :ivar quota: something is used up, and waiting a minute doesn't help.
    """

    status: int
    kind: str
    retry_after: float | None = None
    quota: bool = False


_QUOTA = frozenset(
    {
        "insufficient_quota",
        "usage_limit_reached",  # ChatGPT's plans
        "usage_not_included",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "exceeded_current_quota_error",
        "quota_exhausted",
    }
)

_STATUS = {
    # Anthropic
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "billing_error": 402,
    # OpenAI
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "internal_server_error": 500,
    "server_is_overloaded": 503,
    "service_unavailable_error": 503,
    "slow_down": 503,
    # Google's RPC codes
    "resource_exhausted": 429,
    "internal": 500,
    "unavailable": 503,
    "deadline_exceeded": 504,
    # HTTP/2, as proxies pass it on
    "internal_error": 500,
    # The request's own: whatever the text says
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    **dict.fromkeys(_QUOTA - {"billing_error"}, 429),
}

_TEXTS = {"internal_error": 500, "overloaded": 503, "server busy": 503}
"""In an error that no known word names, as Ollama's and those of proxies."""

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,59}")


def fault_in(value: object) -> Fault | None:
    """The error that ``value``, a parsed answer or event, is; None if it is none."""
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return None
    error, kind = value.get("error"), value.get("type")
    if kind == "response.failed":
        response = value.get("response")
        error = (response.get("error") if isinstance(response, dict) else None) or {"code": kind}
    elif kind == "error" and not error:  # the Responses API has no object round it
        error = {"code": value.get("code"), "message": value.get("message")}
    if not error or not isinstance(error, (dict, str)):
        return None
    return _text_only(error) if isinstance(error, str) else _classified(error)


def _classified(error: dict[str, object]) -> Fault:
    words = [word for word in _words(error) if word]
    known = next((word for word in words if word in _STATUS), None)
    status = _number(error.get("code")) or _STATUS.get(known or "")
    return Fault(
        status or _text_only(error.get("message")).status,
        known or (words[0] if words else "error"),
        _retry_after(error),
        any(word in _QUOTA for word in words) or any("PerDay" in each for each in _quota_ids(error)),
    )


def _number(code: object) -> int | None:
    if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdigit():
        code = int(code)
    return code if isinstance(code, int) and 400 <= code <= 599 else None


def _words(error: dict[str, object]) -> Iterator[str]:
    """How the error is called, in lower case, the most exact word first."""
    for each in (error, *_details(error)):
        for key in ("reason", "code", "type", "status"):
            word = each.get(key)
            if isinstance(word, str) and _WORD.fullmatch(word):
                yield word.lower()


def _text_only(text: object) -> Fault:
    lower = text[:1000].lower() if isinstance(text, str) else ""
    return Fault(next((status for part, status in _TEXTS.items() if part in lower), 400), "error")


def _details(error: dict[str, object]) -> list[dict[str, object]]:
    """What Google adds: how long to wait, which quota it was."""
    details = error.get("details")
    return [each for each in details[:20] if isinstance(each, dict)] if isinstance(details, list) else []


def _retry_after(error: dict[str, object]) -> float | None:
    for value in (error.get("resets_in_seconds"), *(each.get("retryDelay") for each in _details(error))):
        text = value.removesuffix("s") if isinstance(value, str) else value
        if text is None or isinstance(text, bool) or not isinstance(text, (str, int, float)):
            continue
        try:
            seconds = float(text)
        except (ValueError, OverflowError):
            continue
        if seconds >= 0:
            return min(seconds, LONGEST)
    return None


def _quota_ids(error: dict[str, object]) -> Iterator[str]:
    for detail in _details(error):
        violations = detail.get("violations")
        for each in violations[:20] if isinstance(violations, list) else ():
            if isinstance(each, dict) and isinstance(each.get("quotaId"), str):
                yield each["quotaId"]
