"""Held too long: `leasecap run` ends its command, the library is told, and with `force` the slot goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import has_ended
from commands import PROGRAM, environment, run, start, status, until
from places import REPOSITORY
from referee import Team
from terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from referee import Worker

# Holds a slot until it is told, and says what it learns of the lease.
HOLDER = """
told = lambda lease: say("TOLD", bool(lease.expired), bool(lease.lost))
lease = leasecap.acquire("p", on_lost=told, max_hold=float(sys.argv[1]) if len(sys.argv) > 1 else leasecap.UNSET)
say("HELD")
hear()
lease.release()
say("RELEASED", bool(lease.expired), bool(lease.lost))
hear()
"""
IGNORES_TERM = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    with Team(tmp_path) as team:
        yield team


def configure(root: Path, *lines: str) -> None:
    root.mkdir(mode=0o700, exist_ok=True)
    (root / "config.toml").write_text("\n".join(("[pools.p]", "limit = 1", *lines)))


# -- the command of `leasecap run` ------------------------------------------------------------------------------------


def test_a_command_that_is_over_its_time_gets_term_and_leasecap_exits_with_124_and_says_so(root: Path) -> None:
    configure(root)
    done = run("run", "-p", "p", "--max-hold", "3s", "--", "sh", "-c", "echo $$; exec sleep 600")
    assert done.returncode == 124
    said = f"held too long (max_hold is 3.0s): pid {done.stdout.strip()} gets TERM, and KILL in 10s"
    assert done.stderr == f"leasecap: {said}\n"
    assert status().in_flight == 0


def test_a_command_that_ignores_term_is_killed_after_the_time_for_that(root: Path) -> None:
    configure(root)
    done = run("run", "-p", "p", "--max-hold", "3", "--kill-after", "0.1", "--", "sh", "-c", f"echo $$; {IGNORES_TERM}")
    assert done.returncode == 124
    assert re.search(r"gets TERM, and KILL in 0.1s\n.*still runs: it gets KILL\n$", done.stderr)
    assert has_ended(int(done.stdout.split()[0]))
    assert status().in_flight == 0


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_that_ends_well_when_told_is_124_all_the_same(root: Path, code: int) -> None:
    configure(root)
    script = f"trap 'echo told; exit {code}' TERM; while :; do sleep 0.05; done"
    done = run("run", "-p", "p", "--max-hold", "3", "--", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (124, "told\n")


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -TERM $$", -15)])
def test_a_command_that_ends_in_time_keeps_its_own_status(root: Path, script: str, code: int) -> None:
    configure(root, 'max_hold = "1h"')
    done = run("run", "-p", "p", "--max-hold", "30m", "--kill-after", "0", "--", "sh", "-c", script)
    assert (done.returncode, done.stderr) == (code, "")


def test_the_time_is_the_pools_and_an_option_goes_before_it(root: Path) -> None:
    configure(root, 'max_hold = "200ms"', "kill_after = 0")
    by_configuration = run("run", "-p", "p", "--", "sleep", "600")
    assert by_configuration.returncode == 124
    assert "max_hold is 0.2s" in by_configuration.stderr
    longer = run("run", "-p", "p", "--max-hold", "1h", "--", "sh", "-c", "sleep 0.5; exit 3")
    assert (longer.returncode, longer.stderr) == (3, "")
    patient = run(
        "run", "-p", "p", "--kill-after", "1h", "--", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"
    )
    assert patient.returncode == 124
    assert "KILL in 1h00m" in patient.stderr


def test_the_time_in_the_queue_does_not_count(root: Path) -> None:
    configure(root)
    holder = start("run", "-p", "p", "--", "sh", "-c", "echo ready; exec sleep 600")
    assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
    waiter = start("run", "-p", "p", "--max-hold", "30", "--", "sh", "-c", "exit 3")
    quick = start("run", "-p", "p", "--max-hold", "0.01", "--", "sleep", "600")
    until(lambda: status().waiting == 2)
    holder.terminate()
    holder.communicate(timeout=60)
    waiter.communicate(timeout=60)
    quick.communicate(timeout=60)
    assert (waiter.returncode, quick.returncode) == (3, 124)


def test_a_stopped_command_is_continued_so_that_it_can_take_its_term(root: Path) -> None:
    # Without a terminal: nobody would continue a leasecap that stopped as its command did. Its group must not be an
    # orphaned one, in which nobody is stopped.
    configure(root)
    script = "trap 'echo told; exit 0' TERM; kill -STOP $$; while :; do sleep 0.05; done"
    ours = [*PROGRAM, "run", "-p", "p", "--max-hold", "3", "--kill-after", "1h", "--", "sh", "-c", script]
    leader = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:], process_group=0))"
    done = subprocess.run(
        [sys.executable, "-c", leader, *ours],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (124, "told\n")


def test_on_a_terminal_a_stopped_job_stays_stopped_and_is_ended_when_it_goes_on(root: Path) -> None:
    configure(root)
    terminal = Terminal({**os.environ, "PYTHONPATH": str(REPOSITORY)})
    try:
        # What Ctrl-Z does, at once: the time begins with the grant.
        script = "kill -TSTP 0; exec sleep 600"
        terminal.type(f"{sys.executable} -m leasecap run -p p --max-hold 3s -- sh -c '{script}'\n")
        terminal.expect("Stopped")
        until(lambda: status().holders[0].over_max_hold is not None)
        terminal.type("fg; echo status-$?\n")
        terminal.expect("held too long")
        terminal.expect("status-124")
    finally:
        terminal.close()


def test_signals_are_passed_on_while_the_command_ends(root: Path) -> None:
    configure(root)
    script = "trap 'echo term' TERM; trap 'echo usr1; exit 0' USR1; echo ready; while :; do sleep 0.05; done"
    wrapper = start("run", "-p", "p", "--max-hold", "3", "--kill-after", "1h", "--", "sh", "-c", script)
    assert wrapper.stdout is not None
    assert [wrapper.stdout.readline() for _ in "12"] == ["ready\n", "term\n"]
    wrapper.send_signal(signal.SIGUSR1)
    assert wrapper.communicate(timeout=60)[0] == "usr1\n"
    assert wrapper.returncode == 124


def test_runs_nested_in_each_other_end_with_the_innermost_told(root: Path) -> None:
    configure(root)
    inner = [*PROGRAM, "run", "-p", "p", "--", "sh", "-c", "echo $$; exec sleep 600"]
    outer = run("run", "-p", "p", "--max-hold", "2s", "--", *inner)
    assert outer.returncode == 124
    assert all(has_ended(int(pid)) for pid in outer.stdout.split())
    inner[6:6] = ["--max-hold", "0.2"]
    both = run("run", "-p", "p", "--max-hold", "1h", "--", *inner)
    assert both.returncode == 124
    assert both.stderr.count("held too long") == 1
    assert status().in_flight == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--max-hold", "0"], "more than 0"),
        (["--max-hold", "soon"], "soon"),
        (["--max-hold", "-1"], "-1"),
        (["--max-hold", "nan"], "nan"),
        (["--kill-after", "soon"], "soon"),
        (["--max-hold"], "--max-hold"),
    ],
)
def test_what_is_no_time_is_refused(root: Path, options: list[str], says: str) -> None:
    configure(root)
    done = run("run", "-p", "p", *options, "--", "echo", "never")
    assert (done.returncode, done.stdout) == (125, "")
    assert says in done.stderr


def test_a_bad_value_in_the_configuration_runs_nothing(root: Path) -> None:
    configure(root, "max_hold = 0")
    done = run("run", "-p", "p", "--", "echo", "never")
    assert (done.returncode, done.stdout) == (125, "")
    assert "config.toml:3: pools.p.max_hold = 0" in done.stderr


# -- never: it counts for as long as it works -----------------------------------------------------------------------


def test_without_force_a_stopped_holder_keeps_its_slot_and_status_says_that_it_is_over(root: Path, team: Team) -> None:
    configure(root, "max_hold = 0.2", "kill_after = 0")
    holder = team.start(HOLDER)
    holder.expect("HELD")
    holder.stop()
    until(lambda: (status().holders[0].over_max_hold or 0) > 2)  # more than the second that a KILL would have
    assert status().holders[0].max_hold == 0.2
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 75
    assert re.search(r"lock held; stopped; over max_hold by \d", run("status").stdout)
    holder.go_on()
    assert holder.expect("TOLD") == "True False"
    holder.tell()
    assert holder.expect("RELEASED") == "True False"
    assert status().in_flight == 0


# -- force: the slot is given away ------------------------------------------------------------------------------------


def waiter_of(team: Team) -> Worker:
    """One that keeps the slot once it has it."""
    return team.start(HOLDER, 3600)


@pytest.mark.parametrize("lock", ["os", "directory"])
def test_a_stopped_holders_slot_is_given_away_and_it_learns_that_when_it_goes_on(
    root: Path, team: Team, lock: str
) -> None:
    configure(root, "max_hold = 2", "kill_after = 0", 'reclaim = "force"', f'lock = "{lock}"')
    (root / "config.toml").write_text((root / "config.toml").read_text() + "\nheartbeat = 0.5")
    holder = team.start(HOLDER)
    holder.expect("HELD")
    holder.stop()
    waiter = waiter_of(team)
    waiter.expect("HELD")
    assert f"pid {holder.pid}" in waiter.errors()
    assert "over its max_hold of 2.0s, was given away" in waiter.errors()
    holder.go_on()
    holder.expect("TOLD")
    holder.tell()
    assert holder.expect("RELEASED") == "True True"
    assert [one.pid for one in status().holders] == [waiter.pid]


def test_who_does_not_wait_has_the_slot_of_one_that_is_stopped(root: Path, team: Team) -> None:
    configure(root, "max_hold = 2", "kill_after = 0", 'reclaim = "force"')
    holder = team.start(HOLDER)
    holder.expect("HELD")
    holder.stop()
    until(lambda: (status().holders[0].over_max_hold or 0) > 1)
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 0


def test_a_holder_that_runs_gives_its_slot_away_itself_and_is_told_once(root: Path, team: Team) -> None:
    configure(root, "max_hold = 0.2", "kill_after = 0", 'reclaim = "force"')
    holder = team.start(HOLDER)
    holder.expect("HELD")
    assert holder.expect("TOLD") == "True False"
    until(lambda: status().in_flight == 0)  # `status` sweeps nothing
    holder.tell()
    assert holder.expect("RELEASED") == "True True"
    until(lambda: "was taken" in holder.errors())


def test_a_slot_given_away_is_handed_on_at_once(root: Path, team: Team) -> None:
    configure(root, "max_hold = 0.5", "kill_after = 0", 'reclaim = "force"')
    holder = team.start(HOLDER)
    holder.expect("HELD")
    waiter = waiter_of(team)
    holder.expect("TOLD")
    waiter.expect("HELD")


def test_a_slot_taken_for_a_process_is_given_away_since_nobody_gives_it_back(root: Path) -> None:
    configure(root, "max_hold = 0.2", "kill_after = 0", 'reclaim = "force"')
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as agent:
        assert run("acquire", "-p", "p", "--for-pid", str(agent.pid)).returncode == 0
        done = run("run", "-p", "p", "-w", "60", "--", "echo", "next")
        assert done.stdout == "next\n"
        assert f"pid {agent.pid} (cat)" in done.stderr


def test_a_stopped_run_whose_slot_was_given_away_says_so_and_ends_its_command_when_it_goes_on(root: Path) -> None:
    configure(root, "kill_after = 0.2", 'reclaim = "force"', "heartbeat = 0.5")
    # It stops leasecap itself, at once: the time begins with the grant.
    script = "trap '' TERM; kill -STOP $PPID; echo $$; while :; do sleep 0.05; done"
    wrapper = start("run", "-p", "p", "--max-hold", "3s", "--", "sh", "-c", script)
    assert wrapper.stdout is not None
    child = int(wrapper.stdout.readline())
    done = run("run", "-p", "p", "-w", "60", "--", "echo", "next")
    assert (done.returncode, done.stdout) == (0, "next\n")
    assert not has_ended(child)
    wrapper.send_signal(signal.SIGCONT)
    _, err = wrapper.communicate(timeout=60)
    assert wrapper.returncode == 124
    assert has_ended(child)
    assert "gets TERM" in err
    assert "gets KILL" in err
    assert "was taken" in err
    assert "runs on" not in err
