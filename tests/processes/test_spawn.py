"""`leasecap run` killed at each step round the start of its command: the record is enough at every instant."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import environment, run, status, until
from places import IMPORTABLE

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Runs `leasecap run` and kills it ahead of the line with this number, counted from the moment at which it has a slot.
WRAPPER = """
import os, signal, sys
from leasecap.cli import main, run
step, sys.argv[1:] = int(sys.argv[1]), sys.argv[2:]
us, seen = os.getpid(), 0

def trace(frame, event, arg):
    global seen, step
    if frame.f_code.co_name == "supervise":
        step = 0  # it runs: no step is left
    if "leasecap" not in frame.f_code.co_filename:
        return None
    if event == "line" and os.getpid() == us:
        seen += 1
        if seen == step:
            os.kill(us, signal.SIGKILL)
    return trace

def watched(*arguments, begin=run._run):
    sys.settrace(trace)
    return begin(*arguments)

run._run = watched
main.main()
"""

# Closes what it inherits, as sudo and daemons do, says that it runs, and runs until it is told to end.
COMMAND = """
import os, sys, time
os.closerange(0, 256)
os.close(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT))
while not os.path.exists(sys.argv[2]):
    time.sleep(0.02)
"""
STRIDE = 3
"""Of the lines one in so many: each takes a good half second."""


class Wrapper:
    def __init__(self, directory: Path, step: int) -> None:
        self.ran, self._stop = directory / f"ran-{step}", directory / f"stop-{step}"
        command = (sys.executable, "-ISE", "-c", COMMAND, str(self.ran), str(self._stop))
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRAPPER, str(step), "run", "-p", "p", "--", *command], env=environment()
        )

    def end_command(self) -> None:
        self._stop.touch()


@pytest.fixture
def pool(root: Path) -> None:
    """One whose heartbeats would be of no help."""
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.p]\nlimit = 1\nstale_after = 60\nheartbeat = 20\n")


def steps() -> Iterator[int]:
    step = 1
    while True:
        yield step
        step += STRIDE


@pytest.mark.long
@pytest.mark.usefixtures("pool")
def test_a_wrapper_killed_at_any_step_leaves_its_command_or_a_free_slot(tmp_path: Path) -> None:
    before = after = 0
    for step in steps():
        wrapper = Wrapper(tmp_path, step)
        until(lambda: wrapper.ran.exists() or wrapper.process.poll() is not None)  # noqa: B023
        if wrapper.process.poll() is None:  # it may still be about to be killed, and is if there is such a step
            try:
                wrapper.process.wait(10)
            except subprocess.TimeoutExpired:
                wrapper.end_command()
                assert wrapper.process.wait(30) == 0
                break
        assert wrapper.process.returncode == -signal.SIGKILL
        began = time.monotonic()
        while (lease := leasecap.try_acquire("p")) is None and not wrapper.ran.exists():
            assert time.monotonic() < began + 30, f"step {step}: the slot is lost, and the command doesn't run"
            time.sleep(0.01)
        if lease is not None:
            time.sleep(0.25)  # for a command that started all the same
            assert not wrapper.ran.exists(), f"step {step}: the slot was granted beside the command"
            lease.release()
            before += 1
        else:
            for _ in range(20):
                assert leasecap.try_acquire("p") is None, f"step {step}: the slot was granted beside the command"
                time.sleep(0.01)
            wrapper.end_command()
            leasecap.acquire("p", timeout=30).release()
            after += 1
    assert before > 5 and after > 1, (before, after)


@pytest.mark.usefixtures("pool")
def test_a_pid_that_can_not_be_noted_starts_nothing(root: Path, tmp_path: Path) -> None:
    code = """
import errno, os, sys
from leasecap.cli import main
from leasecap._host.directory import Directory
replace = Directory.replace
def full(self, name, data):
    if name.endswith("info.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    replace(self, name, data)
Directory.replace = full
main.main()
"""
    ran = tmp_path / "ran"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "-p", "p", "--", "touch", str(ran)],
        env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, ran.exists()) == (125, False)
    assert "free some space" in done.stderr
    assert "Traceback" not in done.stderr
    assert status().in_flight == 0


@pytest.mark.usefixtures("pool")
def test_the_command_is_noted_before_it_runs() -> None:
    code = "import os, sys; print(os.getpid(), flush=True); os.execvp(sys.argv[1], sys.argv[1:])"
    show = (sys.executable, "-m", "leasecap", "status", "--json")
    done = run("run", "-p", "p", "--", sys.executable, "-ISc", code, *show)
    pid, _, shown = done.stdout.partition("\n")
    assert f'"child": {pid}' in shown


@pytest.mark.usefixtures("pool")
def test_no_warning_of_a_fork_reaches_anybody() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "leasecap", "run", "-p", "p", "--", "true"],
        env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("pool")
def test_a_command_killed_before_it_runs_is_seen_to_end_by_that_signal(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from children import await_exit
from leasecap.cli import main
from leasecap._lease import Lease
note_child = Lease.note_child
def killed(self, child):
    note_child(self, child)
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    await_exit(child.pid)
Lease.note_child = killed
main.main()
"""
    ran = tmp_path / "ran"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "-p", "p", "--", "touch", str(ran)],
        env=environment(PYTHONPATH=IMPORTABLE), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr, ran.exists()) == (-signal.SIGKILL, "", False)
    assert status().in_flight == 0


@pytest.mark.usefixtures("pool")
def test_ctrl_c_while_the_command_is_about_to_run_is_the_commands(tmp_path: Path) -> None:
    # A key signals the whole group, so the child has it pending until it is the command.
    code = """
import os, signal, sys
from leasecap.cli import main
from leasecap._lease import Lease
note_child = Lease.note_child
def interrupted(self, child):
    note_child(self, child)
    assert child.pid
    os.kill(child.pid, signal.SIGINT)
Lease.note_child = interrupted
main.main()
"""
    ran = tmp_path / "ran"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "-p", "p", "--", "sh", "-c", f"sleep 1; touch {ran}"],
        env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr, ran.exists()) == (-signal.SIGINT, "", False)
