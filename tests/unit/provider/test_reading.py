"""What is read of a copy of a request: facts where they are plain, else nothing, and never an error."""

from __future__ import annotations

import gzip
import json
import sys
import types
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap._provider import reading
from leasecap._provider.reading import MAX_DECODED, UNKNOWN, RequestFacts, decoder, read_request

JSON = b"application/json"
ENCODINGS: dict[bytes, Callable[[bytes], bytes]] = {
    b"": bytes,
    b"identity": bytes,
    b"gzip": gzip.compress,
    b"x-gzip": gzip.compress,
    b"deflate": zlib.compress,
}
# These two are there where a package is.
for name, package in ((b"zstd", "zstandard"), (b"br", "brotli")):
    found = reading._imported(package)
    if found is not None and decoder(name) is not None:
        ENCODINGS[name] = found.compress
COMPRESSED = [name for name in ENCODINGS if name not in (b"", b"identity")]


def facts(target: str, said: object, *, encoding: bytes = b"", media: bytes = JSON) -> RequestFacts:
    body = ENCODINGS[encoding](json.dumps(said).encode())
    return read_request(target.encode("latin-1"), media, encoding, body)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@pytest.mark.parametrize(
    ("target", "said", "expected"),
    [
        ("/v1/messages?beta=true", {"model": "claude-x", "stream": True}, ("claude-x", True)),
        ("/v1/messages", {"model": "claude-x"}, ("claude-x", False)),
        ("/v1/chat/completions", {"model": "gpt", "stream": False}, ("gpt", False)),
        ("/v1/chat/completions", {"model": "gpt", "stream": None}, ("gpt", False)),
        ("/v1/responses", {"model": "gpt", "stream": True}, ("gpt", True)),
        ("/v1/embeddings", {"model": "e"}, ("e", False)),
        ("/api/chat", {"model": "llama"}, ("llama", True)),
        ("/TOKEN/ollama/api/generate/", {"model": "llama"}, ("llama", True)),
        ("/api/generate", {"model": "llama", "stream": False}, ("llama", False)),
        ("/api/embed", {"model": "llama"}, ("llama", False)),
    ],
)
def test_read_request_knows_each_dialect(target: str, said: object, expected: tuple[str | None, bool | None]) -> None:
    assert facts(target, said)[:2] == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/v1beta/models/gemini-x:streamGenerateContent?alt=sse", ("gemini-x", True)),
        ("/v1beta/models/gemini-x:streamGenerateContent", ("gemini-x", True)),
        ("/v1beta/models/gemini-x:generateContent?key=K", ("gemini-x", False)),
        ("/v1beta/models/gemini-x:generateContent?key=K&alt=sse", ("gemini-x", True)),
        ("/v1/models/gemini%2Dx%3AstreamGenerateContent", ("gemini-x", True)),
        ("/v1/projects/p/locations/l/publishers/google/models/g:generateContent", ("g", False)),
    ],
)
def test_read_request_reads_gemini_by_its_path(target: str, expected: tuple[str, bool]) -> None:
    assert read_request(target.encode(), JSON, b"", b"\xff not read")[:2] == expected


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_read_request_decodes_a_copy(encoding: bytes) -> None:
    assert facts("/v1/messages", {"model": "m", "stream": True}, encoding=encoding)[:2] == ("m", True)


@pytest.mark.parametrize(
    ("media", "encoding", "body"),
    [
        (JSON, b"", b""),
        (JSON, b"", b"{"),
        (JSON, b"", b"[]"),
        (JSON, b"", b"\xff\xfe"),
        (JSON, b"", b"[" * 100_000),
        (JSON, b"", b'{"model": ' + b"1" * 5000 + b"}"),
        (JSON, b"snappy", b'{"model": "m"}'),
        (JSON, b"gzip, br", gzip.compress(b'{"model": "m"}', mtime=0)),
        (JSON, b"gzip", b'{"model": "m"}'),
        (JSON, b"zstd", b'{"model": "m"}'),
        (JSON, b"br", b'{"model": "m"}'),
        (b"multipart/form-data; boundary=json", b"", b'{"model": "m"}'),
    ],
)
def test_read_request_leaves_unknown_what_it_cannot_read(media: bytes, encoding: bytes, body: bytes) -> None:
    assert read_request(b"/v1/x", media, encoding, body) == UNKNOWN


@pytest.mark.parametrize("media", [b"", b"Application/JSON; charset=utf-8", b"application/vnd.x+json"])
def test_read_request_knows_json_by_its_media_type(media: bytes) -> None:
    assert facts("/v1/x", {"model": "m"}, media=media)[:2] == ("m", False)


@pytest.mark.parametrize("model", [None, 3, "", " ", ["m"]])
def test_a_model_that_is_no_name_is_unknown(model: object) -> None:
    assert facts("/v1/x", {"model": model, "stream": "yes"}) == UNKNOWN


def test_a_model_is_printable_and_bounded() -> None:
    model = facts("/v1/x", {"model": "\x1b[31m\n" + "x" * 500}).model
    assert model is not None
    assert model.isprintable()
    assert len(model) == 80


@given(st.sampled_from(sorted(ENCODINGS)), st.binary(max_size=3000), st.lists(st.integers(0, 5000), max_size=20))
def test_decoder_gives_the_same_however_it_is_split(encoding: bytes, text: bytes, cuts: list[int]) -> None:
    found = decoder(encoding)
    assert found is not None
    assert b"".join(map(found.decode, pieces(ENCODINGS[encoding](text), cuts))) == text


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_decoder_stops_at_its_bound(encoding: bytes) -> None:
    found = decoder(encoding)
    assert found is not None
    bomb = ENCODINGS[encoding](bytes(MAX_DECODED * 64))
    assert found.decode(bomb) == bytes(MAX_DECODED)
    assert found.stopped
    assert found.decode(bomb) == b""


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_codec_never_puts_out_much_more_than_is_read(encoding: bytes) -> None:
    found = decoder(encoding)
    assert found is not None
    codec = found._codec
    assert codec is not None
    bomb = ENCODINGS[encoding](bytes(MAX_DECODED * 64))
    assert len(codec.decompress(bomb, MAX_DECODED)) < 4 * MAX_DECODED


def test_read_request_gives_up_on_a_body_beyond_the_bound() -> None:
    assert facts("/v1/x", {"model": "m", "pad": "x" * MAX_DECODED}) == UNKNOWN


@given(st.sampled_from(COMPRESSED), st.lists(st.binary(max_size=200), max_size=5))
def test_decoder_takes_any_bytes(encoding: bytes, chunks: list[bytes]) -> None:
    found = decoder(encoding)
    assert found is not None
    for chunk in chunks:
        found.decode(chunk)


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_decoder_stops_at_the_end_of_the_content(encoding: bytes) -> None:
    found = decoder(encoding)
    assert found is not None
    assert found.decode(ENCODINGS[encoding](b"text")) == b"text"
    assert found.stopped


@pytest.mark.parametrize("encoding", [b"zstd", b"br"])
def test_decoder_is_none_where_no_package_is_there(encoding: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_imported", lambda name: None)
    assert decoder(encoding) is None


def test_decoder_is_none_where_the_package_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_imported", lambda name: types.SimpleNamespace())
    assert decoder(b"zstd") is None
    assert decoder(b"br") is None


def test_a_brotli_without_a_bound_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    old = types.SimpleNamespace(Decompressor=type("Decompressor", (), {}))
    monkeypatch.setitem(sys.modules, "brotli", old)
    monkeypatch.setitem(sys.modules, "brotlicffi", None)
    assert decoder(b"br") is None


def test_a_zstd_window_beyond_the_webs_is_not_read() -> None:
    zstandard = pytest.importorskip("zstandard")
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    data = zstandard.ZstdCompressor(compression_params=parameters).compressobj().compress(bytes(1 << 20))
    found = decoder(b"zstd")
    assert found is not None
    assert found.decode(data) == b""
    assert found.stopped
