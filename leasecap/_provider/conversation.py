"""Which prompt a request works on.

An agent sends one prompt's work as many requests: each has the whole conversation in it, and at its end what tools have
said; or it names the answer that it goes on from, which the provider keeps. Read is a copy of what Anthropic, OpenAI,
Gemini and Ollama are sent. Nothing here fails.
"""

from __future__ import annotations

from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_REMINDER = "<system-reminder>"
"""So begins what Claude Code adds to messages of the user, and not in each request the same."""

_RESULTS = frozenset({"tool_result", "function_call_output", "custom_tool_call_output", "mcp_tool_result"})
_ANSWERERS = frozenset({"assistant", "model", "tool", "function"})
_LONGEST_ID = 200


class Prompt(NamedTuple):
    """What a request says of the prompt that it works on.

    :ivar texts: of the conversation's first prompt and of its last one, that this request works on; (): it has none in
        it.
    :ivar begins: nothing was said since: it is the prompt's first request.
    :ivar follows: names what the provider keeps of the conversation, where the request goes on from that.
    """

    texts: tuple[str, ...] = ()
    begins: bool = False
    follows: str | None = None


NO_PROMPT = Prompt()


def read_prompt(said: object) -> Prompt:
    """The prompt of a request whose body is the JSON value ``said``."""
    if not isinstance(said, dict):
        return NO_PROMPT
    follows = _id(said.get("previous_response_id")) or _id(said.get("conversation"))
    for key in ("messages", "input", "contents", "prompt"):
        messages = said.get(key)
        if isinstance(messages, str):
            return Prompt((messages,), True, follows)
        if isinstance(messages, list):
            return _in(messages, follows)
    return Prompt(follows=follows)


def _in(messages: list[Any], follows: str | None) -> Prompt:
    begins = True
    for last in reversed(messages):
        text = _prompt(last)
        if text is not None:
            first = next(found for found in map(_prompt, messages) if found is not None)
            return Prompt((first, text), begins, follows)
        begins = begins and not _answers(last)
    return Prompt(follows=follows)


def _answers(message: object) -> bool:
    """Whether a model or a tool has said it. OpenAI's calls and thoughts have no role; nor has what Codex adds."""
    if not isinstance(message, dict):
        return False
    kind, role = message.get("type"), message.get("role")
    called = isinstance(kind, str) and (kind == "reasoning" or kind.endswith(("_call", "_call_output")))
    return called or (isinstance(role, str) and role in _ANSWERERS)


def _prompt(message: object) -> str | None:
    """The text of a message, if it is a person's; what tools have said comes in messages of the user too."""
    if not isinstance(message, dict) or message.get("role") != "user":
        return None
    content = message.get("content", message.get("parts"))
    if isinstance(content, str):
        return None if content.startswith(_REMINDER) else content
    if not isinstance(content, list):
        return None
    texts: list[str] = []
    for block in content:
        if isinstance(block, str):
            texts.append(block)
            continue
        if not isinstance(block, dict):
            continue
        kind = block.get("type")
        answers = isinstance(kind, str) and kind in _RESULTS
        if answers or not block.keys().isdisjoint(("functionResponse", "function_response")):
            return None
        texts += _texts(block)
    return "\n".join(texts) if texts else None


def _texts(block: dict[str, Any]) -> Iterator[str]:
    text = block.get("text")
    if not isinstance(text, str):
        yield f"({block.get('type')!s:.40})"  # a picture is a prompt as well; marks such as cache_control don't count
    elif not text.startswith(_REMINDER):
        yield text


def _id(value: object) -> str | None:
    if isinstance(value, dict):
        value = value.get("id")
    return value[:_LONGEST_ID] if isinstance(value, str) and value else None


def response_id(value: object) -> str | None:
    """The name under which the provider keeps an answer, if ``value`` is one of its events, or the whole of it."""
    if not isinstance(value, dict):
        return None
    inner = value.get("response")
    if isinstance(inner, dict):
        value = inner
    return _id(value.get("id")) if value.get("object") == "response" else None
