"""`leasecap acquire` and `release` as an agent's hooks call them: in no pairs, at once, and from shells."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import await_stop
from commands import PROGRAM, environment, run, start, status, until
from referee import stop_outside

import leasecap
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Agent = subprocess.Popen[str]

LEASECAP = shlex.join(PROGRAM)

# Runs each line that it is told by `sh -c`, as agents run their hooks, and answers with the status and the output.
AGENT = """
import subprocess, sys
for line in sys.stdin:
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    print([done.returncode, done.stdout.strip(), done.stderr.strip()], flush=True)
"""


@pytest.fixture(autouse=True)
def limit_of_one(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.p]\nlimit = 1\n")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    program = tmp_path / "someagent.py"
    program.write_text(AGENT)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, program], stdin=pipe, stdout=pipe, text=True, env=environment()) as process:
        yield process
        process.kill()


def hook(agent: Agent, command: str) -> tuple[int, str, str]:
    assert agent.stdin is not None and agent.stdout is not None
    agent.stdin.write(command + "\n")
    agent.stdin.flush()
    returned, out, err = eval(agent.stdout.readline())
    return returned, out, err


def acquire(agent: Agent, *options: str) -> subprocess.Popen[str]:
    return start("acquire", "-p", "p", "--for-pid", str(agent.pid), *options)


def answer(asked: subprocess.Popen[str]) -> str:
    out, err = asked.communicate(timeout=60)
    assert asked.returncode == 0, err
    return out.strip()


def says_that_it_waits(asked: subprocess.Popen[str]) -> None:
    assert asked.stderr is not None
    assert "waiting for p" in asked.stderr.readline()


def test_agent_that_asks_again_gets_the_lease_it_has(agent: Agent) -> None:
    lease = answer(acquire(agent))
    assert answer(acquire(agent)) == lease
    assert answer(acquire(agent, "-n")) == lease
    assert [holder.id for holder in status().holders] == [lease]


def test_hooks_at_once_take_one_lease(root: Path, agent: Agent) -> None:
    (root / "config.toml").write_text("[pools.p]\nlimit = 9\n")
    leasecap.acquire("p").release()
    store = runtime.root(str(root)).store(runtime.root(str(root)).pool("p"))
    staging = Path(store.directory.path, "staging")
    assert store.section.try_enter()  # so that all have come before one of them is placed
    hooks = [acquire(agent) for _ in range(3)]
    until(lambda: len(list(staging.iterdir())) >= len(hooks))
    store.section.leave()
    assert len({answer(asked) for asked in hooks}) == 1
    assert len(status().holders) == 1


def test_hook_beside_one_that_waits_takes_its_lease(agent: Agent) -> None:
    holder = leasecap.acquire("p")
    first = acquire(agent)
    until(lambda: status().waiting == 1)
    second = acquire(agent)
    says_that_it_waits(second)
    assert status().waiting == 1
    holder.release()
    lease = answer(first)
    assert answer(second) == lease
    assert [holder.id for holder in status().holders] == [lease]


def test_hook_takes_over_from_one_that_was_killed(agent: Agent) -> None:
    holder = leasecap.acquire("p")
    first = acquire(agent)
    until(lambda: status().waiting == 1)
    second = acquire(agent)
    says_that_it_waits(second)
    first.kill()
    first.communicate()
    holder.release()
    assert answer(second) == status().holders[0].id


def test_hook_takes_over_from_one_that_is_stopped(agent: Agent) -> None:
    holder = leasecap.acquire("p")
    first = acquire(agent)
    says_that_it_waits(first)

    def stop() -> None:
        first.send_signal(signal.SIGSTOP)
        await_stop(first.pid)

    stop_outside(status().path, stop, lambda: first.send_signal(signal.SIGCONT))
    second = acquire(agent)
    until(lambda: [waiter.pid for waiter in status().waiters] == [second.pid])
    holder.release()
    lease = answer(second)
    first.send_signal(signal.SIGCONT)
    assert answer(first) == lease
    assert len(status().holders) == 1


def test_hook_waits_no_longer_beside_another_than_it_was_told(agent: Agent) -> None:
    holder = leasecap.acquire("p")
    first = acquire(agent)
    until(lambda: status().waiting == 1)
    for options in (["-n", "-E", "3"], ["-w", "50ms", "-E", "3"]):
        second = acquire(agent, *options)
        assert second.communicate(timeout=60)[0] == ""
        assert second.returncode == 3
    holder.release()
    answer(first)


def test_another_process_does_not_share_the_lease(agent: Agent) -> None:
    answer(acquire(agent))
    assert run("acquire", "-p", "p", "--for-pid", str(os.getpid()), "-n").returncode == 75


def test_time_of_a_lease_begins_anew_when_its_agent_asks_again(agent: Agent) -> None:
    answer(acquire(agent, "--max-hold", "1h"))
    [before] = status().holders
    answer(acquire(agent, "--max-hold", "2h", "--kill-after", "1s"))
    [after] = status().holders
    assert (before.max_hold, after.max_hold) == (3600, 7200)
    assert before.granted_at is not None and after.granted_at is not None and before.granted_at < after.granted_at


def test_release_for_pid_ends_what_was_taken_for_it_and_no_more(root: Path, agent: Agent) -> None:
    (root / "config.toml").write_text("[pools.p]\nlimit = 9\n")
    lease, other = answer(acquire(agent)), run("acquire", "-p", "p", "--for-pid", str(os.getpid())).stdout.strip()
    mine = leasecap.acquire("p")  # of this process, and not taken for it
    done = run("release", "--for-pid", str(os.getpid()))
    assert (done.returncode, done.stdout) == (0, f"released {other} of pool p\n")
    done = run("release", "--for-pid", str(os.getpid()))
    assert (done.returncode, done.stdout) == (0, f"pid {os.getpid()} holds nothing that was taken for it\n")
    assert {holder.id for holder in status().holders} == {lease, mine.id}
    assert run("release", "--for-pid", str(agent.pid)).returncode == 1  # somebody else's
    assert run("release", "--for-pid", str(agent.pid), "--yes").returncode == 0
    mine.release()
    assert status().in_flight == 0


def test_release_for_an_agent_fails_where_its_lease_could_stand_unseen(tmp_path: Path, agent: Agent) -> None:
    lease = answer(acquire(agent))
    pool = Path(status().path)
    aside = pool.rename(tmp_path / "aside")
    pool.touch()
    returned, out, err = hook(agent, f"{LEASECAP} release --for-parent; exit $?")
    assert (returned, out) == (1, "")
    assert f"whether pid {agent.pid} holds anything that was taken for it can't be told" in err
    pool.unlink()
    aside.rename(pool)
    leasecap.acquire("q", limit=1).release()
    feedback = Path(status("q").path, "feedback")
    feedback.mkdir(exist_ok=True)
    (feedback / "state.json").write_text("{")  # which says nothing of who holds
    assert hook(agent, f"{LEASECAP} release --for-parent; exit $?") == (0, f"released {lease} of pool p", "")


@pytest.mark.parametrize("parent", ["--for-parent", "--for-parent someagent", "--for-parent someagent.py"])
def test_for_parent_finds_the_agent_above_the_shells(tmp_path: Path, agent: Agent, parent: str) -> None:
    script = tmp_path / "hook.sh"
    script.write_text(f"{LEASECAP} acquire -p p {parent} -w 30 && true\n")
    returned, lease, err = hook(agent, f"bash {script} && true")
    assert (returned, err) == (0, "")
    assert [(holder.id, holder.pid) for holder in status().holders] == [(lease, agent.pid)]
    script.write_text(f"{LEASECAP} release {parent}\n")
    assert hook(agent, f"sh {script}; true")[1] == f"released {lease} of pool p"


def test_for_parent_says_who_the_parents_are_where_none_fits(agent: Agent) -> None:
    returned, _, err = hook(agent, f"{LEASECAP} acquire -p p --for-parent nobody; exit $?")
    assert returned == 1
    assert "'nobody'" in err and f"({agent.pid})" in err
    assert status().in_flight == 0


@pytest.mark.parametrize("pid", ["$$", "$(echo $$)"])
def test_shell_that_ends_with_the_call_is_warned_of(agent: Agent, pid: str) -> None:
    returned, _, err = hook(agent, f"{LEASECAP} acquire -p p --for-pid {pid}; true")
    assert returned == 0
    assert "--for-parent" in err


def test_script_that_is_run_by_a_shell_of_the_call_is_warned_of(tmp_path: Path, agent: Agent) -> None:
    script = tmp_path / "hook.sh"
    script.write_text(f'{LEASECAP} acquire -p p --for-pid "$PPID"; true\n')
    assert "--for-parent" in hook(agent, f"bash {script}; true")[2]


def test_agent_itself_is_not_warned_of(agent: Agent) -> None:
    assert hook(agent, f'{LEASECAP} acquire -p p --for-pid "$PPID"; true')[2] == ""
    [holder] = status().holders
    assert holder.pid == agent.pid


def test_acquire_takes_the_options_of_run(agent: Agent) -> None:
    done = run(
        *(
            "acquire",
            "-p",
            "q",
            "--for-pid",
            str(agent.pid),
            "--limit",
            "2",
            "--label",
            "prompt",
            "--max-hold",
            "1m30s",
        ),
        *("--kill-after", "5s", "--priority", "7", "--no-borrow", "-v"),
    )
    [holder] = status("q").holders
    assert (holder.label, holder.limit, holder.max_hold) == ("prompt", 2, 90)
    assert f"q: slot {holder.id}" in done.stderr


def test_status_shows_the_agents_command(agent: Agent) -> None:
    answer(acquire(agent))
    assert "someagent.py" in (status().holders[0].command or "")


@pytest.mark.parametrize("verb", [["run", "-p", "p", "-n", "-q", "--", "true"], ["acquire", "-p", "p", "-n", "-q"]])
def test_quiet_and_no_wait_say_nothing(agent: Agent, verb: list[str]) -> None:
    with leasecap.slot("p"):
        done = run(*verb, *(["--for-pid", str(agent.pid)] if verb[0] == "acquire" else []))
        assert (done.returncode, done.stdout, done.stderr) == (75, "", "")
