"""How long requests took, from the note to the pool: together, in the background, and never at a request's cost."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from insides import file_store
from referee import until

import leasecap
from leasecap import _latency, _log
from leasecap._feedback.latency import Kind
from leasecap._latency import Latencies, Timed, latencies
from leasecap._provider.reading import RequestFacts
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap import ModelLatency

pytestmark = pytest.mark.usefixtures("pool")
OPUS = Kind("opus", True)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    messages: list[str] = []
    monkeypatch.setattr(_log, "sink", messages.append)
    return messages


@pytest.fixture
def used(root: Path) -> str:
    """The root, in which the pool "p" was used."""
    leasecap.acquire("p").release()
    return str(root)


def rows(pool: str = "p") -> tuple[ModelLatency, ...]:
    found = leasecap.status(pool, latency=True).pools[0].latency
    assert found is not None
    return found


def counts() -> dict[tuple[str, bool], tuple[int, int]]:
    """How many first bytes and how many whole answers, by model and whether they are streamed."""
    return {(row.model, row.streamed): (row.first_byte.n, row.whole_answer.n) for row in rows()}


def test_what_is_noted_is_written_by_itself_a_little_later(used: str) -> None:
    with latencies._lock:  # nothing is written meanwhile
        latencies.note(used, "p", OPUS, first=0.5)
        latencies.note(used, "p", OPUS, first=0.7, whole=9.0)
        assert rows() == ()
    until(lambda: rows() != (), "the thread has written it")
    assert counts() == {("opus", True): (2, 1)}
    [row] = rows()
    assert (row.first_byte.max, row.whole_answer.max, row.hour[-7:]) == (0.7, 9.0, ":00:00Z")


def test_notes_of_many_threads_are_all_counted(used: str) -> None:
    def note() -> None:
        for _ in range(500):
            latencies.note(used, "p", OPUS, first=1.0)

    noting = [threading.Thread(target=note) for _ in range(8)]
    for each in noting:
        each.start()
    for each in noting:
        each.join()
    latencies.end()
    assert counts() == {("opus", True): (4000, 0)}


def test_a_note_touches_no_file_and_waits_for_no_lock(used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_latency, "_add", lambda *_: pytest.fail("it writes"))
    with latencies._lock:
        latencies.note(used, "p", OPUS, first=1.0)
    latencies.start()


def test_where_no_thread_is_to_be_had_it_writes_itself(used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.own.heartbeats, "call_later", lambda *_: False)
    latencies.start()
    latencies.note(used, "p", OPUS, first=1.0)
    assert counts() == {("opus", True): (1, 0)}
    monkeypatch.setattr(_latency, "EVERY", 600.0)
    latencies.note(used, "p", OPUS, first=1.0)
    assert counts() == {("opus", True): (1, 0)}, "but no more often than the thread would"


def test_a_report_with_ttfb_counts_and_one_of_an_error_does_not(used: str) -> None:
    with leasecap.slot("p") as lease:
        lease.report(200, ttfb=1.0)
        lease.report(ttfb=1.5)
        lease.report(200)
        lease.report(404, ttfb=0.1)
        lease.report(429, ttfb=0.1)
        lease.report(kind="quota", ttfb=0.1)
    leasecap.report("p", 200, ttfb=10**400)
    latencies.end()
    assert counts() == {("", True): (3, 0)}


def test_a_request_is_timed_from_its_sending(used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(_latency, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    timed = Timed(used, "p", RequestFacts("opus\n", None), "localhost")
    now = 103.0
    timed.begins()
    timed.note_begin()
    now = 110.0
    timed.note_end()
    monkeypatch.undo()
    monkeypatch.setenv("LEASECAP_HOME", used)
    latencies.end()
    [row] = rows()
    assert (row.model, row.streamed, row.first_byte.max, row.whole_answer.max) == ("opus\\n", False, 3.0, 10.0)


# -- trouble ----------------------------------------------------------------------------------------------------------


def test_what_cant_be_written_is_told_once_and_kept_for_later(used: str, told: list[str]) -> None:
    place = Path(file_store("p").directory.full("latency"))
    place.write_text("in the way")
    for _ in range(3):
        latencies.note(used, "p", OPUS, first=1.0)
        latencies.end()
        with leasecap.slot("p") as lease:
            lease.report(200, ttfb=1.0)
    assert len(told) == 1 and str(place) in told[0] and "move it away" in told[0]
    place.unlink()
    latencies.end()
    assert counts() == {("opus", True): (3, 0), ("", True): (3, 0)}


def test_what_fails_once_is_written_a_moment_later_and_not_told(
    used: str, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add, failed = _latency._add, list[object]()

    def fails_once(*arguments: object) -> object:
        if not failed:
            failed.append(arguments)
            raise OSError(errno.ENOSPC, "No space left on device")
        return add(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_latency, "_add", fails_once)
    latencies.note(used, "p", OPUS, first=1.0)
    latencies.write()
    until(lambda: rows() != (), "the thread comes back by itself")
    assert failed and counts() == {("opus", True): (1, 0)} and told == []


def test_what_fails_twice_is_told_before_the_end(used: str, told: list[str]) -> None:
    Path(file_store("p").directory.full("latency")).write_text("in the way")
    latencies.note(used, "p", OPUS, first=1.0)
    latencies.write()
    until(lambda: len(told) == 1, "it is told")
    latencies.start()


def test_what_cant_be_written_for_long_is_bounded(used: str, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_latency, "_MOST_UNWRITTEN", 3)
    Path(file_store("p").directory.full("latency")).write_text("in the way")
    for hour in range(10):
        clocks = {"time": lambda hour=hour: 3600.0 * (400_000 + hour), "monotonic": time.monotonic, "sleep": time.sleep}
        monkeypatch.setattr(_latency, "time", SimpleNamespace(**clocks))
        latencies.note(used, "p", OPUS, first=1.0)
        latencies.write()
    assert [hour for _, hour in latencies._unwritten] == [400_007, 400_008, 400_009]
    latencies.start()


def test_while_another_process_writes_it_is_tried_again(used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add, tries = _latency._add, []

    def busy(*arguments: object) -> object:
        tries.append(arguments)
        return None if len(tries) < 5 else add(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_latency, "_add", busy)
    latencies.note(used, "p", OPUS, first=1.0)
    latencies.end()
    assert counts() == {("opus", True): (1, 0)} and len(tries) == 5


def test_while_another_process_writes_for_long_it_comes_back_by_itself(
    used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, tries = _latency._add, []

    def busy(*arguments: object) -> object:
        tries.append(arguments)
        return None if len(tries) <= len(_latency._TRIES) else add(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_latency, "_add", busy)
    monkeypatch.setattr(_latency, "EVERY", 0.05)
    Latencies().note(used, "p", OPUS, first=1.0)
    until(lambda: rows() != (), "the thread has written it")


def test_any_failure_is_told_and_raised_nowhere(used: str, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(_latency, "_add", broken)
    ours = Latencies()
    for _ in range(2):
        ours.note(used, "p", OPUS, first=1.0)
        ours.end()
    assert len(told) == 1 and "a fault of ours" in told[0]


@pytest.mark.parametrize("how", ["forgotten", "root removed"])
def test_a_pool_that_is_gone_is_not_made_again(used: str, how: str) -> None:
    latencies.note(used, "p", OPUS, first=1.0)
    if how == "forgotten":
        assert runtime.forget(used, file_store("p").pool.name)
    else:
        os.rename(used, f"{used}-away")
    latencies.end()
    assert not os.path.exists(used) if how != "forgotten" else os.listdir(f"{used}/pools") == []


def test_a_broken_configuration_is_told_and_what_was_noted_kept(used: str, told: list[str]) -> None:
    config = Path(used) / "config.toml"
    good = config.read_text()
    config.write_text("[pools.p]\nlimt = 1\n")
    latencies.note(used, "p", OPUS, first=1.0)
    latencies.end()
    assert len(told) == 1 and "limt" in told[0]
    config.write_text(good)
    latencies.end()
    assert counts() == {("opus", True): (1, 0)}


# -- time-outs that come near -----------------------------------------------------------------------------------------


def slow(root: str, *, local: bool = False, streamed: bool = True) -> None:
    for _ in range(100):
        latencies.note(root, "p", Kind("opus", streamed), first=110.0, local=local)
    latencies.end()


def warnings() -> tuple[str, ...]:
    return leasecap.status("p").pools[0].latency_warnings


def test_a_time_out_that_comes_near_is_shown_and_logged_once(
    used: str, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latencies, "_told", set())
    slow(used)
    slow(used)
    [message] = told
    assert "'p'" in message and "first_byte_timeout 2m00s" in message
    [shown] = warnings()
    assert "opus, streamed: first byte p99 1m" in shown and "of 200" in shown


def test_a_longer_time_out_ends_the_warning_at_once(used: str, told: list[str]) -> None:
    slow(used)
    assert len(warnings()) == 1
    (Path(used) / "config.toml").write_text("[pools.p]\nlimit = 1\nfirst_byte_timeout = 300\n")
    assert warnings() == ()
    (Path(used) / "config.toml").write_text("[pools.p]\nlimit = 1\nfirst_byte_timeout = 0\n")
    assert warnings() == ()


def test_what_was_near_hours_ago_is_no_warning(used: str, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ago = SimpleNamespace(time=lambda: time.time() - 3 * 3600, monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr(_latency, "time", ago)
    slow(used)
    [row] = rows()
    assert row.first_byte.n == 100
    assert leasecap.status("p", latency=True).pools[0].latency_warnings == ()


def test_a_server_on_this_machine_has_no_time_out_unless_it_is_set(used: str, told: list[str]) -> None:
    slow(used, local=True)
    assert warnings() == () and told == []
    (Path(used) / "config.toml").write_text("[pools.p]\nlimit = 1\nfirst_byte_timeout = 100\n")
    [shown] = warnings()
    assert "past first_byte_timeout 1m40s" in shown


def test_answers_that_are_not_streamed_have_a_time_out_of_their_own(used: str, told: list[str]) -> None:
    slow(used, streamed=False)
    assert warnings() == ()
    (Path(used) / "config.toml").write_text("[pools.p]\nlimit = 1\nanswer_timeout = 120\n")
    [shown] = warnings()
    assert shown.startswith("opus: ") and "near answer_timeout 2m00s" in shown


def test_without_being_asked_status_tells_no_rows(used: str) -> None:
    slow(used, local=True)
    assert leasecap.status("p").pools[0].latency is None
    assert len(rows()) == 1
