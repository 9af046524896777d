"""Reads a copy of an answer for an error that its status doesn't tell: providers say 200 and fail in the stream."""

from __future__ import annotations

import json

from leasecap._provider.conversation import response_id
from leasecap._provider.errors import Fault, fault_in
from leasecap._provider.reading import decoder, header, is_json, media_type, parse_json
from leasecap._provider.sse import Event, EventStream, end_of_events, end_of_first

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from leasecap._provider.reading import Headers

HELD_AT_MOST = 1 << 16
"""Bytes of a body after which the head may go out, whatever they are."""

_LINES = frozenset({b"application/x-ndjson", b"application/ndjson", b"application/jsonl", b"application/x-jsonlines"})

_PREAMBLE = frozenset({"ping", "response.created", "response.queued", "response.in_progress"})
"""Events that come before the provider has begun. OpenAI's overload follows them."""

_NO_CHOICES = Fault(503, "no_choices")
_DONE = (b"data: [DONE]", b"data:[DONE]")
_COMPLETIONS = frozenset({"chat.completion", "chat.completion.chunk"})

_TOGETHER = 1 << 14
"""Bytes that are read in one go once nobody waits for what they say."""

_MOST_TRIES = 64
"""How often the first element of an array is looked for: each time all that came is read again."""


class AnswerReader:
    """Reads one answer. It never fails; what it can't read has no fault and needn't be waited for.

    :ivar first_is_whole: the first event was seen, or for an answer that has none, the whole of it; or it isn't worth
        waiting for. Events that only say that the request has come don't count. The head may go out from then on.
    :ivar fault: the first error that the answer holds.
    :ivar had_begun: whether an event of the answer itself came before the fault.
    :ivar is_done: a stream of OpenAI's has said that nothing else comes, in its last event.
    """

    def __init__(self, status: int, headers: Headers, on_name: Callable[[str], object] | None = None) -> None:
        """:param on_name: told the name under which the provider keeps the answer, if it says one."""
        self.fault: Fault | None = None
        self.had_begun = False
        self.is_done = False
        self._on_name = on_name
        self._media = media_type(header(headers, b"content-type"))
        self._events = EventStream()
        self._begun: list[bytes] = []  # of an event that isn't whole
        self._body: list[bytes] = []  # of an answer that is one JSON value
        self._decoder = decoder(header(headers, b"content-encoding"))
        self._came = self._tries = 0
        self._unread: list[bytes] = []
        self._unread_size = 0
        self._seen = False  # the first event, or all
        self._reads = (
            200 <= status <= 299
            and self._decoder is not None
            and (self._media == b"text/event-stream" or self._media in _LINES or is_json(self._media))
        )
        self.first_is_whole = not self._reads

    def feed(self, chunk: bytes) -> None:
        """Read the next piece of the body, as it came."""
        if not self._reads or self._decoder is None:
            return
        if self._seen:  # the head is out: nothing but an error is looked for any more
            self._unread.append(chunk)
            self._unread_size += len(chunk)
            if self._unread_size < _TOGETHER and b"error" not in chunk:
                return
            chunk = self._take_unread()
        self._came += len(chunk)
        self._read(self._decoder.decode(chunk))
        if self._decoder.stopped:
            self.end()
        elif self._seen or self._came >= HELD_AT_MOST:
            self.first_is_whole = True

    def end(self) -> None:
        """The body is over."""
        if self._reads and self._decoder is not None:
            self._read(self._decoder.decode(self._take_unread()))
            self._read_rest()
            self._events, self._begun, self._body = EventStream(), [], []
        self._reads, self.first_is_whole = False, True

    def _take_unread(self) -> bytes:
        taken = b"".join(self._unread)
        self._unread.clear()
        self._unread_size = 0
        return taken

    def _read(self, text: bytes) -> None:
        if self._media == b"text/event-stream":
            self._read_events(text)
        elif self._media in _LINES:
            *lines, last = text.split(b"\n")
            for line in lines:
                self._body.append(line)
                self._line(b"".join(self._body))
                self._body.clear()
            self._body.append(last)
        elif text:
            self._body.append(text)
            if b"}" in text and not self._seen and self._tries < _MOST_TRIES:
                self._tries += 1
                self._first_element(b"".join(self._body))

    def _read_events(self, text: bytes) -> None:
        before = self._begun[-1][-1:] if self._begun else b""
        end = end_of_events(before + text) - len(before)
        if end <= 0:
            if text:
                self._begun.append(text)
            return
        whole = b"".join((*self._begun, text[:end]))
        self._begun = [text[end:]] if text[end:] else []
        at = 0
        while at < len(whole) and not self._seen:
            end = end_of_first(whole, at)
            self._take_events(whole[at:end])
            at = end
        # To take each of the others apart would cost more than all else that is done for it.
        if whole.find(b'"error"', at) >= 0:
            self._take_events(whole[at:])
        self.is_done = _ends_as_done(whole)

    def _take_events(self, text: bytes) -> None:
        for event in self._events.feed(text):
            self._event(event)

    def _read_rest(self) -> None:
        if self._media == b"text/event-stream":
            rest = b"".join(self._begun)
            self.is_done = self.is_done or _ends_as_done(rest)
            self._take_events(rest)
            event = self._events.end()
            if event is not None:
                self._event(event)
        elif self._media in _LINES:
            self._line(b"".join(self._body))
        else:
            value = parse_json(b"".join(self._body))
            for each in value if isinstance(value, list) else (value,):
                self._look(each)

    def _event(self, event: Event) -> None:
        if self._seen and b'"error"' not in event.data:
            return
        value = parse_json(event.data)
        self._look(value)
        name = event.name.decode("latin-1")
        if not name and isinstance(value, dict):
            name = str(value.get("type"))
        if event.data and name not in _PREAMBLE:
            self._seen = True

    def _line(self, line: bytes) -> None:
        if line.strip() and (not self._seen or b'"error"' in line):
            self._look(parse_json(line))
            self._seen = True

    def _first_element(self, body: bytes) -> None:
        """Look at the first element if an array begins with it: Gemini streams so without ``alt=sse``."""
        text = body.decode("utf-8", "ignore").lstrip()
        if not text.startswith("["):
            self._tries = _MOST_TRIES
            return
        try:
            value, _ = json.JSONDecoder().raw_decode(text[1:].lstrip())
        except (ValueError, RecursionError):
            return
        if not isinstance(value, dict):  # no event; and where it ends isn't looked for
            self._tries = _MOST_TRIES
            return
        self._look(value)
        self._seen = True

    def _look(self, value: Any) -> None:
        name = None if self._on_name is None else response_id(value)
        if name is not None and self._on_name is not None:
            self._on_name(name)
            self._on_name = None
        if self.fault is None:
            self.fault, self.had_begun = fault_in(value), self._seen
        if self.fault is None and not self._seen and _lacks_choices(value):
            self.fault = _NO_CHOICES


def _ends_as_done(events: bytes) -> bool:
    return events[-40:].rstrip().endswith(_DONE)


def _lacks_choices(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    kind = value.get("object")
    if not isinstance(kind, str) or kind not in _COMPLETIONS:
        return False
    return value.get("choices") is None and value.get("usage") is None
