"""The transports of both libraries, sync: when a request holds a slot, and what becomes of it."""

from __future__ import annotations

import gc
import importlib
import pickle
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from places import REPOSITORY
from provider_formats import PING, message_events
from provider_steps import CLOSE, HANG, Latch, broken, refuse, reply, stream
from referee import DEADLINE, until

import leasecap
from leasecap._provider import chain
from leasecap._provider.first_bytes import FirstBytes
from leasecap._transport import call
from leasecap._transport.meter import _program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from provider import Provider

pytestmark = pytest.mark.usefixtures("pool")

PATH = "/v1/messages"
BODY = {"model": "fake-1"}
HANGING = (*stream(PING)[:-1], HANG)
REFUSED = (*refuse(429, b"50")[:-1], b"{", HANG)


def in_flight(pool: str = "p") -> int:
    return leasecap.status(pool).pools[0].in_flight


def free() -> bool:
    lease = leasecap.try_acquire("p", borrow=False)
    if lease is not None:
        lease.release()
    return lease is not None


# -- when a slot is held ----------------------------------------------------------------------------------------------


def test_the_slot_is_held_until_the_body_is_read(face: Any, provider: Provider) -> None:
    rest = Latch()
    provider.plan(stream(PING, rest, PING))
    with face.Client("p") as client, client.stream("POST", provider.url + PATH, json=BODY) as response:
        assert in_flight() == 1
        pieces = response.iter_raw()
        next(pieces)
        assert in_flight() == 1
        rest.set()
        assert b"".join(pieces)
        assert in_flight() == 0


def test_the_slot_is_free_once_the_answer_is_closed(face: Any, provider: Provider) -> None:
    provider.plan(HANGING)
    with face.Client("p") as client:
        with client.stream("POST", provider.url + PATH, json=BODY):
            assert in_flight() == 1
        assert in_flight() == 0
        assert provider.ended().gone is not None


def test_a_request_waits_for_its_slot_before_it_is_sent(face: Any, provider: Provider) -> None:
    lease = leasecap.acquire("p")
    with face.Client("p") as client:
        thread = threading.Thread(target=client.post, args=(provider.url + PATH,), kwargs={"json": BODY})
        thread.start()
        until(lambda: leasecap.status("p").pools[0].waiting == 1, "a waiter")
        assert not provider.requests
        lease.release()
        thread.join()
    assert len(provider.requests) == 1


def test_the_clients_time_out_does_not_count_the_wait(face: Any, provider: Provider) -> None:
    lease = leasecap.acquire("p")
    threading.Timer(4.0, lease.release).start()
    with face.Client("p", timeout=3.0) as client:
        assert client.post(provider.url + PATH, json=BODY).status_code == 200


def test_a_pool_that_is_not_given_is_that_of_the_url(face: Any, provider: Provider) -> None:
    with (
        face.Client(limit=1) as client,
        client.stream("POST", f"http://user:word@127.0.0.1:{provider.port}{PATH}", json=BODY),
    ):
        assert in_flight(f"localhost:{provider.port}") == 1


def test_status_shows_agent_provider_model_and_phase(face: Any, provider: Provider) -> None:
    head, rest = Latch(), Latch()
    provider.plan((head, *stream(PING, rest)))
    with face.Client("p", limit=1) as client, face.Client("p", limit=1, label="mine", borrow=False) as other:
        asking = [
            threading.Thread(target=each.post, args=(provider.url + PATH,), kwargs={"json": BODY})
            for each in (client, other)
        ]
        asking[0].start()
        provider.request()
        (holder,) = leasecap.status("p").pools[0].holders
        expected = leasecap.HttpRequest(_program(), f"localhost:{provider.port}", "fake-1", "sent", None)
        assert (holder.request, holder.label) == (expected, None)
        asking[1].start()
        until(lambda: leasecap.status("p").pools[0].waiting == 1, "it waits")
        (waiter,) = leasecap.status("p").pools[0].waiters
        assert (waiter.request, waiter.label) == (replace(expected, phase="queued"), "mine")
        head.set()
        until(lambda: seen_phase() == "streaming", "its answer begins")
        (holder,) = leasecap.status("p").pools[0].holders
        assert holder.request is not None and holder.held_for is not None
        assert 0 <= (holder.request.first_byte_after or -1) <= holder.held_for
        rest.set()
        for each in asking:
            each.join()


def seen_phase() -> str | None:
    (holder,) = leasecap.status("p").pools[0].holders
    return None if holder.request is None else holder.request.phase


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("POST", "/v1/messages/count_tokens")])
def test_what_costs_nothing_takes_no_slot(face: Any, provider: Provider, method: str, path: str) -> None:
    with leasecap.acquire("p"), face.Client("p", queue_timeout=0, borrow=False) as client:
        assert client.request(method, provider.url + path).status_code == 200


def test_a_pool_without_a_limit_is_an_error(face: Any, provider: Provider) -> None:
    with face.Client() as client, pytest.raises(leasecap.ConfigError, match=f"localhost:{provider.port}"):
        client.post(provider.url + PATH, json=BODY)
    assert not provider.requests


def test_a_request_under_a_lease_borrows_its_slot(face: Any, provider: Provider) -> None:
    with face.Client("p", queue_timeout=DEADLINE) as client, leasecap.slot("p"):
        assert client.post(provider.url + PATH, json=BODY).status_code == 200
    with (
        face.Client("p", queue_timeout=0, borrow=False) as client,
        leasecap.slot("p"),
        pytest.raises(face.SlotTimeout),
    ):
        client.post(provider.url + PATH, json=BODY)


def test_a_transport_in_another_borrows_its_slot(face: Any, provider: Provider, library: Any) -> None:
    inner = face.LeaseTransport("p", timeout=DEADLINE)
    with library.Client(transport=face.LeaseTransport("p", inner, timeout=DEADLINE)) as client:
        assert client.post(provider.url + PATH, json=BODY).status_code == 200
    assert in_flight() == 0


def test_a_request_to_the_gate_above_takes_its_slot_there(
    face: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{provider.port}"
    lease = leasecap.acquire("p")
    pool = str(lease.reference).rpartition("/")[0]
    monkeypatch.setenv(chain.VARIABLE, chain.describe(address, {"anthropic": pool}))
    for pool_given in (None, "p"):
        with face.Client(pool_given, queue_timeout=0) as client:
            assert client.post(f"http://{address}/token/anthropic{PATH}", json=BODY).status_code == 200
            with pytest.raises((leasecap.ConfigError, face.SlotTimeout)):
                client.post(f"http://{address}/token/other{PATH}", json=BODY)
    lease.release()


# -- no slot in time --------------------------------------------------------------------------------------------------


def test_no_slot_in_time_is_both_errors(face: Any, library: Any, provider: Provider) -> None:
    lease = leasecap.acquire("p")
    with face.Client("p", queue_timeout=0.01) as client, pytest.raises(face.SlotTimeout) as caught:
        client.post(provider.url + PATH, json=BODY)
    lease.release()
    error: Any = caught.value
    assert type(error) is face.SlotTimeout
    assert (error.pool, error.limit, error.position) == ("p", 1, 1)
    assert error.request.url == provider.url + PATH
    assert str(error).startswith("no slot of pool 'p' came free")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is face.SlotTimeout and str(again) == str(error)
    assert again.request.url == error.request.url
    assert not provider.requests
    assert issubclass(face.SlotTimeout, leasecap.AcquireTimeout) and issubclass(face.SlotTimeout, library.PoolTimeout)


def test_a_slot_timeout_can_be_pickled_without_a_request(face: Any) -> None:
    error = pickle.loads(pickle.dumps(face.SlotTimeout("p", 1, (), 2, 0.5)))
    assert (error.pool, error.position) == ("p", 2)
    with pytest.raises(RuntimeError, match="request"):
        print(error.request)


def test_a_request_that_comes_again_keeps_its_place(face: Any, provider: Provider) -> None:
    lease = leasecap.acquire("p")
    rest = Latch()
    provider.plan(stream(PING, rest))
    with face.Client("p", queue_timeout=0.01) as client, pytest.raises(face.SlotTimeout):
        client.post(provider.url + PATH, json=BODY)
    later: list[leasecap.Lease] = []
    other = threading.Thread(target=lambda: later.append(leasecap.acquire("p", timeout=DEADLINE)))
    other.start()
    until(lambda: leasecap.status("p").pools[0].waiting == 1, "another one")
    with face.Client("p", queue_timeout=DEADLINE) as client:  # a client of its own
        again = threading.Thread(target=client.post, args=(provider.url + PATH,), kwargs={"json": BODY})
        again.start()
        until(lambda: leasecap.status("p").pools[0].waiting == 2, "both")
        lease.release()
        provider.request()
        assert not later
        rest.set()
        again.join()
    other.join()
    later.pop().release()


def test_a_request_that_was_answered_goes_behind(face: Any, provider: Provider) -> None:
    places = []

    def note(waiting: leasecap.Waiting) -> None:
        places.append(waiting.position)

    with face.Client("p", on_wait=note, queue_timeout=DEADLINE) as client:
        client.post(provider.url + PATH, json=BODY)
        lease = leasecap.acquire("p")
        later: list[leasecap.Lease] = []
        other = threading.Thread(target=lambda: later.append(leasecap.acquire("p", timeout=DEADLINE)))
        other.start()
        until(lambda: leasecap.status("p").pools[0].waiting == 1, "another one")
        again = threading.Thread(target=client.post, args=(provider.url + PATH,), kwargs={"json": BODY})
        again.start()
        until(lambda: bool(places), "on_wait")
        assert places[0] == 2
        lease.release()
        until(lambda: bool(later), "the other's turn")
        later.pop().release()
        again.join()
        other.join()


RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]}
FIRST = {"messages": [{"role": "user", "content": "fix it"}]}
SECOND = {"messages": [*FIRST["messages"], {"role": "assistant", "content": "so"}, RESULT]}


@pytest.mark.parametrize("said", ["by the conversation", "by the caller"])
def test_a_request_of_an_earlier_task_goes_first(face: Any, provider: Provider, root: Path, said: str) -> None:
    (root / "config.toml").write_text('[pools.p]\nlimit = 1\norder = "task"\n')
    since = time.time() - 3600 if said == "by the caller" else None
    rest = Latch()
    with face.Client("p", queue_timeout=DEADLINE, task_since=since) as client:
        client.post(provider.url + PATH, json=FIRST)
        lease = leasecap.acquire("p")
        later: list[leasecap.Lease] = []
        other = threading.Thread(target=lambda: later.append(leasecap.acquire("p", timeout=DEADLINE)))
        other.start()
        until(lambda: leasecap.status("p").pools[0].waiting == 1, "another one")
        provider.plan(stream(PING, rest))
        goes_on = threading.Thread(target=client.post, args=(provider.url + PATH,), kwargs={"json": SECOND})
        goes_on.start()
        until(lambda: leasecap.status("p").pools[0].waiting == 2, "both")
        lease.release()
        until(lambda: len(provider.requests) == 2, "its turn")
        assert not later
        rest.set()
        goes_on.join()
    other.join()
    later.pop().release()


# -- what the pool is told --------------------------------------------------------------------------------------------


def test_a_refusal_is_told_with_its_retry_after(face: Any, provider: Provider, reports: list[object]) -> None:
    provider.plan(refuse(429, b"7"))
    with face.Client("p") as client:
        assert client.post(provider.url + PATH, json=BODY).status_code == 429
    assert reports == [{"status": 429, "retry_after": 7, "kind": "concurrency"}]


def test_a_quota_is_read_in_the_body_of_a_refusal(face: Any, provider: Provider, reports: list[object]) -> None:
    provider.plan(refuse(429, kind=b"insufficient_quota"))
    with face.Client("p") as client:
        client.post(provider.url + PATH, json=BODY)
    assert reports == [{"status": 429, "kind": "quota"}]


def test_an_error_in_a_stream_is_told(face: Any, provider: Provider, reports: list[dict[str, object]]) -> None:
    overloaded = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'
    provider.plan(stream(*message_events()[:4], overloaded))
    with face.Client("p") as client:
        client.post(provider.url + PATH, json=BODY)
    assert reports[-1] == {"status": 529, "kind": "concurrency"}


def test_what_the_pool_learned_holds_the_next_one_back(face: Any, provider: Provider) -> None:
    provider.plan(refuse(429, b"60"))
    with face.Client("p", queue_timeout=0.05) as client:
        assert client.post(provider.url + PATH, json=BODY).status_code == 429
        with pytest.raises(face.SlotTimeout, match="429"):
            client.post(provider.url + PATH, json={"another": "one"})
    assert len(provider.requests) == 1


def test_the_first_byte_is_told(
    face: Any, provider: Provider, reports: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "_first_bytes", FirstBytes())
    monkeypatch.setattr("leasecap._provider.first_bytes.EVERY", DEADLINE)
    with face.Client("p") as client:
        for _ in range(3):
            client.post(provider.url + PATH, json=BODY)
    assert [each["status"] for each in reports] == [200], "those of a second go as one"
    assert 0 < reports[0]["ttfb"] < DEADLINE


def test_a_pool_that_cannot_be_told_is_not_the_requests_trouble(
    face: Any, provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise leasecap.StoreError("full", path="/", remedy="none")

    monkeypatch.setattr("leasecap._lease.Lease.tell", fail)
    provider.plan(refuse(503))
    with face.Client("p") as client:
        assert client.post(provider.url + PATH, json=BODY).status_code == 503
    assert "could not be noted" in caplog.text
    assert in_flight() == 0


# -- what ends early --------------------------------------------------------------------------------------------------


def test_a_request_that_fails_gives_its_slot_back(face: Any, library: Any, provider: Provider) -> None:
    provider.plan((CLOSE,))
    with face.Client("p") as client:
        with pytest.raises(library.RemoteProtocolError):
            client.post(provider.url + PATH, json=BODY)
        assert in_flight() == 0


def test_a_body_that_breaks_gives_its_slot_back(face: Any, library: Any, provider: Provider) -> None:
    provider.plan(broken(reply(200, b"half of it"), CLOSE))
    with face.Client("p") as client, client.stream("POST", provider.url + PATH, json=BODY) as response:
        with pytest.raises(library.RemoteProtocolError):
            response.read()
        assert in_flight() == 0


def test_an_answer_left_in_the_middle_gives_its_slot_back(face: Any, provider: Provider) -> None:
    provider.plan(HANGING)
    with face.Client("p") as client:
        response = client.send(client.build_request("POST", provider.url + PATH, json=BODY), stream=True)
        for _ in response.iter_raw():
            break
        assert in_flight() == 0
        assert provider.ended().gone is not None
        response.close()


def test_an_answer_that_is_dropped_unread_gives_its_slot_back(
    face: Any, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.plan(HANGING)
    with face.Client("p") as client:
        response = client.send(client.build_request("POST", provider.url + PATH, json=BODY), stream=True)
        with pytest.warns(ResourceWarning, match=f"an answer of 127.0.0.1:{provider.port} was dropped before its end"):
            del response
            gc.collect()
        assert provider.ended().gone is not None, "its connection is closed as well"
        until(free, "the slot")
        until(lambda: "was dropped before its end" in caplog.text, "a line in the log")


@pytest.mark.filterwarnings("ignore:.*was dropped:ResourceWarning")
def test_a_refusal_that_is_dropped_unread_is_told_before_the_slot_is_free(face: Any, provider: Provider) -> None:
    provider.plan(REFUSED)
    with face.Client("p") as client:
        response = client.send(client.build_request("POST", provider.url + PATH, json=BODY), stream=True)
        assert response.status_code == 429
        del response
        gc.collect()
        until(lambda: in_flight() == 0, "the slot")
    feedback = leasecap.status("p").pools[0].feedback
    assert feedback is not None and feedback.paused


def test_an_answer_that_nobody_reads_is_told_to_the_log(
    face: Any, provider: Provider, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "UNREAD_FOR", 0.0)
    provider.plan(HANGING)
    with (
        face.Client("p") as client,
        client.stream("POST", provider.url + PATH, json=BODY),
        face.Client("p", queue_timeout=4) as second,
    ):
        with pytest.raises(face.SlotTimeout):
            second.post(provider.url + PATH, json=BODY)
        assert "nobody has read on" in caplog.text and "holds a slot of pool 'p'" in caplog.text


def test_an_answer_that_is_being_read_is_not_told_of(
    face: Any, provider: Provider, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "UNREAD_FOR", 0.0)
    rest = Latch()
    provider.plan(stream(PING, rest))
    with face.Client("p") as client:
        thread = threading.Thread(target=client.post, args=(provider.url + PATH,), kwargs={"json": BODY})
        thread.start()
        assert rest.reached.wait(DEADLINE)
        until(lambda: any(each._unread_since is None for each in list(call._open.values())), "its reader")
        call.look_for_unread(leasecap.Waiting("p", 1, 1, 1, 1.0, (), None))
        rest.set()
        thread.join()
    assert "nobody has read on" not in caplog.text


# -- beside other transports ------------------------------------------------------------------------------------------


def test_an_answer_that_is_there_as_a_whole_holds_nothing(face: Any, library: Any, reports: list[object]) -> None:
    inner = library.MockTransport(lambda request: library.Response(529, json={}))
    with library.Client(transport=face.LeaseTransport("p", inner)) as client:
        assert client.post("http://example.invalid/v1/messages").status_code == 529
        assert in_flight() == 0
    assert reports == [{"status": 529, "kind": "concurrency"}]


def test_a_body_that_comes_piece_by_piece_is_sent(face: Any, provider: Provider) -> None:
    with face.Client("p") as client:
        client.post(provider.url + PATH, content=iter([b"{", b"}"]))
    assert provider.request().body == b"{}"


def test_a_clients_proxies_stay(face: Any, provider: Provider) -> None:
    with face.Client("p", proxy=provider.url) as client:
        with client.stream("POST", "http://example.invalid/v1/messages", json=BODY):
            assert in_flight() == 1
        assert provider.request().target == b"http://example.invalid/v1/messages"


def test_the_other_librarys_classes_are_refused(face: Any, library: Any) -> None:
    other = importlib.import_module({"httpx": "httpx2", "httpx2": "httpx"}[library.__name__])
    name = f"leasecap.{library.__name__} works with {library.__name__}"
    with other.HTTPTransport() as transport, pytest.raises(TypeError, match=name):
        face.LeaseTransport("p", transport)
    with other.Client(transport=face.LeaseTransport("p")) as client, pytest.raises(TypeError, match=name):
        client.post("http://example.invalid/")
    with library.HTTPTransport() as transport, pytest.raises(TypeError, match=name):
        face.AsyncLeaseTransport("p", transport)


def test_wrong_arguments_are_refused_at_once(face: Any) -> None:
    with pytest.raises(leasecap.ConfigError):
        face.LeaseTransport("")
    with pytest.raises(ValueError):
        face.LeaseTransport("p", timeout=-1)
    with pytest.raises(ValueError):
        face.Client("p", queue_timeout=-1)
    with pytest.raises(TypeError):
        face.Client("p", tiemout=1)


def test_a_missing_library_is_named(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = library.__name__
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"leasecap.{name}", raising=False)
    with pytest.raises(ModuleNotFoundError, match=rf"leasecap\.{name} needs {name}: pip install 'leasecap\[{name}\]'"):
        importlib.import_module(f"leasecap.{name}")


def test_the_two_modules_differ_in_the_librarys_name_alone() -> None:
    two, one = (
        (REPOSITORY / "leasecap" / f"{name}.py").read_text().partition("\nfrom __future__")[2]
        for name in ("httpx2", "httpx")
    )
    assert two.replace("httpx2", "httpx").split() == one.split()
