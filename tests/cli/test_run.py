"""`leasecap run` from end to end: the cap, exit statuses, signals, borrowing, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import await_stop, has_ended
from commands import PROGRAM, environment, run, start, status, until

import leasecap

READY = "echo ready; exec sleep 600"


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)


def hold(*options: str, script: str = READY) -> subprocess.Popen[str]:
    """A wrapper whose command has started."""
    wrapper = start("run", "-p", "p", "--limit", "1", *options, "--", "sh", "-c", script)
    assert wrapper.stdout is not None
    assert wrapper.stdout.readline() == "ready\n"
    return wrapper


def kill_alone(wrapper: subprocess.Popen[str]) -> int:
    """SIGKILL for the wrapper; returns the pid of the command, which runs on and has the pipes still open."""
    until(lambda: status().holders[0].child is not None)  # it may say something before its wrapper has noted its pid
    child = status().holders[0].child
    assert child is not None
    wrapper.kill()
    wrapper.wait()
    return child


def finish(wrapper: subprocess.Popen[str], signum: int = signal.SIGTERM) -> tuple[int, str, str]:
    wrapper.send_signal(signum)
    out, err = wrapper.communicate(timeout=60)
    return wrapper.returncode, out, err


def test_the_command_gets_its_arguments_verbatim_and_its_streams() -> None:
    argv = ["sh", "-c", 'cat; echo "$1" >&2', "sh", "a  b; $(false) *"]
    done = run("run", "-p", "p", "--limit", "1", "--", *argv, input="typed", stdin=None)
    assert (done.returncode, done.stdout, done.stderr) == (0, "typed", "a  b; $(false) *\n")


def test_options_after_the_command_are_the_commands() -> None:
    assert run("run", "-p", "p", "--limit", "1", "echo", "-n", "--", "-v").stdout == "-- -v"


@pytest.mark.parametrize("code", [0, 1, 75, 125, 255])
def test_the_exit_status_is_the_commands(code: int) -> None:
    assert run("run", "-p", "p", "--limit", "1", "--", "sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGINT])
def test_it_dies_of_the_signal_that_ended_the_command(signum: int) -> None:
    assert run("run", "-p", "p", "--limit", "1", "--", "sh", "-c", f"kill -{signum} $$").returncode == -signum
    assert status().in_flight == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["-p", "p", "--limit", "1", "--", "no-such-command-here"], 127, "not found"),
        (["-p", "p", "--limit", "1", "--", "/"], 126, "directory"),
        (["-p", "p", "--", "true"], 125, "leasecap limit p 4"),
        (["--", "true"], 125, "name one with -p POOL"),
        (["-p", "p", "--limit", "0", "--", "true"], 125, "from 1 to 1000000"),
        (["-p", "p", "--limit", "1000001", "--", "true"], 125, "from 1 to 1000000"),
        (["-p", "p", "--limit", "2.5", "--", "true"], 125, "whole number"),
        (["-p", "p", "-w", "soon", "--", "true"], 125, "soon"),
        (["-p", "p", "-w", "1", "-n", "--", "true"], 125, "not both"),
        (["-p", "..", "--limit", "1", "--", "true"], 125, ".."),
        (["-p", "", "--limit", "1", "--", "true"], 125, "pool"),
        (["-p", "--", "true"], 125, "-p needs the name of a pool, and -- comes after it"),
        (["-p", "-n", "--limit", "1", "--", "true"], 125, "-p needs the name of a pool, and -n comes after it"),
        (["-p", "p", "--limit", "1", "--nonsense", "--", "true"], 125, "--nonsense"),
        (["-p", "p", "--limit", "1"], 125, "CMD"),
    ],
)
def test_what_is_wrong_is_said_and_told_apart_by_the_status(arguments: list[str], code: int, says: str) -> None:
    done = run("run", *arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
    assert all(pool.in_flight == 0 for pool in leasecap.status().pools)


def test_leasecap_wait_is_the_time_to_wait_when_none_is_given() -> None:
    holder = hold()
    assert run("run", "-p", "p", "--limit", "1", "--", "true", env=environment(LEASECAP_WAIT="50ms")).returncode == 75
    wrong = run("run", "-p", "p", "--limit", "1", "--", "true", env=environment(LEASECAP_WAIT="soon"))
    assert wrong.returncode == 125
    assert "LEASECAP_WAIT" in wrong.stderr
    finish(holder)


def test_the_pool_comes_from_the_option_the_commands_table_the_environment_and_the_defaults(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text('[defaults]\nlimit = 1\npool = "by-default"\n[commands]\nsh = "by-command"\n')
    ask = ["sh", "-c", "echo $LEASECAP_POOL"]
    assert run("run", "-p", "by-option", "--", *ask).stdout == "by-option\n"
    assert run("run", "--", *ask, env=environment(LEASECAP_POOL="by-environment")).stdout == "by-command\n"
    ask[:1] = ["env", "sh"]
    assert run("run", "--", *ask, env=environment(LEASECAP_POOL="by-environment")).stdout == "by-environment\n"
    assert run("run", "--", *ask).stdout == "by-default\n"


def test_killing_the_wrapper_alone_keeps_the_slot_until_the_command_ends(fifo: str) -> None:
    wrapper = hold(script=f"echo ready; read line < {fifo}")
    child = kill_alone(wrapper)
    assert status().holders[0].alive
    assert run("run", "-p", "p", "--limit", "1", "-n", "--", "true").returncode == 75
    Path(fifo).write_text("go\n")
    until(lambda: has_ended(child))
    assert run("run", "-p", "p", "--limit", "1", "-n", "--", "true").returncode == 0
    wrapper.communicate()


def test_a_command_that_closes_what_it_inherited_keeps_the_slot_by_its_pid(fifo: str) -> None:
    closing = f"import os; os.closerange(3, 300); print('ready', flush=True); open({fifo!r}).read()"
    wrapper = start("run", "-p", "p", "--limit", "1", "--", sys.executable, "-c", closing)
    assert wrapper.stdout is not None
    assert wrapper.stdout.readline() == "ready\n"
    child = kill_alone(wrapper)
    assert run("run", "-p", "p", "--limit", "1", "-n", "--", "true").returncode == 75
    Path(fifo).write_text("go\n")
    until(lambda: has_ended(child))
    assert run("run", "-p", "p", "--limit", "1", "-n", "--", "true").returncode == 0
    wrapper.communicate()


def test_a_daemon_that_the_command_left_behind_does_not_keep_the_slot(fifo: str) -> None:
    # The daemon inherits the descriptor of the liveness lock and holds on to it; the fifo tells that it lives.
    daemon = f"(exec >/dev/null 2>&1; read line < {fifo}) & echo ready"
    wrapper = start("run", "-p", "p", "--limit", "1", "--", "sh", "-c", daemon)
    assert wrapper.communicate(timeout=60)[0] == "ready\n"
    assert run("run", "-p", "p", "--limit", "1", "-n", "--", "true").returncode == 0
    Path(fifo).write_text("go\n")


def test_a_daemon_left_by_a_killed_wrapper_does_not_keep_the_slot(fifo: str) -> None:
    wrapper = hold(script=f"(exec >/dev/null 2>&1; read line < {fifo}) & echo ready; exec sleep 600")
    child = kill_alone(wrapper)
    os.kill(child, signal.SIGKILL)
    wrapper.communicate(timeout=60)
    until(lambda: has_ended(child))
    assert run("run", "-p", "p", "--limit", "1", "-n", "--", "true").returncode == 0
    Path(fifo).write_text("go\n")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_while_queued_withdraws_the_ticket_and_is_died_of(signum: int) -> None:
    holder = hold()
    waiter = start("run", "-p", "p", "--limit", "1", "--", "echo", "never")
    until(lambda: status().waiting == 1)
    code, out, _ = finish(waiter, signum)
    assert (code, out) == (-signum, "")
    assert status().waiting == 0
    finish(holder)


def test_a_waiter_stopped_at_the_head_lets_the_next_one_pass_and_gets_its_turn(fifo: str) -> None:
    holder = hold()
    # A group of its own: in an orphaned one, as under setsid(1), POSIX has SIGTSTP do nothing.
    stopped = start("run", "-p", "p", "--limit", "1", "--", "echo", "stopped-one", process_group=0)
    until(lambda: status().waiting == 1)
    stopped.send_signal(signal.SIGTSTP)
    await_stop(stopped.pid)
    behind = start("run", "-p", "p", "--limit", "1", "--", "sh", "-c", f"echo ready; read line < {fifo}")
    until(lambda: status().waiting == 2)
    finish(holder)
    assert behind.stdout is not None
    assert behind.stdout.readline() == "ready\n"
    assert [(waiter.state, waiter.position) for waiter in status().waiters] == [("stopped", 1)], "it keeps its place"
    stopped.send_signal(signal.SIGCONT)
    Path(fifo).write_text("go\n")
    assert stopped.communicate(timeout=60)[0] == "stopped-one\n"
    behind.communicate(timeout=60)


@pytest.mark.parametrize("depth", [2, 5])
def test_runs_nested_in_each_other_borrow_the_one_slot(depth: int) -> None:
    argv = ["echo", "innermost"]
    for _ in range(depth):
        argv = [*PROGRAM, "run", "-p", "p", "--limit", "1", "-w", "60", "--", *argv]
    assert subprocess.run(argv, env=environment(), capture_output=True, text=True).stdout == "innermost\n"


def test_a_in_b_in_a_finds_the_outer_a() -> None:
    argv = ["echo", "innermost"]
    for pool in ("a", "b", "a"):
        argv = [*PROGRAM, "run", "-p", pool, "--limit", "1", "-w", "60", "--", *argv]
    assert subprocess.run(argv, env=environment(), capture_output=True, text=True).stdout == "innermost\n"


def test_who_waits_for_its_own_parent_is_told() -> None:
    inner = ["env", "-u", "LEASECAP_LEASE", *PROGRAM, "run", "-p", "p", "--limit", "1", "-w", "5", "--", "true"]
    done = run("run", "-p", "p", "--limit", "1", "--", *inner)
    assert done.returncode == 75
    assert "is a parent of this process" in done.stderr


def test_verbose_says_when_the_slot_came_and_how_the_command_ended() -> None:
    said = run("run", "-v", "-p", "p", "--limit", "1", "--", "sh", "-c", "exit 3").stderr
    assert "leasecap: p: slot " in said
    assert "leasecap: ended with status 3" in said


def test_a_key_in_the_command_line_is_never_written_down(root: Path) -> None:
    key = "sk-ant-api03-" + "x1Y2z3" * 8
    holder = start("run", "-p", "p", "--limit", "1", "--", "sh", "-c", READY, "sh", f"--api-key={key}")
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    written = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert key.encode() not in written
    assert key not in run("status").stdout
    assert "***" in run("status").stdout
    finish(holder)


def test_a_root_that_cannot_be_written_fails_the_run_and_not_the_status(root: Path) -> None:
    run("run", "-p", "p", "--limit", "1", "--", "true")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("needs a mount namespace of its own (unshare -m)")
    program = " ".join(PROGRAM)
    script = (
        f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && "
        f"{program} run -p p --limit 1 -- echo ran; echo $?; {program} status --json"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], env=environment(), capture_output=True, text=True)
    code, _, rest = done.stdout.partition("\n")
    assert code == "125", done.stderr
    assert json.loads(rest)["pools"][0]["in_flight"] == 0
    assert "read-only" in done.stderr.lower()
    assert "LEASECAP_HOME" in done.stderr


def test_a_relative_root_is_refused(root: Path) -> None:
    done = run("run", "-p", "p", "--limit", "1", "--", "true", env=environment(LEASECAP_HOME="some/where"))
    assert done.returncode == 125
    assert "absolute" in done.stderr
