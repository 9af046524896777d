"""What feedback has taught, over reboots, steps of the wall clock and time namespaces: it ends when it should."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from commands import PROGRAM, environment, status
from fake_machines import Call, Eyes, Process, request
from fake_world import World
from hypothesis import given
from hypothesis import strategies as st
from insides import face_of
from staged_world import KIND

from leasecap import _control
from leasecap._config.seal import seal
from leasecap._feedback import adaptive
from leasecap._feedback.adaptive import Report
from leasecap._feedback.rules import Rules
from leasecap._feedback.state import NOTHING, Clock, Cut, State, decode_state, rebased
from leasecap._host import process as _process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.store import Store

DAY = 86_400.0
WALL_STEPS = pytest.mark.parametrize(
    "step", [0.0, -3600.0, 3600.0, -DAY, DAY, -5e8], ids=["kept", "behind", "ahead", "day back", "day on", "no clock"]
)
REFUSAL = Report("concurrency", "a 429")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, kind=KIND)


def start(world: World, kernel: int = 0) -> Process:
    process = Process(world, world.kernels[kernel])
    world.processes.append(process)
    return process


def store_of(call: Call) -> Store:
    return call.store


def cut_to(store: Store, limit: int) -> None:
    assert store.feedback is not None
    files = store.feedback.files
    clock = files.clock()
    at = clock.boot
    cut = Cut(limit, limit + 1, at, "a 429", "probe", at, at, 60.0)
    files.write(files.read(clock)._replace(cut=cut, last_cut=at), clock)


def reboot(world: World, step: float) -> None:
    world.reboot(world.hosts[0])
    world.hosts[0].wall += step


@WALL_STEPS
def test_pause_ends_after_reboot_whatever_the_wall_clock(world: World, step: float) -> None:
    world.set_limit(1)
    call = start(world).ask(request())
    _control.pause(face_of(store_of(call)), 3.0, "by hand")
    reboot(world, step)
    waiter = start(world).ask(request())
    world.pass_time(4.0)
    assert waiter.lease is not None


@WALL_STEPS
def test_cut_grows_back_after_reboot_whatever_the_wall_clock(world: World, step: float) -> None:
    world.set_limit(6)
    cut_to(store_of(start(world).ask(request())), 2)
    reboot(world, step)
    calls = [start(world).ask(request()) for _ in range(6)]
    assert sum(call.lease is not None for call in calls) <= 2
    world.pass_time(300.0)
    assert all(call.lease is not None for call in calls)


def test_reads_leave_the_times_of_a_state_as_they_are(world: World) -> None:
    world.set_limit(2)
    call = start(world).ask(request())
    _control.pause(face_of(store_of(call)), 30.0, "by hand")
    reboot(world, -DAY)
    store = store_of(start(world).ask(request()))
    assert store.feedback is not None
    files = store.feedback.files
    first = files.read(files.clock())
    assert first.epoch == world.hosts[0].boot, "who asked has written it"
    world.hosts[0].go_on(7.0)
    assert files.read(files.clock()) == first


def test_time_namespaces_of_one_boot_agree_on_pause_and_cut(world: World) -> None:
    world.kernels[1].boot_offset = 1000 * 10**9
    world.set_limit(6)
    here, there = start(world, 0), start(world, 1)
    first, second = here.ask(request()), there.ask(request())
    cut_to(store_of(first), 2)
    _control.pause(face_of(store_of(second)), 3.0, "by hand")
    waiters = [process.ask(request()) for process in (here, there, here, there)]
    world.pass_time(2.9, chunk=0.1)
    assert not any(call.lease for call in waiters)
    world.pass_time(300.0)
    assert all(call.lease for call in waiters)


def test_report_from_another_time_namespace_is_about_its_lease(world: World) -> None:
    world.kernels[1].boot_offset = 1000 * 10**9
    world.set_limit(8)
    here, there = start(world, 0), start(world, 1)
    old, new = there.ask(request()), here.ask(request())
    assert old.lease is not None and new.lease is not None
    world.pass_time(1.0)
    new.lease.report(429)
    old.lease.report(429, retry_after=3)
    store = store_of(new)
    assert store.feedback is not None
    state = store.feedback.files.read(store.feedback.files.clock())
    assert state.cut is not None and state.cut.limit == 6, "it was granted before the cut"
    assert state.refusals == adaptive.EVIDENCE_KEPT
    assert state.pause is not None and state.pause.length <= 4.0


def test_state_of_an_unknown_boot_grows_back_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    me = Eyes.me
    monkeypatch.setattr(Eyes, "me", lambda eyes: me(eyes)._replace(boot_offset=None))
    world.set_limit(6)
    first = start(world).ask(request())
    cut_to(store_of(first), 2)
    calls = [start(world).ask(request()) for _ in range(5)]
    world.pass_time(300.0)
    assert all(call.lease is not None for call in calls)


@given(st.floats(-1e9, 1e9), st.floats(0, 1e7), st.booleans())
def test_rebased_is_rebased_once(step: float, boot: float, known: bool) -> None:
    state = adaptive.reported(NOTHING, Rules(), 1000.0, REFUSAL._replace(retry_after=60.0), 8, 8)
    state = state._replace(epoch="boot 1" if known else None, boot=1000.0, wall=5e8)
    clock = Clock("boot 2" if known else None, boot, 5e8 + step)
    once = rebased(state, clock)
    later = clock._replace(boot=clock.boot + 50.0, wall=clock.wall + 50.0)
    assert rebased(once, later) == once


def test_old_format_with_time_namespace_in_its_epoch_is_read() -> None:
    raw = {
        "version": 1,
        "epoch": "boot 1/time:[4026531834]",
        "boot": 1000.0,
        "wall": 5e8,
        "pause": {"since": 990.0, "until": 1030.0, "length": 40.0, "why": "a 429"},
        "cut": None,
        "last_cut": 900,
        "ramp": {"high": 0, "last": None},
        "latency": None,
        "usage": None,
    }
    state = rebased(decode_state(json.dumps(raw).encode()), Clock("boot 1", 1010.0, 5e8 + 10))
    assert state.pause is not None and state.pause.until == pytest.approx(1030.0)
    assert state.refusals == State().refusals


def test_boot_offset_is_none_where_the_file_tells_another_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process, "_namespace", lambda kind: kind)
    assert _process._boot_offset() is None
    monkeypatch.setattr(_process, "_namespace", lambda kind: "none")
    assert _process._boot_offset() == 0


@pytest.mark.linux("time namespaces")
def test_processes_in_two_time_namespaces_agree(tmp_path: Path, root: Path) -> None:
    shifted = ("unshare", "-Ur", "-T", "--boottime", "1000", "--monotonic", "1000", "--fork")
    if shutil.which("unshare") is None or subprocess.run([*shifted, "true"], capture_output=True).returncode:
        pytest.skip("needs time namespaces and unshare(1)")
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.p]\nlimit = 8\n")
    seal(str(root), "[pools.p]\nlimit = 8\n")  # else it counts once it has been the same for a second
    pause = [*shifted, *PROGRAM, "pause", "p", "1h"]
    assert "paused for 59m" in subprocess.run(pause, env=environment(), capture_output=True, text=True).stdout
    subprocess.run([*shifted, *PROGRAM, "report", "p", "--status", "429"], env=environment(), check=True)
    found = status().feedback
    assert found is not None and found.pause_left is not None and found.reduced_ago is not None
    assert 3500 < found.pause_left <= 3600
    assert 0 <= found.reduced_ago < 100
