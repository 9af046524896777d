"""What of a chunked body is read here, and what is left to h11."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leasecap._gate.chunked import Chunks

END = b"0\r\n\r\n"


def coded(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def read(*pieces: bytes) -> tuple[bytes, bytes]:
    """The content, and what is for h11."""
    chunks, content = Chunks(), b""
    for number, piece in enumerate(pieces):
        content += chunks.feed(piece)
        if chunks.rest is not None:
            return content, chunks.rest + b"".join(pieces[number + 1 :])
    chunks.give_up()
    return content, chunks.rest or b""


def by_h11(data: bytes) -> bytes | None:
    """What h11 makes of it; None: it refuses it."""
    http = h11.Connection(h11.CLIENT)
    http.send(h11.Request(method=b"GET", target=b"/", headers=[(b"host", b"h")]))
    http.receive_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + data)
    http.receive_data(b"")
    content = b""
    try:
        http.next_event()
        while isinstance(event := http.next_event(), h11.Data):
            content += event.data
    except h11.RemoteProtocolError:
        return None
    return content


@pytest.mark.parametrize("at", range(len(coded(b"one", b"\r\n12345678901234567\r\n"))))
def test_a_body_is_read_wherever_it_is_cut(at: int) -> None:
    body = coded(b"one", b"\r\n12345678901234567\r\n") + END
    assert read(body[:at], body[at:]) == (b"one\r\n12345678901234567\r\n", END)


def test_a_body_is_read_byte_by_byte() -> None:
    body = coded(b"one", b"two", b"x" * 300)
    assert read(*(body[at : at + 1] for at in range(len(body)))) == (b"onetwo" + b"x" * 300, b"")


def test_a_chunk_is_not_waited_for() -> None:
    chunks = Chunks()
    assert [chunks.feed(piece) for piece in (b"5\r\nab", b"c", b"de\r", b"\n")] == [b"ab", b"c", b"de", b""]


@pytest.mark.parametrize(
    "rest",
    [
        END,
        b"0\r\nTrailer: x\r\n\r\nmore",
        b"3;name=value\r\ntwo\r\n",
        b"3 \r\ntwo\r\n",
        b"000000003\r\ntwo\r\n",
        b"+3\r\ntwo\r\n",
        b"0x3\r\ntwo\r\n",
        b"3\ntwo\n",
        b"\r\n",
        b"zz",
    ],
)
def test_what_is_not_plain_is_left_to_h11(rest: bytes) -> None:
    assert read(coded(b"one") + rest) == (b"one", rest)


@pytest.mark.parametrize("footer", [b"3\r\nxyz\r\n", b"\n", b"\r3"])
def test_a_chunk_that_is_longer_than_it_says_is_refused(footer: bytes) -> None:
    with pytest.raises(h11.RemoteProtocolError):
        read(b"3\r\none" + footer)


@given(
    st.lists(st.sampled_from([b"", b"0", b"1", b"a", b"\r", b"\n", b"\r\n", b";", END, coded(b"one")]), max_size=12),
    st.data(),
)
def test_it_reads_what_h11_reads(words: list[bytes], data: st.DataObject) -> None:
    body = b"".join(words)
    at = data.draw(st.integers(0, len(body)))
    try:
        content, rest = read(body[:at], body[at:])
    except h11.RemoteProtocolError:
        assert by_h11(body) is None
        return
    others = by_h11(rest)
    whole = by_h11(body)
    if whole is None:
        # A chunk that the end has cut is left out of ``rest``, but for h11 then the body isn't whole either.
        assert others is None
    else:
        assert others is not None and content + others == whole
