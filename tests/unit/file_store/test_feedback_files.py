"""Feedback on disk: the state survives, is never half there, and what can't be read gives out no slot."""

from __future__ import annotations

import errno
import gc
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import pytest
from commands import run
from dropped import Dropped
from helper_process import helper
from hypothesis import given
from hypothesis import strategies as st
from insides import face_of, file_store
from referee import DEADLINE
from staged_world import entry

import leasecap
from leasecap import _control
from leasecap._config.seal import seal
from leasecap._errors import AcquireTimeout, StoreError
from leasecap._feedback import adaptive
from leasecap._feedback.adaptive import Report
from leasecap._feedback.rules import Rules
from leasecap._feedback.state import NOTHING, Clock, Latency, State, decode_state, encode_state, rebased
from leasecap._file_store.feedback_files import FeedbackFiles, Posted
from leasecap._file_store.feedback_view import FeedbackView
from leasecap._host.directory import Directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._decisions.snapshot import Snapshot
    from leasecap._file_store.store import Store


def configure(root: Path, text: str = "", limit: int = 8) -> None:
    root.mkdir(mode=0o700, exist_ok=True)
    whole = f"[pools.p]\nlimit = {limit}\n{text}"
    (root / "config.toml").write_text(whole)
    seal(str(root), whole)


@pytest.fixture
def store(root: Path) -> Store:
    configure(root)
    return file_store("p")


def state_file(store: Store) -> Path:
    file = Path(store.directory.full("feedback/state.json"))
    file.parent.mkdir(exist_ok=True)
    return file


def posted(store: Store) -> set[str]:
    """The files of reports that nobody has taken up."""
    return set(os.listdir(state_file(store).parent)) - {"state.json"}


def some_state() -> State:
    report = Report("concurrency", "a 429", retry_after=30, ttfb=0.5, granted=10.0)
    state = adaptive.reported(NOTHING, Rules(), 10.0, report, 8, 8)
    return adaptive.answered(adaptive.asking(state, 10.0), 10.0, 10.1, None, "no answer")


REPORT = Report("concurrency", "a 429")


def dumped(raw: object) -> bytes:
    return json.dumps(raw).encode()


# -- the file --------------------------------------------------------------------------------------------------------


def test_a_state_is_read_as_it_was_written() -> None:
    assert decode_state(encode_state(some_state())) == some_state()
    assert decode_state(encode_state(NOTHING)) == NOTHING


def test_a_state_cut_off_at_any_byte_is_none() -> None:
    data = encode_state(some_state())
    for length in range(len(data)):
        with pytest.raises(ValueError, match="truncated"):
            decode_state(data[:length])


@given(st.integers(0, 600), st.binary(min_size=1, max_size=3))
def test_whatever_stands_in_the_file_is_a_state_or_refused(where: int, what: bytes) -> None:
    data = encode_state(some_state())
    where = min(where, len(data))
    try:
        state = decode_state(data[:where] + what + data[where + len(what) :])
    except ValueError:
        return
    rules = Rules()
    adaptive.admission(rebased(state, Clock("another", 5.0, 5.0)), rules, 5.0, gated=True)


def test_what_a_later_version_adds_to_the_state_is_ignored_and_what_is_missing_has_its_default() -> None:
    state = some_state()
    raw = json.loads(encode_state(state))
    raw["more"] = [1]
    for part in ("pause", "cut", "ramp", "latency", "usage"):
        raw[part] = raw[part] and {**raw[part], "more": {"x": 1}}
    del raw["last_cut"]
    assert decode_state(json.dumps(raw).encode()) == state._replace(last_cut=None)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"pause": {"since": 1.0}},
        {"boot": float("nan")},
        {"last_cut": "yesterday"},
        {"last_cut": 10**400},
        {"boot": 1e300},
        {"cut": {**some_state().cut._asdict(), "why": "x" * 5000}},  # type: ignore[union-attr]
        {"ramp": {"high": True, "last": None}},
        {"cut": {**some_state().cut._asdict(), "limit": 0}},  # type: ignore[union-attr]
        {"cut": {**some_state().cut._asdict(), "phase": "slow"}},  # type: ignore[union-attr]
    ],
)
def test_a_state_from_the_future_or_of_another_shape_is_refused(change: dict[str, object]) -> None:
    raw = {**json.loads(encode_state(some_state())), **change}
    with pytest.raises(ValueError, match=r"."):
        decode_state(json.dumps(raw).encode())


def test_state_has_room_for_growth() -> None:
    raw = json.loads(encode_state(some_state()))
    raw["more"] = raw["pause"]["more"] = {"any": "thing"}
    del raw["refusals"]
    assert decode_state(json.dumps(raw).encode()) == some_state()._replace(refusals=0.0)


@pytest.mark.parametrize("content", [b"", b'{"version": 9}', b"\xff\xfe", b"[]"])
def test_an_unreadable_state_is_an_error_that_names_file_and_remedy_and_no_slot(store: Store, content: bytes) -> None:
    leasecap.report("p", 429)
    state_file(store).write_bytes(content)
    with pytest.raises(StoreError, match="leasecap resume p") as caught:
        leasecap.try_acquire("p")
    assert caught.value.path == str(state_file(store))
    assert "state.json" in str(leasecap.status("p").pools[0].error)
    _control.resume(face_of(store))
    with leasecap.acquire("p", timeout=0):
        pass


def test_a_lease_can_be_released_though_the_state_broke_meanwhile(store: Store) -> None:
    lease = leasecap.acquire("p", timeout=0)
    state_file(store).write_bytes(b"{")
    lease.release()
    assert leasecap.status("p").pools[0].in_flight == 0


def test_a_state_that_cannot_be_written_grants_nothing(store: Store) -> None:
    _control.pause(face_of(store), 0.001, "by hand")
    directory = state_file(store).parent
    if os.geteuid() == 0:
        state_file(store).unlink()
        state_file(store).mkdir()  # root may write anywhere
    else:
        directory.chmod(0o500)
    try:
        with pytest.raises((StoreError, AcquireTimeout)):
            leasecap.acquire("p", timeout=0.2)
        assert leasecap.status("p").pools[0].in_flight == 0
    finally:
        directory.chmod(0o700)


def test_the_state_is_for_its_owner_alone(store: Store) -> None:
    leasecap.report("p", 429)
    assert stat.S_IMODE(state_file(store).stat().st_mode) == 0o600


# -- reports ---------------------------------------------------------------------------------------------------------

REPORTER = """
import leasecap
from leasecap._feedback import adaptive
adaptive.EPOCH = 600.0
print("READY")
input()
for _ in range(10):
    leasecap.report("p", 429, ttfb=1.0)
print("DONE")
input()
"""


@pytest.mark.posix("OS locks")
def test_processes_that_report_at_once_cut_once_and_lose_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive, "EPOCH", 600.0)  # on a busy machine 20 reports take more than 5 s
    with helper(REPORTER) as one, helper(REPORTER) as two:
        for reporter in (one, two):
            assert reporter.hear() == "READY"
        for reporter in (one, two):
            reporter.say()
        for reporter in (one, two):
            assert reporter.hear() == "DONE"
    store.reconciler.transact()  # the last report may have come while the other one was inside
    lessons = store.snapshots.feedback()
    assert lessons is not None
    state = lessons.state
    assert state.cut is not None and state.cut.limit == 6
    assert state.latency is not None and state.latency.samples == 20
    assert not posted(store)


def test_a_report_made_while_the_pools_lock_is_held_is_taken_up_before_the_next_grant(store: Store) -> None:
    assert store.section.try_enter()
    try:
        leasecap.report("p", 429, retry_after=60)
        assert leasecap.status("p").pools[0].feedback is not None
        feedback = leasecap.status("p").pools[0].feedback
        assert feedback is not None and feedback.paused and feedback.reduced_limit == 6, "status sees it at once"
        assert not state_file(store).exists()
    finally:
        store.section.leave()
    assert leasecap.try_acquire("p") is None
    assert state_file(store).exists()


@pytest.mark.parametrize("broken", [False, True])
def test_a_report_that_nobody_has_taken_up_yet_is_over_with_the_pause_that_it_makes(
    store: Store, *, broken: bool
) -> None:
    assert store.section.try_enter()
    try:
        leasecap.report("p", 402)
        feedback = leasecap.status("p").pools[0].feedback
        assert feedback is not None and feedback.paused
    finally:
        store.section.leave()
    if broken:
        state_file(store).write_bytes(b"{")
    before = _control.resume(face_of(store))
    assert before.pause is not None and not posted(store)
    lease = leasecap.try_acquire("p")
    assert lease is not None
    lease.release()


@pytest.mark.parametrize("step", ["names", "posted", "written"])
def test_a_report_that_is_taken_up_during_a_look_is_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    assert store.section.try_enter()
    leasecap.report("p", 402)
    store.section.leave()
    original = getattr(FeedbackFiles, step)

    def after_another_one(files: FeedbackFiles, *arguments: object) -> object:
        monkeypatch.setattr(FeedbackFiles, step, original)
        store.reconciler.transact()
        return original(files, *arguments)

    monkeypatch.setattr(FeedbackFiles, step, after_another_one)
    feedback = leasecap.status("p").pools[0].feedback
    assert feedback is not None and feedback.paused and not posted(store)


def take_up(store: Store) -> None:
    store.reconciler.transact()


def restore(store: Store) -> None:
    _control.restore(face_of(store))


@pytest.mark.parametrize(("act", "limit"), [(take_up, 6), (restore, 8)])
def test_who_was_robbed_of_the_section_writes_over_nothing_that_was_written_since(
    root: Path, monkeypatch: pytest.MonkeyPatch, act: Callable[[Store], None], limit: int
) -> None:
    configure(root, 'lock = "directory"\n')
    store = file_store("p")
    assert store.section.try_enter()
    leasecap.report("p", 429)
    store.section.leave()
    seen_in = FeedbackView.seen_in

    def robbed(view: FeedbackView, snapshot: Snapshot) -> Snapshot:
        monkeypatch.setattr(FeedbackView, "seen_in", seen_in)
        found = seen_in(view, snapshot)
        store.directory.rename(f"lock.d/{store.section.token}", f"stolen/{store.section.token}")
        assert run("pause", "p").returncode == 0
        return found

    monkeypatch.setattr(FeedbackView, "seen_in", robbed)
    act(store)
    pool = leasecap.status("p").pools[0]
    assert pool.feedback is not None and pool.feedback.paused
    assert pool.limit == limit


def test_a_planted_report_that_is_none_is_thrown_away(store: Store) -> None:
    whole = {"report": REPORT._asdict(), "made": Clock(None, 0.0, 0.0)._asdict()}
    odd = {**whole, "report": REPORT._replace(retry_after="soon")._asdict()}  # type: ignore[arg-type]
    for number, content in enumerate((b"", b"{}", b'{"report": {"kind": 1}, "made": {}}', b"[1]", dumped(odd))):
        (state_file(store).parent / str(number)).write_bytes(content)
    with leasecap.acquire("p", timeout=0):
        pass
    assert not posted(store)


# -- what may be reported --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        (" 1.5 ", 1.5),
        (7, 7.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 00:01:00 -0000", 60.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("Thursday, 01-Jan-26 00:01:00 GMT", 60.0),
        (float("inf"), 365 * 86400.0),
    ],
)
def test_a_retry_after_is_seconds_or_an_http_date(value: float | str, seconds: float) -> None:
    assert _control.parse_retry_after(value, 1_767_225_600.0) == pytest.approx(seconds)


UNREADABLE: list[float | str] = [
    *("soon", "", " ", "30s", "-5", "1e9", "1_0", "99 Foo 2026", "0x10", "٣", "nan", "2026-01-01T00:01:00Z", "\ud800"),
    *("Thu, 99 Jan 2026 00:01:00 GMT", "30, 30", "9" * 5000, -5, -0.5, float("nan"), -(10**400)),
]


@pytest.mark.parametrize("value", UNREADABLE, ids=lambda value: f"{value!a:.20}")
def test_a_retry_after_that_cannot_be_read_says_nothing(value: float | str) -> None:
    assert _control.parse_retry_after(value, 1_767_225_600.0) is None


@pytest.mark.parametrize("value", UNREADABLE, ids=lambda value: f"{value!a:.20}")
def test_a_refusal_counts_though_its_retry_after_cannot_be_read(
    store: Store, value: float | str, caplog: pytest.LogCaptureFixture
) -> None:
    with leasecap.acquire("p", timeout=0) as lease:
        lease.report(429, retry_after=value)
        assert leasecap.status("p").pools[0].limit == 6
        leasecap.report("p", 503, retry_after=value)
    feedback = leasecap.status("p").pools[0].feedback
    assert feedback is not None and not feedback.paused
    [message] = caplog.messages
    assert "'p'" in message and "Retry-After" in message and "ignored" in message


@pytest.mark.parametrize(("value", "limit"), [("soon", 6), (-1, 6), ("", 8), (" ", 8)])
def test_an_unreadable_retry_after_alone_is_a_refusal_and_an_empty_one_nothing(
    store: Store, value: float | str, limit: int
) -> None:
    leasecap.report("p", retry_after=value)
    assert leasecap.status("p").pools[0].limit == limit


def test_a_quota_whose_retry_after_cannot_be_read_closes_until_resumed(store: Store) -> None:
    leasecap.report("p", 402, retry_after="next month")
    feedback = leasecap.status("p").pools[0].feedback
    assert feedback is not None and feedback.paused and feedback.pause_left is None


@pytest.mark.parametrize("value", [True, b"30", [], object()])
def test_a_retry_after_that_is_no_header_is_the_callers_mistake(store: Store, value: object) -> None:
    with pytest.raises(TypeError):
        leasecap.report("p", 429, retry_after=value)  # type: ignore[arg-type]
    assert not state_file(store).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        *({}, {"status": True}, {"status": 99}, {"status": -1}, {"status": 1000}, {"status": "429"}),
        *({"kind": "rate"}, {"ttfb": -1.0}, {"ttfb": "1"}),
    ],
)
def test_a_report_that_cannot_be_meant_is_refused_and_nothing_is_noted(store: Store, arguments: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        leasecap.report("p", **arguments)  # type: ignore[arg-type]
    assert not state_file(store).exists() and not posted(store)


@pytest.mark.parametrize("status", [0, 200, 301, 400, 404, 500, 502, 600, 999])
def test_any_other_answer_changes_nothing(store: Store, status: int) -> None:
    leasecap.report("p", status, retry_after=60)
    assert not state_file(store).exists()


def test_what_runs_under_a_lease_reports_about_it(store: Store) -> None:
    older = leasecap.acquire("p", timeout=0, label="older", borrow=False)
    leasecap.report("p", 429)
    with older:
        leasecap.report("p", 429)
    assert leasecap.status("p").pools[0].limit == 6, "granted before the cut"
    with leasecap.acquire("p", timeout=0, label="younger") as younger:
        leasecap.report("p", 429)
        assert leasecap.status("p").pools[0].limit == 4
        younger.report(429)
    younger.report(429)
    pool = leasecap.status("p").pools[0]
    assert pool.limit == 4
    assert pool.feedback is not None and "(younger)" in str(pool.feedback.reduced_by)
    older.release()


# -- slots that cool down ---------------------------------------------------------------------------------------------


class Collecting(deque[tuple[int, str]]):
    """A garbage collection comes whenever a mark is noted."""

    def append(self, mark: tuple[int, str]) -> None:
        gc.collect()
        super().append(mark)


def test_a_garbage_collection_amid_a_release_may_release_another_slot_that_cools_down(store: Store) -> None:
    assert store.feedback is not None
    state_file(store)
    files = store.feedback.files
    files._marks = Collecting()
    release = threading.Thread(target=files.cool, args=(entry(1),), daemon=True)
    gc.disable()  # one that came by itself before the release would end the other cool-down, whose mark is used again
    try:
        Dropped(lambda: files.cool(entry(2)))
        release.start()
        release.join(DEADLINE)
    finally:
        gc.enable()
    assert not release.is_alive()
    assert len(files._marks) == 2


def test_marks_of_slots_that_have_cooled_down_do_not_pile_up(root: Path) -> None:
    configure(root, "cooldown = 0.001\n")
    for _ in range(50):
        leasecap.acquire("p", timeout=5).release()
    cooling = file_store("p").directory.full("feedback")
    assert len(os.listdir(cooling)) < 10, "this process uses its own again"
    for number in range(20):  # those of processes that are gone
        Path(cooling, f"cooling-{number:016x}-{'0' * 40}").touch()
    leasecap.acquire("p", timeout=5).release()
    assert len(os.listdir(cooling)) < 10


def test_the_mark_of_another_boot_holds_nothing(root: Path) -> None:
    configure(root, "cooldown = 60\n", limit=1)
    cooling = state_file(file_store("p")).parent
    Path(cooling, f"cooling-{2**62:016x}-{'0' * 40}").touch()
    Path(cooling, "planted").touch()
    leasecap.acquire("p", timeout=0).release()
    assert leasecap.try_acquire("p") is None


# -- what follows from it ---------------------------------------------------------------------------------------------


def test_a_report_from_before_a_reboot_pauses_for_what_is_left_and_is_about_no_lease_of_now(store: Store) -> None:
    assert store.feedback is not None
    files = store.feedback.files
    now = files.clock()
    before = Clock("another boot", now.boot + 5000, now.wall - 20)
    report = Report("concurrency", "a 429", retry_after=60, granted=now.boot + 4000)
    state = State(last_cut=now.boot - 1)
    after = files.take_up(state, [Posted("name", report, before)], now, 8, 9)
    assert after.pause is not None and after.pause.until == pytest.approx(now.boot + 40)
    assert after.cut is None, "that lease is gone, and more is in flight than the limit allows"


def test_who_waits_for_the_end_of_a_pause_looks_right_then(store: Store) -> None:
    before = time.monotonic()
    _control.pause(face_of(store), 0.3, "by hand")
    leasecap.acquire("p").release()
    assert 0.2 < time.monotonic() - before < 5, "nobody else looks for 10 s"


def test_a_newcomer_takes_on_the_declared_limit_it_finds_and_not_the_reduced_one(root: Path) -> None:
    first = leasecap.acquire("q", limit=4, timeout=0, borrow=False)
    leasecap.report("q", 429)
    assert leasecap.status("q").pools[0].limit == 3
    second = leasecap.acquire("q", timeout=0, borrow=False)
    assert {holder.limit for holder in leasecap.status("q").pools[0].holders} == {4}
    first.release()
    second.release()


def test_a_mark_is_not_used_again_before_its_end(root: Path) -> None:
    configure(root, "cooldown = 60\n")
    for number in range(1, 4):
        leasecap.acquire("p", timeout=0).release()
        feedback = leasecap.status("p").pools[0].feedback
        assert feedback is not None and feedback.cooling == number


def test_status_says_that_growth_is_held_back_only_while_it_is(store: Store) -> None:
    leasecap.report("p", 429)
    assert store.feedback is not None
    files = store.feedback.files
    clock = files.clock()
    for latency, held in ((Latency(5.0, 1.0, 20, clock.boot), True), (Latency(5.0, 1.0, 20, clock.boot - 61), False)):
        files.write(files.read(clock)._replace(latency=latency), clock)
        feedback = leasecap.status("p").pools[0].feedback
        assert feedback is not None
        assert any("no growth" in line for line in feedback.lines) == held


def test_a_pool_where_nobody_reported_anything_loads_nothing_of_feedback(root: Path) -> None:
    code = (
        "import leasecap, sys\n"
        "leasecap.acquire('q', limit=1).release()\n"
        "feedback = {'_feedback.adaptive', '_feedback.state', '_file_store.feedback_view'}\n"
        "print([m for m in sys.modules if m.removeprefix('leasecap.') in feedback])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_state_directory_that_cannot_be_looked_at_is_an_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(self: Directory, name: str = "") -> os.stat_result:
        if name == "feedback":
            raise OSError(errno.EIO, "Input/output error", name)
        return real(self, name)

    real = Directory.stat
    monkeypatch.setattr(Directory, "stat", stat)
    with pytest.raises(StoreError):
        leasecap.acquire("p", timeout=0)
