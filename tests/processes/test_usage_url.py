"""Asking a provider for its count over HTTP: what it answers counts, and what is no answer never means "no limit"."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from commands import environment, start, status, until
from helper_process import helper
from insides import file_store
from plain_servers import make_certificate
from usage_server import UsageServer, drip, head, ok, says, serving, silence, tunnel_to

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.store import Store

KEY = "the-key-of-the-account"
FIELD = "usage.concurrent_sessions"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_KEY", KEY)


def configure(root: Path, url: str, *, limit: int = 1, more: str = "usage_interval = 0.1\n") -> Store:
    root.mkdir(mode=0o700, exist_ok=True)
    text = f'[pools.p]\nlimit = {limit}\nusage_url = "{url}"\nusage_field = "{FIELD}"\nusage_key_env = "EXAMPLE_KEY"\n'
    (root / "config.toml").write_text(text + more)
    return file_store("p")


def at(server: UsageServer) -> str:
    return f"http://127.0.0.1:{server.port}/v1/usage"


def counts(number: object, **more: object) -> bytes:
    return says({"usage": {"concurrent_sessions": number, **more}})


def answered(store: Store) -> None:
    """Ask until a question is over that was asked after this was called."""
    assert store.feedback is not None
    files = store.feedback.files
    before = files.read(files.clock()).usage

    def over() -> bool:
        usage = files.read(files.clock()).usage
        if usage is not None and usage.answered is not None and (before is None or usage.asked > before.asked):
            return True
        store.ask()
        return False

    until(over)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "leasecap-usage"])


def error() -> str:
    feedback = status().feedback
    assert feedback is not None
    return feedback.usage_error or ""


def assert_nowhere(secret: str, root: Path, messages: list[str]) -> None:
    """The secret is in no file of the root and in nothing that was told."""
    for path in root.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes()
    assert secret not in "\n".join(messages) + str(leasecap.status()) + error()


def test_count_at_a_path_is_what_status_shows(root: Path) -> None:
    with serving(counts(3)) as server:
        store = configure(root, at(server))
        answered(store)
    feedback = status().feedback
    assert feedback is not None and (feedback.usage, feedback.usage_error) == (3, None)
    assert "the provider counted 3 in flight" in feedback.lines[-1]
    assert server.heads[0].startswith("GET /v1/usage HTTP/1.1\r\n")
    assert f"\r\nAuthorization: Bearer {KEY}\r\n" in server.heads[0]


def test_key_goes_alone_into_the_header_that_is_named(root: Path) -> None:
    with serving(counts(3)) as server:
        answered(configure(root, f"{at(server)}?days=1", more='usage_key_header = "x-api-key"\n'))
    assert server.heads[0].startswith("GET /v1/usage?days=1 HTTP/1.1\r\n")
    assert f"\r\nx-api-key: {KEY}\r\n" in server.heads[0] and "Authorization" not in server.heads[0]


@pytest.mark.parametrize("number", [0, 3, 3.0, 10**9 - 1])
def test_a_whole_number_is_a_count(root: Path, number: float) -> None:
    with serving(counts(number)) as server:
        answered(configure(root, at(server)))
    feedback = status().feedback
    assert feedback is not None and feedback.usage == number and feedback.usage_error is None


NO_COUNTS = {
    "text": (counts("3"), "a text stands there"),
    "bool": (counts(True), "true or false stands there"),
    "null": (counts(None), "null stands there"),
    "object": (counts({KEY: 1}), "an object stands there"),
    "fraction": (counts(2.5), "no whole number from 0 on"),
    "negative": (counts(-1), "no whole number from 0 on"),
    "huge": (counts(10**12), "no whole number from 0 on"),
    "huge float": (ok(b'{"usage": {"concurrent_sessions": 1e400}}'), "no whole number from 0 on"),
    "nan": (ok(b'{"usage": {"concurrent_sessions": NaN}}'), "no whole number from 0 on"),
    "endless": (ok(b'{"usage": {"concurrent_sessions": %s}}' % (b"9" * 9000)), "is no JSON"),
    "no field": (says({"usage": {KEY: 3}}), "'usage' has no 'concurrent_sessions'"),
    "no object": (says([KEY]), "the answer has no 'usage'"),
    "no JSON": (ok(KEY.encode()), "is no JSON"),
    "empty": (ok(b""), "is no JSON"),
    "no content": (head("204 No Content"), "is no JSON"),
    "cut off": (b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"usage": {"concurrent', "is no JSON"),
    "deep": (ok(b"[" * 100_000), "is no JSON"),
    "long": (ok(b'{"usage": {"concurrent_sessions": 1}}' + b" " * 2**18), "more than 262144 bytes"),
    "no HTTP": (b"SSH-2.0-x\r\n", "can't be read as HTTP"),
    "nothing": (b"", "closed connection without response"),
    "long head": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**17, "can't be read as HTTP"),
    "401": (head("401 Unauthorized"), "answered 401: is the key in EXAMPLE_KEY right?"),
    "403": (head("403 Forbidden"), "answered 403: is the key in EXAMPLE_KEY right?"),
    "304": (head("304 Not Modified"), "answered 304"),
    "404": (head("404 Not Found"), "answered 404"),
    "429": (head("429 Slow down", "Retry-After: 3600"), "answered 429: a longer usage_interval"),
    "500": (head(f"500 {KEY}"), "answered 500"),
    "503": (head("503 Busy"), "answered 503"),
}


@pytest.mark.parametrize("name", NO_COUNTS)
def test_what_is_no_count_is_told_once_and_leaves_the_limit(
    root: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer, why = NO_COUNTS[name]
    with serving(answer) as server, caplog.at_level(logging.WARNING, "leasecap"):
        store = configure(root, at(server))
        for _ in range(2):
            answered(store)
            assert why in error()
            assert "usage_field usage.concurrent_sessions" in error() or f"usage_url {at(server)}: " in error()
        with leasecap.acquire("p", timeout=20):
            assert leasecap.try_acquire("p", borrow=False) is None
        answered(store)
    assert len(caplog.messages) == 1 and "no usage information for pool 'p': usage_" in caplog.messages[0]
    assert_nowhere(KEY, root, caplog.messages)


@pytest.mark.parametrize(
    "answer",
    [silence, drip(b""), drip(b"HTTP/1.1 200 OK\r\nX: "), drip(b"HTTP/1.1 200 OK\r\n\r\n1")],
    ids=["silent", "drips a line", "drips a head", "drips a body"],
)
def test_server_that_never_comes_to_an_end_is_given_up(root: Path, answer: object) -> None:
    with serving(answer) as server:  # type: ignore[arg-type]
        store = configure(root, at(server), more="usage_timeout = 0.5\n")
        answered(store)
        assert "no answer within 0.5 s (usage_timeout)" in error()
        with leasecap.acquire("p", timeout=20):
            pass


def test_nobody_at_the_port_is_told(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answered(configure(root, f"http://127.0.0.1:{port}/usage"))
    assert error() == f"usage_url http://127.0.0.1:{port}/usage: Connection refused"


@pytest.mark.parametrize("value", [None, "", "  ", "a\nb", "schlüssel"])
def test_without_a_key_that_can_be_sent_nothing_is_asked(
    root: Path, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXAMPLE_KEY")
    if value is not None:
        monkeypatch.setenv("EXAMPLE_KEY", value)
    with serving(counts(0)) as server:
        answered(configure(root, at(server)))
    assert server.heads == [] and "usage_key_env: " in error() and "EXAMPLE_KEY" in error()


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed_and_takes_the_key_nowhere(root: Path, code: int) -> None:
    with serving(counts(0)) as other, serving() as server:
        where = f"http://localhost:{other.port}/{KEY}?{KEY}"
        server.answer = head(f"{code} Moved", f"Location: {where}")
        answered(configure(root, at(server)))
    assert other.heads == [] and len(server.heads) >= 1
    assert f"answered {code}, a redirect to http://localhost, which isn't followed" in error()
    assert_nowhere(KEY, root, [])


def test_server_is_verified_before_it_gets_the_key(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, certificate = make_certificate(tmp_path)
    with serving(counts(4), tls=context) as server:
        store = configure(root, f"https://127.0.0.1:{server.port}/v1/usage")
        answered(store)
        assert server.heads == [] and "its certificate can't be trusted: self" in error()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        answered(store)
        assert len(server.heads) == 1 and error() == ""


def test_proxy_of_the_environment_sees_the_name_and_no_key(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(counts(4), tls=context) as server, serving(tunnel_to(server.port)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:mine@127.0.0.1:{proxy.port}")
        answered(configure(root, "https://provider.test/v1/usage"))
        assert error() == "" and KEY in server.heads[0]
        assert proxy.heads[0].startswith("CONNECT provider.test:443 ") and KEY not in proxy.heads[0]
        assert "Proxy-Authorization: Basic bWU6bWluZQ==" in proxy.heads[0]
        monkeypatch.setenv("NO_PROXY", "provider.test")
        answered(file_store("p"))
        assert len(proxy.heads) == 1 and "usage_url https://provider.test/v1/usage: " in error()


def test_loopback_is_never_asked_through_a_proxy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(counts(4)) as server, serving(b"") as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        answered(configure(root, at(server)))
    assert error() == "" and proxy.heads == []


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "https://127.0.0.1:9", "http://"])
def test_proxy_that_cannot_be_used_is_told_and_not_passed_by(
    root: Path, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    answered(configure(root, "https://provider.test/v1/usage"))
    assert "https_proxy in the environment names no http:// proxy" in error()


# -- what the answer does ---------------------------------------------------------------------------------------------


def test_full_provider_keeps_the_last_slot_until_it_has_room(root: Path) -> None:
    with serving(counts(1)) as server:
        configure(root, at(server))
        with pytest.raises(leasecap.AcquireTimeout):
            leasecap.acquire("p", timeout=0.5)
        server.answer = counts(0)
        leasecap.acquire("p", timeout=20).release()


WAITS = """
import leasecap, sys
from leasecap._decisions import polling
from leasecap._host.effects import Effects
if sys.argv[1:] == ["when woken"]:  # it sweeps at its first look, and then only if something wakes it
    polling.SWEEP_EVERY = polling.FAR_LOOK = polling.SELDOM_LOOK = polling.UNSWEPT = 3600.0
    Effects.sees_exits = False
print("ready")
input()
with leasecap.acquire("p", timeout=60):
    print("held")
    input()
print("released")
"""


def test_released_slots_are_each_asked_for_at_once(root: Path) -> None:
    with serving(counts(0)) as server:
        # An interval so long that it can't be what lets anybody in.
        configure(root, at(server), limit=2, more="usage_interval = 3600\nusage_timeout = 60\n")
        first = leasecap.acquire("p", borrow=False)
        second = leasecap.acquire("p", timeout=60, borrow=False)
        with helper(WAITS, "when woken") as third, helper(WAITS, "when woken") as fourth:
            for number, waiter in enumerate((third, fourth), 1):
                assert waiter.hear() == "ready"
                waiter.say()
                until(lambda number=number: status().waiting == number)  # type: ignore[misc]
            asked = len(server.heads)
            first.release()
            assert third.hear() == "held"
            second.release()
            assert fourth.hear() == "held"
            assert len(server.heads) == asked + 2  # one grant for each answer
            third.say()
            fourth.say()
            assert third.hear() == fourth.hear() == "released"


def test_slot_of_a_killed_holder_is_asked_for_at_once(root: Path) -> None:
    with serving(counts(0)) as server:
        configure(root, at(server), more="usage_interval = 3600\nusage_timeout = 60\n")
        with helper(WAITS) as holder, helper(WAITS) as waiter:
            for one in (holder, waiter):
                assert one.hear() == "ready"
            holder.say()
            assert holder.hear() == "held"
            waiter.say()
            until(lambda: status().waiting == 1)
            holder.process.kill()
            assert waiter.hear() == "held"


def test_providers_own_limit_holds_below_the_configured_one(root: Path) -> None:
    more = 'usage_interval = 0.1\nusage_limit_field = "usage.limit"\n'
    with serving(counts(0, limit=2)) as server:
        configure(root, at(server), limit=5, more=more)
        leases = [leasecap.acquire("p", timeout=20, borrow=False) for _ in range(2)]
        assert leasecap.try_acquire("p", borrow=False) is None
        shown = status()
        assert (shown.limit, shown.limit_source) == (2, "the provider's own, below 5 from config.toml [pools.p]")
        assert shown.feedback is not None and shown.feedback.usage_limit == 2
        assert shown.feedback.lines[-1].endswith(", and allows 2")
        server.answer = counts(0, limit=3)
        leases.append(leasecap.acquire("p", timeout=20, borrow=False))
        for lease in leases:
            lease.release()
    # It is gone now: what it said last goes on to hold.
    answered(file_store("p"))
    assert "Connection refused" in error() and status().limit == 3


@pytest.mark.parametrize("limit", [0, -1, None, "4", True, 10**7])
def test_what_is_no_limit_of_the_provider_is_no_information(root: Path, limit: object) -> None:
    with serving(counts(0, limit=limit)) as server:
        store = configure(root, at(server), limit=5, more='usage_limit_field = "usage.limit"\n')
        answered(store)
    assert "usage_limit_field usage.limit: " in error() and status().limit == 5


# -- who waits for it -------------------------------------------------------------------------------------------------


def test_event_loop_goes_on_while_the_provider_is_silent(root: Path) -> None:
    async def main() -> int:
        turns, over = 0, asyncio.Event()

        async def tick() -> None:
            nonlocal turns
            while not over.is_set():
                turns += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        async with leasecap.slot("p", timeout=20):
            over.set()
        await ticking
        return turns

    with serving(silence) as server:
        configure(root, at(server), more="usage_timeout = 2\n")
        before = time.monotonic()
        turns = asyncio.run(main())
        assert time.monotonic() - before > 1.5 and turns > 20


@pytest.mark.posix("signals")
def test_ctrl_c_ends_a_wait_for_a_silent_provider(root: Path) -> None:
    with serving(silence) as server:
        configure(root, at(server), more="usage_timeout = 600\n")
        process = start("run", "-p", "p", "--", "true")
        try:
            until(lambda: server.heads)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == -signal.SIGINT
        finally:
            process.kill()
            process.communicate()
    assert status().waiting == 0


def test_process_ends_while_its_question_is_out(root: Path) -> None:
    with serving(silence) as server:
        configure(root, at(server), more="usage_timeout = 600\n")
        code = "import leasecap; leasecap.acquire('p', timeout=3)"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60
        )
        until(lambda: server.heads)
        assert "AcquireTimeout" in done.stderr and len(server.heads) == 1
