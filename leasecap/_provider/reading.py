"""Reads a copy of what passes the gate: which model a request asks for, and whether its answer is to be streamed.

Nothing here fails and nothing alters what goes on: what can't be read is unknown.
"""

from __future__ import annotations

import json
import re
from urllib.parse import unquote

from leasecap._named_tuple import NamedTuple
from leasecap._provider.conversation import NO_PROMPT, Prompt, read_prompt
from leasecap._redact import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    Headers = Sequence[tuple[bytes, bytes]]

    class Codec(Protocol):
        """What zlib and the standard library's zstd offer.

        :ivar eof: the content is whole.
        """

        @property
        def eof(self) -> bool: ...

        def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


MAX_DECODED = 1 << 20
"""Bytes of one body that are read at most: a body of a few kilobytes can decode to gigabytes."""

MAX_CONVERSATION = 8 << 20
"""Likewise where the prompt is read: conversations are sent whole each time, and grow."""

_LONGEST_MODEL = 80  # characters
_ZSTD_WINDOW = 23  # its logarithm: what RFC 9659 allows for content on the web
_ZSTD_PIECE = 64  # bytes; see `_Zstandard`
_BROTLI_PIECE = 1 << 15  # bytes; it takes no lower bound

# models/NAME:method, also under /v1beta, tunedModels and Vertex's publishers/google.
_GEMINI = re.compile(r"/(?:models|tunedModels)/([^/:]+):(\w+)$")
_STREAMS_UNLESS_TOLD = ("/api/chat", "/api/generate")  # Ollama's own endpoints


class RequestFacts(NamedTuple):
    """What a request says of itself; None is unknown.

    :ivar model: printable, and not long.
    :ivar streams: whether the answer is asked for as a stream.
    :ivar prompt: what it works on, where that was asked for.
    """

    model: str | None
    streams: bool | None
    prompt: Prompt = NO_PROMPT


UNKNOWN = RequestFacts(None, None)


def read_request(
    target: bytes, content_type: bytes, content_encoding: bytes, body: bytes, *, prompt: bool = False
) -> RequestFacts:
    """What the request says of itself, as Anthropic, OpenAI, Gemini and Ollama have it.

    :param target: as it stands in the request line, with or without the gate's own prefix.
    :param prompt: read the prompt as well.
    """
    raw, _, query = target.partition(b"?")
    path = unquote(raw.decode("latin-1")).rstrip("/")
    named = _GEMINI.search(path)
    media = media_type(content_type)
    said = None
    if (named is None or prompt) and (not media or is_json(media)):
        said = parse(content_encoding, body, MAX_CONVERSATION if prompt else MAX_DECODED)
    works_on = read_prompt(said) if prompt else NO_PROMPT
    if named is not None:
        streams = named[2].startswith("stream") or b"alt=sse" in query.split(b"&")
        return RequestFacts(_model(named[1]), streams, works_on)
    if not isinstance(said, dict):
        return UNKNOWN
    streams = said.get("stream")
    if streams is None:
        streams = path.endswith(_STREAMS_UNLESS_TOLD)
    return RequestFacts(_model(said.get("model")), streams if isinstance(streams, bool) else None, works_on)


def _model(name: object) -> str | None:
    if not isinstance(name, str) or not name.strip():
        return None
    return printable(name.strip(), _LONGEST_MODEL)


def parse(content_encoding: bytes, body: bytes, most: int = MAX_DECODED) -> Any:
    """The JSON value that ``body`` is; None if it is none, or can't be read, or has more than ``most`` bytes."""
    found = decoder(content_encoding, most)
    return None if found is None else parse_json(found.decode(body))


def parse_json(text: bytes) -> Any:
    """The JSON value in ``text``, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def header(headers: Headers, name: bytes) -> bytes:
    """The first value of the header ``name`` (in lower case); empty if there is none."""
    return next((value for each, value in headers if each.lower() == name), b"")


def media_type(content_type: bytes) -> bytes:
    """The type without its parameters, in lower case."""
    return content_type.partition(b";")[0].strip().lower()


def is_json(media: bytes) -> bool:
    """Whether ``media``, as `media_type` gives it, is one JSON value."""
    return media == b"application/json" or media.endswith(b"+json")


class Decoder:
    """Decodes one body, piece by piece, up to a bound.

    :ivar stopped: nothing more comes out: the content is whole, or can't be read, or is too long.
    """

    __slots__ = ("_codec", "_left", "stopped")

    def __init__(self, codec: Codec | None, most: int) -> None:
        """:param codec: None: the content is not encoded."""
        self._codec = codec
        self._left = most
        self.stopped = False

    def decode(self, data: bytes) -> bytes:
        """What ``data``, the next piece, adds to the content."""
        if self.stopped or not data:
            return b""
        text = data
        if self._codec is not None:
            try:
                text = self._codec.decompress(data, self._left)
                self.stopped = self._codec.eof
            except Exception:  # each library has an error of its own
                self.stopped = True
                return b""
        text = text[: self._left]
        self._left -= len(text)
        self.stopped = self.stopped or self._left == 0
        return text


def decoder(content_encoding: bytes, most: int = MAX_DECODED) -> Decoder | None:
    """A new decoder for what the header says; None if there is none here."""
    codings = [each.strip().lower() for each in content_encoding.split(b",")]
    codings = [each for each in codings if each not in (b"", b"identity")]
    if not codings:
        return Decoder(None, most)
    make = _CODECS.get(codings[0]) if len(codings) == 1 else None
    try:
        codec = None if make is None else make()
    except Exception:  # a broken package fails in its own way
        return None
    return None if codec is None else Decoder(codec, most)


def _zlib() -> Codec:
    import zlib

    return zlib.decompressobj(32 + zlib.MAX_WBITS)  # it looks itself whether gzip or zlib comes


def _zstd() -> Codec | None:
    for name in ("compression.zstd", "backports.zstd"):
        zstd = _imported(name)
        if zstd is not None:
            return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW})  # type: ignore[no-any-return]
    zstandard = _imported("zstandard")
    return None if zstandard is None else _Zstandard(zstandard)


def _brotli() -> Codec | None:
    for name in ("brotli", "brotlicffi"):
        brotli = _imported(name)
        # Before 1.2 the size of what it puts out couldn't be bounded.
        if brotli is not None and hasattr(brotli.Decompressor, "can_accept_more_data"):
            return _Brotli(brotli)
    return None


def _imported(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        return None


_CODECS: dict[bytes, Callable[[], Codec | None]] = {
    b"gzip": _zlib,
    b"x-gzip": _zlib,
    b"deflate": _zlib,
    b"zstd": _zstd,
    b"br": _brotli,
}


class _Zstandard:
    """The package zstandard puts out all that a piece stands for, without a bound.

    So it is given little at a time: a block of zstd takes four bytes at least and stands for 128 KiB at most.
    """

    def __init__(self, zstandard: Any) -> None:
        self._one = zstandard.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW).decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._one.eof)

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        parts: list[bytes] = []
        for at in range(0, len(data), _ZSTD_PIECE):
            if self.eof or max_length <= 0:
                break
            parts.append(self._one.decompress(data[at : at + _ZSTD_PIECE]))
            max_length -= len(parts[-1])
        return b"".join(parts)


class _Brotli:
    """The packages brotli and brotlicffi, with the names that the other codecs have."""

    def __init__(self, brotli: Any) -> None:
        self._one = brotli.Decompressor()

    @property
    def eof(self) -> bool:
        return bool(self._one.is_finished())

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        parts = [self._one.process(data, output_buffer_limit=_BROTLI_PIECE)]
        max_length -= len(parts[-1])
        while parts[-1] and max_length > 0 and not self._one.can_accept_more_data():
            parts.append(self._one.process(b"", output_buffer_limit=_BROTLI_PIECE))
            max_length -= len(parts[-1])
        return b"".join(parts)
