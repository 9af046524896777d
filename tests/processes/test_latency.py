"""How long requests took, counted by many processes at once, some of which are killed, stopped or forked."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from commands import run, status_json, until
from helper_process import Helper, helper

import leasecap
from leasecap._latency import latencies

# Notes so many times in so many turns, with a pause after each turn.
WRITER = """
import os, sys, time, leasecap
from leasecap._feedback.latency import Kind
from leasecap import _latency
from leasecap._latency import latencies
_latency._LAST_TRIES = (0.0, *[0.02] * 500)  # on a busy machine who is inside stands still for long
root, turns, number, pause = os.environ["LEASECAP_HOME"], int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
leasecap.acquire("p").release()
print("ready")
input()
for turn in range(turns):
    for _ in range(number):
        latencies.note(root, "p", Kind("opus", True), first=1.0, whole=2.0)
    latencies.write()
    time.sleep(pause)
"""


def configure(root: Path, kind: str) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(f'[pools.p]\nlimit = 4\nlock = "{kind}"\n')


def counted() -> int:
    pool = leasecap.status("p", latency=True).pools[0]
    assert pool.latency_error is None and pool.latency is not None
    assert all(row.first_byte.n == row.whole_answer.n for row in pool.latency)
    return sum(row.first_byte.n for row in pool.latency)


def test_many_writers_lose_nothing(root: Path, kind: str) -> None:
    configure(root, kind)
    writers = [Helper(WRITER, 10, 20, 0.01) for _ in range(8)]
    for each in writers:
        assert each.hear() == "ready"
    for each in writers:
        each.say()
    for each in writers:
        each.process.communicate(timeout=60)
        assert each.process.returncode == 0
    assert counted() == 8 * 10 * 20


def test_killed_writers_leave_nothing_broken(root: Path, kind: str) -> None:
    configure(root, kind)
    for _ in range(3):
        writers = [Helper(WRITER, 10_000, 5, 0.0) for _ in range(4)]
        for each in writers:
            assert each.hear() == "ready"
            each.say()
        before = counted()
        while counted() == before:
            time.sleep(0.01)
        for each in writers:
            each.process.send_signal(signal.SIGKILL)
        for each in writers:
            each.process.communicate()
    at_death = counted()
    assert at_death > 0 and at_death % 5 == 0, "a turn counts whole or not at all"
    with helper(WRITER, 1, 7, 0.0) as last:
        assert last.hear() == "ready"
        last.say()
        last.process.wait(60)
    assert counted() == at_death + 7


STOPPED = """
import os, signal, sys, leasecap
from leasecap._feedback.latency import Kind
from leasecap._file_store import latency_files
from leasecap._latency import latencies
encode = latency_files.encode
def stop(table):
    print("inside")
    input()
    return encode(table)
latency_files.encode = stop
leasecap.acquire("p").release()
latencies.note(os.environ["LEASECAP_HOME"], "p", Kind("opus", True), first=1.0, whole=1.0)
latencies.write()
"""


def note(number: int) -> None:
    from leasecap._feedback.latency import Kind

    for _ in range(number):
        latencies.note(os.environ["LEASECAP_HOME"], "p", Kind("opus", True), first=1.0, whole=1.0)


def test_while_a_writer_stands_still_requests_and_exits_go_on(root: Path, kind: str) -> None:
    configure(root, kind)
    with helper(STOPPED) as writer:
        assert writer.hear() == "inside"
        leasecap.acquire("p").release()
        note(3)
        began = time.monotonic()
        latencies.end()
        assert time.monotonic() - began < 20, "what is left can't be written, and nobody waits for that"
        assert counted() == 0
        writer.say()
        writer.process.wait(60)
    latencies.end()
    assert counted() == 4


def test_a_writer_that_dies_inside_keeps_nobody_out(root: Path, kind: str) -> None:
    configure(root, kind)
    with helper(STOPPED) as writer:
        assert writer.hear() == "inside"
        writer.process.kill()
        writer.process.wait()
    leasecap.acquire("p").release()
    note(3)
    latencies.end()
    assert counted() == 3


FORKING = """
import os, sys, threading, time, leasecap
from leasecap._feedback.latency import Kind
from leasecap._file_store import latency_files
from leasecap._latency import latencies
root = os.environ["LEASECAP_HOME"]
encode = latency_files.encode
inside, go_on = threading.Event(), threading.Event()
def slowly(table):
    inside.set()
    go_on.wait()
    return encode(table)
latency_files.encode = slowly
leasecap.acquire("p").release()
latencies.note(root, "p", Kind("opus", True), first=1.0, whole=1.0)
threading.Thread(target=latencies.write, daemon=True).start()
inside.wait()
latencies.note(root, "p", Kind("opus", True), first=1.0, whole=1.0)
child = os.fork()
if not child:
    latency_files.encode = encode
    latencies.end()  # nothing of the parent's
    latencies.note(root, "p", Kind("child", True), first=1.0, whole=1.0)
    print("child")
    sys.stdin.readline()
    latencies.end()
    os._exit(0)
os.waitpid(child, 0) if sys.argv[1] == "wait" else time.sleep(60)
go_on.set()
"""


@pytest.mark.posix("fork")
def test_a_forks_child_writes_its_own_alone(root: Path) -> None:
    configure(root, "os")
    with helper(FORKING, "wait") as parent:
        assert parent.hear() == "child"
        parent.say()
        parent.process.wait(60)
    found = leasecap.status("p", latency=True).pools[0].latency or ()
    assert {row.model: row.first_byte.n for row in found} == {"opus": 2}, "the lock was the parent's all the time"


@pytest.mark.posix("fork")
def test_a_forks_child_keeps_no_lock_of_a_parent_that_dies(root: Path) -> None:
    configure(root, "os")
    with helper(FORKING, "die") as parent:
        assert parent.hear() == "child"
        parent.process.kill()
        parent.process.wait()
        note(3)  # while the child lives
        leasecap.acquire("p").release()
        latencies.end()
        assert counted() == 3
        parent.say()
    until(lambda: counted() == 4)


EXITING = """
import leasecap
with leasecap.slot("p") as lease:
    lease.report(200, ttfb=0.25)
"""


def test_what_is_left_is_written_when_the_process_ends(root: Path) -> None:
    configure(root, "auto")
    with helper(EXITING) as process:
        assert process.process.wait(60) == 0
    [row] = leasecap.status("p", latency=True).pools[0].latency or ()
    assert (row.model, row.first_byte.n, row.first_byte.max, row.whole_answer.n) == ("", 1, 0.25, 0)


def test_leasecap_report_is_counted_and_shown(root: Path) -> None:
    configure(root, "auto")
    assert run("report", "p", "--ttfb", "3.5").returncode == 0
    assert run("report", "p", "--status", "429", "--ttfb", "3.5").returncode == 0
    shown = run("status", "--latency", "p").stdout
    assert "(model not known), streamed\n" in shown and "first byte  1  0      3.5s  3.5s  3.5s  3.5s\n" in shown
    assert "  end  " not in shown
    assert status_json()["pools"][0]["latency"] is None


def test_a_corrupt_file_is_shown_and_fails_nothing(root: Path) -> None:
    configure(root, "auto")
    assert run("report", "p", "--ttfb", "3.5").returncode == 0
    [file] = root.glob("pools/*/latency/*.json")
    file.write_text('{"version": 1, "rows": [{"model": 7}]}')
    for option in ((), ("--latency",)):
        shown = run("status", *option)
        assert shown.returncode == 0 and f"{file} holds a row of no kind" in shown.stdout
    said = run("report", "p", "--ttfb", "2").stderr
    assert str(file) in said and "moved to" in said
    assert counted_first() == 1


def counted_first() -> int:
    return sum(row.first_byte.n for row in leasecap.status("p", latency=True).pools[0].latency or ())


FORKING_AFTER = """
import os, sys, warnings, leasecap
warnings.simplefilter("error")
with leasecap.slot("p") as lease:
    lease.report(200, ttfb=0.25)
child = os.fork()
if not child:
    os._exit(0)
os.waitpid(child, 0)
print(sum(row.first_byte.n for row in leasecap.status("p", latency=True).pools[0].latency))
"""


@pytest.mark.linux("elsewhere Python can't tell that there is a thread")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python warns of a fork beside threads from 3.12 on")
def test_before_a_fork_what_was_noted_is_written_and_the_thread_ends(root: Path) -> None:
    configure(root, "auto")
    with helper(FORKING_AFTER) as process:
        assert process.hear() == "1"
