"""What is read from one answer, and which times to the first byte go to the pool when."""

from __future__ import annotations

import zlib

import pytest

from leasecap._provider.absorb import PoolReport
from leasecap._provider.first_bytes import FirstBytes
from leasecap._transport.answer import Answer
from leasecap._transport.meter import comes_again

SSE = [(b"Content-Type", b"text/event-stream")]
OVERLOADED = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
BEGAN = PoolReport(200, ttfb=0.5)
FAILED = PoolReport(529, None, "concurrency")


def told(status: int, headers: list[tuple[bytes, bytes]], *pieces: bytes) -> list[PoolReport | None]:
    """What each piece and the end say."""
    answer = Answer(status, headers, 0.5, lambda: 1e9)
    return [*map(answer.feed, pieces), answer.end()]


def test_the_first_byte_is_told_once_when_the_stream_has_begun() -> None:
    assert told(200, SSE, PING, DELTA, DELTA) == [None, BEGAN, None, None]


def test_an_error_at_the_beginning_is_told_in_place_of_the_first_byte() -> None:
    assert told(200, SSE, PING, OVERLOADED, DELTA) == [None, FAILED, None, None]


def test_an_error_later_is_told_once() -> None:
    assert told(200, SSE, DELTA, OVERLOADED, OVERLOADED) == [BEGAN, FAILED, None, None]


@pytest.mark.parametrize("size", [1, 7, 100, 30_000])
def test_an_error_is_found_however_the_stream_is_cut(size: int) -> None:
    text = DELTA * 500 + OVERLOADED + DELTA * 500
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert [each for each in told(200, SSE, *pieces) if each is not None] == [BEGAN, FAILED]


def test_an_error_in_a_stream_with_other_line_ends_is_told() -> None:
    text = (DELTA * 500 + OVERLOADED).replace(b"\n", b"\r\n")
    assert [each for each in told(200, SSE, DELTA, text, DELTA) if each is not None] == [BEGAN, FAILED]


def test_an_error_in_a_compressed_stream_is_told() -> None:
    text = zlib.compress(DELTA * 9000 + OVERLOADED)
    headers = [*SSE, (b"Content-Encoding", b"deflate")]
    pieces = [text[at : at + 50] for at in range(0, len(text), 50)]
    assert [each for each in told(200, headers, *pieces) if each is not None] == [BEGAN, FAILED]


def test_what_says_nothing_about_load_is_not_told() -> None:
    wrong = b'data: {"error":{"type":"invalid_request_error"}}\n\n'
    assert told(200, SSE, wrong) == [None, None]
    assert told(404, [], b"nothing here") == [None, None]
    assert told(500, [], b"") == [None, None]


def test_a_refusal_is_told_when_its_body_is_over() -> None:
    body = b'{"error":{"code":"insufficient_quota"}}'
    headers = [(b"Retry-After", b"9")]
    assert told(429, headers, body[:9], body[9:]) == [None, None, PoolReport(429, 9, "quota")]
    assert told(429, headers) == [PoolReport(429, 9, "concurrency")]


def test_a_refusal_without_an_end_is_told_all_the_same() -> None:
    said = told(503, [], b"x" * 60_000, b"x" * 60_000, b"x" * 60_000)
    assert said == [None, PoolReport(503, None, "concurrency"), None, None]


def test_first_bytes_of_a_second_go_as_one() -> None:
    first_bytes = FirstBytes()
    assert first_bytes.note("p", 1.0, 100.0) == 1.0
    assert first_bytes.note("p", 2.0, 100.4) is None
    assert first_bytes.note("q", 9.0, 100.4) == 9.0
    assert first_bytes.note("p", 4.0, 101.0) == 3.0
    assert first_bytes.note("p", 5.0, 102.0) == 5.0


@pytest.mark.parametrize(
    ("status", "again"), [(200, False), (400, False), (408, True), (409, True), (429, True), (500, True), (529, True)]
)
def test_what_comes_again(status: int, again: bool) -> None:
    assert comes_again(status) is again
