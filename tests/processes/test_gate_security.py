"""What the gate refuses: strangers, smuggled requests, heads without an end; and what it keeps to itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from commands import run, status, until
from gated import Gated, files_with
from places import IS_ROOT
from provider import Provider
from provider_steps import Latch, reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from raw_http import Raw

SECRET = b"sk-ant-very-secret"
PROMPT = b"a prompt that nobody else reads"
NOBODY = 65534

# As another user it sends what it reads to that port, and prints the answer.
STRANGER = """
import os, socket, sys
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[2]))
try:
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", int(sys.argv[1])))
        connection.sendall(sys.stdin.buffer.read())
        sys.stdout.buffer.write(connection.recv(65536))
except ConnectionError:
    pass
"""


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    return shared_provider


@pytest.fixture
def gate(shared: tuple[Provider, Gated]) -> Gated:
    return shared[1]


# -- who is answered --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        (b"Host: evil.example",),
        (b"Host: evil.example:%(port)d",),
        (b"Host: 127.0.0.1",),
        (b"Host: 127.0.0.1:1",),
        (b"Host: 127.0.0.1:%(port)d.evil.example",),
        (b"Host: 127.0.0.1:%(port)d@evil.example",),
        (b"Host: 2130706433:%(port)d",),
        (b"Host:",),
        (),
        (b"Host: 127.0.0.1:%(port)d", b"Host: 127.0.0.1:%(port)d"),
        (b"Host: 127.0.0.1:%(port)d", b"Host: evil.example"),
    ],
)
def test_another_host_is_not_answered(provider: Provider, client: Raw, gate: Gated, lines: tuple[bytes, ...]) -> None:
    given = [line % {b"port": gate.port} for line in lines]
    client.send(gate.asking(b"POST %b HTTP/1.1" % gate.target(), *given))
    assert client.answer().status in (400, 403, 421)
    assert provider.requests == []


@pytest.mark.parametrize("host", [b"127.0.0.1", b"localhost", b"[::1]", b"LocalHost"])
def test_each_name_of_loopback_is_answered(client: Raw, gate: Gated, host: bytes) -> None:
    line = b"hOST: %b:%d" % (host, gate.port)
    assert client.ask(gate.asking(b"POST %b HTTP/1.1" % gate.target(), line)).status == 200


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/v1/messages",
        b"//anthropic/v1/messages",
        b"/-/anthropic/v1/messages",
        b"/wrong/anthropic/v1/messages",
        b"/%(token)bx/anthropic/v1/messages",
        b"/%(part)b/anthropic/v1/messages",
        b"/%%2e/%(token)b/anthropic/v1/messages",
        b"/%(token)b",
        b"/%(token)b/",
        b"/%(token)b/unheard-of/v1/messages",
        b"/%(token)b/anthropic.example/v1/messages",
        b"/%(token)b/http://evil.example/v1/messages",
        b"/%(token)b/../anthropic/v1/messages",
    ],
)
def test_without_token_and_declared_upstream_nothing_passes(
    provider: Provider, client: Raw, gate: Gated, target: bytes
) -> None:
    token = gate.token.encode()
    client.send(gate.asking(b"POST %b HTTP/1.1" % (target % {b"token": token, b"part": token[:-1]}), gate.host))
    assert client.answer().status in (403, 404)
    assert provider.requests == []


def test_a_token_in_a_header_is_as_good_and_stays_here(provider: Provider, client: Raw, gate: Gated) -> None:
    line = b"X-Leasecap-Gate: " + gate.token.encode()
    found = client.ask(gate.asking(b"POST /-/anthropic/v1/messages HTTP/1.1", gate.host, line))
    assert (found.status, provider.request().target) == (200, b"/v1/messages")
    assert gate.token.encode() not in provider.request().head
    assert b"leasecap" not in provider.request().head.lower()


def test_the_token_never_goes_upstream(provider: Provider, gate: Gated) -> None:
    gate.ask()
    assert gate.token.encode() not in provider.request().head
    assert b"leasecap" not in provider.request().head.lower()


def test_each_run_has_a_token_of_its_own(provider: Provider, gate: Gated) -> None:
    with Gated(provider) as other:
        assert other.token != gate.token
        assert min(len(other.token), len(gate.token)) >= 16


def test_no_page_of_a_browser_is_let_in(provider: Provider, client: Raw, gate: Gated) -> None:
    lines = (gate.host, b"Origin: http://evil.example", b"Access-Control-Request-Method: POST")
    found = client.ask(gate.asking(b"OPTIONS /wrong/anthropic/v1/messages HTTP/1.1", *lines, body=None))
    assert not [line for line in found.head.lines if line.lower().startswith(b"access-control")]


@pytest.mark.linux("elsewhere the token alone guards")
def test_another_users_process_is_not_answered(provider: Provider, gate: Gated) -> None:
    if not IS_ROOT:
        pytest.skip("needs another user")
    command = [sys.executable, "-S", "-c", STRANGER, str(gate.port), str(NOBODY)]
    request = gate.request(b"GET", b"/v1/models", body=None)
    asked = subprocess.run(command, input=request, capture_output=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout == b"" or asked.stdout.startswith(b"HTTP/1.1 403")
    assert provider.requests == []
    assert gate.ask(b"GET", b"/v1/models", body=None).status == 200


# -- what is refused --------------------------------------------------------------------------------------------------

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Content-Length: 5", b"content-length: 5"),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: +5",),
        (b"Content-Length: -5",),
        (b"Content-Length: 0x5",),
        (b"Content-Length: 5_0",),
        (b"Content-Length:",),
        (b"Content-Length: \xb2",),
        (b"Transfer-Encoding: xchunked",),
        (b"Transfer-Encoding: gzip",),
        (b"Transfer-Encoding: chunked, identity",),
        (b"Transfer-Encoding: identity, chunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: \x0bchunked",),
        (b"X-A: b", b" folded: c"),
        (b"X-A: b", b"\tfolded"),
        (b" X-First: folded",),
        (b"X-A : b",),
        (b"Content-Length : 5",),
        (b"X A: b",),
        (b": b",),
        (b"no colon",),
        (b"X-A: a\x00b",),
        (b"X-\x00A: b",),
        (b"X-A: a\nX-B: b",),
        (b"X-A: a\n",),
        (b"X-A: a\rX-B: b",),
        (b"X-A: a\r\rX-B: b",),
        (b"X-\xe9: b",),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(
    provider: Provider, client: Raw, gate: Gated, lines: tuple[bytes, ...]
) -> None:
    client.send_until_refused(
        gate.asking(b"POST %b HTTP/1.1" % gate.target(), gate.host, *lines, body=None) + b"0\r\n\r\n" + HIDDEN
    )
    found = client.answer()
    assert found.status in (400, 501)
    assert client.await_end() == b""  # what followed was nobody's request
    assert provider.requests == []


@pytest.mark.parametrize(
    "line",
    [
        b"POST %b HTTP/1.1\n",
        b"POST  %b HTTP/1.1\r\n",
        b"POST\t%b HTTP/1.1\r\n",
        b" POST %b HTTP/1.1\r\n",
        b"POST %b\r\n",
        b"POST %b HTTP/2.0\r\n",
        b"POST %b HTTP/1.1 \r\n",
        b"POST %b http/1.1\r\n",
        b"POST %b\x00 HTTP/1.1\r\n",
        b"PO(ST %b HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\x00%b\r\n",
    ],
)
def test_a_malformed_request_line_is_refused(provider: Provider, client: Raw, gate: Gated, line: bytes) -> None:
    client.send_until_refused(line % gate.target() + gate.host + b"\r\n\r\n")
    assert client.answer().status in (400, 505)
    assert client.await_end() == b""
    assert provider.requests == []


@pytest.mark.parametrize(
    "wire", [b"x\r\n", b"-1\r\n", b"0x3\r\nabc\r\n", b"3\nabc\n0\n\n", b"3\r\nabcd\r\n", b"+3\r\nabc\r\n"]
)
def test_a_malformed_chunk_is_refused(provider: Provider, client: Raw, gate: Gated, wire: bytes) -> None:
    client.send(gate.request(b"POST", b"/v1/messages", b"Transfer-Encoding: chunked", body=None))
    client.send_until_refused(wire + HIDDEN)
    said = client.await_end()
    assert said == b"" or said.startswith(b"HTTP/1.1 400")
    assert b"hidden" not in said  # what may be somebody's prompt is not repeated
    assert provider.requests == []


@pytest.mark.parametrize(
    "head",
    [b"X-Long: " + b"y" * 300_000 + b"\r\n\r\n", b"X: y\r\n" * 60_000 + b"\r\n", b"X-Endless: " + b"y" * 300_000],
    ids=["one long line", "many lines", "no end"],
)
def test_an_oversized_head_is_refused(provider: Provider, client: Raw, gate: Gated, head: bytes) -> None:
    client.send_until_refused(b"POST %b HTTP/1.1\r\n%b\r\n%b" % (gate.target(), gate.host, head))
    assert client.answer().status == 431
    client.await_end()
    assert provider.requests == []


def test_an_oversized_request_line_is_refused(provider: Provider, client: Raw, gate: Gated) -> None:
    client.send_until_refused(gate.request(b"POST", b"/" + b"y" * 300_000))
    assert client.answer().status in (414, 431)
    assert provider.requests == []


def test_a_connection_refused_once_carries_nothing_more(provider: Provider, client: Raw, gate: Gated) -> None:
    client.send_until_refused(gate.asking(b"POST %b HTTP/1.1" % gate.target(), gate.host, b"X-A : b") + gate.request())
    assert client.answer().status == 400
    assert client.await_end() == b""
    assert provider.requests == []


def test_idle_connections_dont_keep_others_out(provider: Provider, gate: Gated) -> None:
    idle = [gate.connect() for _ in range(400)]
    try:
        assert gate.ask().status == 200
    finally:
        for each in idle:
            each.close()


# -- what is kept to itself -------------------------------------------------------------------------------------------


def test_no_argv_holds_the_token(gate: Gated) -> None:
    process = psutil.Process(gate.process.pid)
    for each in (process, *process.children(recursive=True)):
        assert gate.token not in " ".join(each.cmdline())


def test_keys_and_bodies_are_nowhere_on_disk_nor_in_status(root: Path) -> None:
    latch = Latch()
    body = json.dumps({"model": "some-model", "messages": PROMPT.decode()}).encode()
    with Provider() as provider, Gated(provider) as gate, gate.connect() as client, gate.connect() as waiter:
        provider.plan((latch, *reply(200)))
        client.send(gate.request(b"POST", b"/v1/messages?key=" + SECRET, b"X-Api-Key: " + SECRET, body=body))
        provider.request()
        waiter.send(gate.request(b"POST", b"/v1/messages?key=" + SECRET, b"Authorization: Bearer " + SECRET, body=body))
        until(lambda: status().waiting == 1)
        shown = run("status", "--json").stdout + run("status").stdout
        for secret in (SECRET, PROMPT, gate.token.encode()):
            assert secret.decode() not in shown
            assert files_with(root, secret) == []
        latch.set()
        assert (client.answer().status, waiter.answer().status) == (200, 200)
    assert files_with(root, SECRET) == files_with(root, PROMPT) == []


def test_an_error_names_no_key_no_body_and_no_token() -> None:
    with Provider() as provider, Gated(provider) as gate:
        provider.plan((b"HTTP/1.1 broken\r\n\r\n",))
        found = gate.ask(b"POST", b"/v1/messages?key=" + SECRET, b"X-Api-Key: " + SECRET, body=PROMPT)
        assert found.status == 502
        _, said = gate.end()
    for secret in (SECRET, PROMPT, gate.token.encode()):
        assert secret not in found.head.raw + found.body
        assert secret.decode() not in said


@pytest.mark.parametrize(
    "line", [b"X-Api-Key : " + SECRET, b"X-Api-Key: " + SECRET + b"\x00", b"Content-Length: " + SECRET, SECRET]
)
def test_a_refusal_repeats_no_header(client: Raw, gate: Gated, line: bytes) -> None:
    client.send_until_refused(gate.asking(b"POST %b HTTP/1.1" % gate.target(), gate.host, line, body=None))
    found = client.answer()
    assert found.status == 400
    assert SECRET not in found.head.raw + found.body


def test_an_error_is_of_the_providers_own_shape(provider: Provider, gate: Gated) -> None:
    provider.plan((b"HTTP/1.1 broken\r\n\r\n",))
    found = json.loads(gate.ask().body)
    assert found["type"] == "error" and re.match("leasecap: ", found["error"]["message"])
