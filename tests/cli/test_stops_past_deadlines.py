"""`leasecap run` that is stopped for longer than it meant to wait: nothing is made up, and nothing comes at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from children import await_stop
from commands import environment, start, status, until

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STOP = 1.0  # seconds; the waits below end in that time

# Waits once, for less time than it will be stopped, and then says what came.
WAITS = """
import signal, sys
from leasecap.cli._signals import SignalGate
gate = SignalGate()
WAIT
"""
QUEUED = "print('READY', flush=True); gate.wait(0.3); print('NOTHING')"
RUNNING = "print('READY', flush=True); taken = gate.take(0.3); print(taken and taken.signum)"


@pytest.fixture(params=[signal.SIGSTOP, signal.SIGTSTP], ids=lambda signum: signum.name)
def stop(request: pytest.FixtureRequest) -> signal.Signals:
    return signal.Signals(request.param)


@pytest.fixture
def pool(root: Path) -> Iterator[None]:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.p]\nlimit = 1\n")
    yield


def stop_for(process: subprocess.Popen[str], seconds: float, signum: int = signal.SIGSTOP) -> None:
    process.send_signal(signum)
    await_stop(process.pid)
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end)
    process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(("wait", "allowed"), [(QUEUED, {"NOTHING"}), (RUNNING, {"None", str(int(signal.SIGCONT))})])
def test_wait_makes_up_no_signal_when_it_is_stopped_past_its_end(wait: str, allowed: set[str]) -> None:
    code = WAITS.replace("WAIT", wait)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], env=environment(), stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "READY\n"
        stop_for(process, STOP)
        assert process.stdout.read().strip() in allowed
    assert process.returncode == 0


def test_waiter_stopped_past_its_looks_goes_on_to_wait(pool: None, stop: signal.Signals) -> None:
    holder = leasecap.acquire("p")
    waiter = start("run", "-p", "p", "--", "echo", "ran", process_group=0)
    until(lambda: status().waiting == 1)
    for _ in range(3):
        stop_for(waiter, STOP, stop)
    holder.release()
    assert waiter.communicate(timeout=60)[0] == "ran\n"
    assert waiter.returncode == 0


@pytest.mark.parametrize("kill_after", ["20s", "4s"])
def test_command_gets_its_grace_when_leasecap_was_stopped_past_the_end(pool: None, kill_after: str) -> None:
    # With 4 s the stop is longer than both together: TERM comes late, and KILL 4 s after that.
    script = "trap 'sleep 0.1; echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    wrapper = start("run", "-p", "p", "--max-hold", "3", "--kill-after", kill_after, "--", "sh", "-c", script)
    assert wrapper.stdout is not None
    assert wrapper.stdout.readline() == "ready\n"
    stop_for(wrapper, 8.0 if kill_after == "4s" else 4.0)
    out, err = wrapper.communicate(timeout=60)
    assert (wrapper.returncode, out) == (124, "told\n")
    assert "gets KILL" not in err


def test_alarm_set_before_an_exec_reaches_the_command(pool: None) -> None:
    for seconds in (2, 10, 30):  # it may ring before the command listens
        found = with_alarm("trap 'echo rang; exit 4' ALRM; echo ready; while :; do sleep 0.05; done", seconds)
        if found[1]:
            break
    assert found == (4, "ready\nrang\n")


def test_alarm_set_before_an_exec_ends_the_wait(pool: None) -> None:
    with leasecap.slot("p"):
        assert with_alarm("echo ran") == (-signal.SIGALRM, "")
        until(lambda: status().waiting == 0)


def with_alarm(script: str, seconds: int = 2) -> tuple[int, str]:
    # As `perl -e 'alarm 60; exec @ARGV'` does. It waits for longer than a single look, so the timer is used meanwhile.
    code = f"import os, signal, sys; signal.alarm({seconds}); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    argv = [sys.executable, "-c", code, "-m", "leasecap", "run", "-q", "-p", "p", "--max-hold", "1h", "--"]
    done = subprocess.run([*argv, "sh", "-c", script], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout
