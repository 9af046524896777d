"""The soak: it sees what leasecap must not do, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from places import REPOSITORY

from _soak.__main__ import distribution

SMALL = "from _soak.__main__ import soak; from _soak.plan import Plan; import sys; sys.exit(soak(Plan({plan})))"


# -- what is told ---------------------------------------------------------------------------------------------------


def test_a_distribution_says_the_worst_the_median_and_who_is_worse_than_99_of_100() -> None:
    times = [number * 1_000_000 for number in range(1, 201)]
    assert distribution(times[::-1], "of all") == ("200 ms", "of all: median 101 ms, p99 199 ms, of 200")
    assert distribution([], "of all") == ("0 ms", "of all: median 0 ms, p99 0 ms, of 0")


# -- real processes -------------------------------------------------------------------------------------------------


def start(code: str) -> subprocess.Popen[str]:
    """A soak in a session of its own, so that what it leaves behind can be found."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "scripts")))}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY / "scripts",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def played(plan: str, sabotage: str = "") -> tuple[int, str, str, list[int]]:
    """A small soak: exit status, output, errors, and the pids that are left of it."""
    with start(sabotage + SMALL.format(plan=plan)) as process:
        out, errors = process.communicate(timeout=100)
    return process.returncode, out, errors, left_of(process.pid)


def left_of(session: int) -> list[int]:
    """The pids in that session, but for those that have ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return found


def row(table: str, name: str) -> int:
    (line,) = (line for line in table.splitlines() if line.strip().startswith(name))
    return int(line.removeprefix(f"  {name}").split()[0])


@pytest.mark.long
@pytest.mark.linux("the soak reads /proc")
def test_a_small_soak_keeps_its_promises_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    status, table, errors, left = played("seconds=4, seed=1, sync=5, tasks=3, commands=2, crowds=2, teams=1")
    assert (status, errors, left) == (0, "", [])
    assert row(table, "operations") > 10
    assert row(table, "kills") > 0
    assert [row(table, name) for name in ("overlaps", "slots lost", "refills late")] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


ONE_MORE = """
from leasecap._decisions import grants, limits
grants.full_limit = lambda snapshot: (limits.full_limit(snapshot) or 0) + 1
"""
NOBODY_DIES = """
from leasecap._file_store import observer
observer.Observer.lives = lambda *_: True
"""


@pytest.mark.long
@pytest.mark.linux("the soak reads /proc")
@pytest.mark.parametrize(
    ("sabotage", "told", "complaint"),
    [(ONE_MORE, "overlaps", "worked under a limit of"), (NOBODY_DIES, "slots lost", "slots are missing")],
    ids=["one slot more", "nobody dies"],
)
def test_the_soak_finds_a_slot_too_many_and_one_too_few_and_keeps_the_evidence(
    sabotage: str, told: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    status, table, errors, left = played(
        "seconds=4, seed=1, sync=16, tasks=4, commands=0, crowds=0, teams=0, patience=1", sabotage
    )
    assert (status, left) == (1, [])
    assert row(table, told) > 0
    assert complaint in errors
    (kept,) = tmp_path.iterdir()
    assert f"are kept in {kept}; seed 1" in errors
    assert (kept / "journal").stat().st_size > 0


NO_PROCESS_IS_KNOWN = """
from leasecap._file_store import peers
peers.Peers.look = lambda *_, **__: "runs"  # so each ticket of the dead has to be granted a slot to be found out
from _soak import faults, plan, workers
plan.POOLS = faults.POOLS = {"solo": 1}
faults.KILLS = 1
faults.Faults.one = faults.Faults.strike_the_largest
faults.Faults._block = lambda *_: None
workers.Worker._priority = lambda _: 0
workers.Worker._patience = lambda _: None
"""


@pytest.mark.long
def test_the_soak_finds_a_slot_that_passes_the_dead_ticket_by_ticket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    plan = "seconds=5, seed=1, sync=0, tasks=0, commands=0, crowds=4, teams=0, patience=20"
    status, table, errors, left = played(plan, NO_PROCESS_IS_KNOWN)
    assert (status, left) == (1, [])
    assert row(table, "refills late") > 0, table
    assert "after the last fault" in errors


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_soak_that_is_interrupted_ends_every_process_that_it_started(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with start(SMALL.format(plan="seconds=60, seed=2, sync=8, tasks=4, commands=4, crowds=1, teams=1")) as process:
        end = time.monotonic() + 60
        while len(left_of(process.pid)) < 12:
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(process.pid, number)  # as a terminal does
        process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert left_of(process.pid) == []
    assert list(tmp_path.iterdir()) == []
