"""Feedback between real processes: what one reports, or a person says, holds for all."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from children import has_ended
from commands import run, until
from holders import HOLD, can_be_had, configure, hold, queue, ready
from referee import Team

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Takes a slot when told, and says when.
TIMED = """
import time
say("READY")
hear()
lease = leasecap.acquire("p")
say("HELD", time.monotonic())
hear()
lease.release()
say("RELEASED")
"""

EVER = 600.0


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    with Team(tmp_path) as team:
        yield team


def feedback(team: Team) -> leasecap.PoolFeedback:
    found = team.pool().feedback
    assert found is not None
    return found


def test_without_a_stagger_after_idle_a_burst_is_granted_at_once_and_with_it_one_by_one(team: Team) -> None:
    for more, least in (("", 0.0), ("stagger = 0.5\nstagger_after_idle = 0.1\n", 0.9)):
        configure(team, limit=3, more=more)
        assert can_be_had(team)
        workers = [team.start(TIMED) for _ in range(3)]
        ready(*workers)
        time.sleep(0.2)  # idle: that is what the rule is about
        before = time.monotonic()
        for worker in workers:
            worker.tell()
        held = [float(worker.expect("HELD")) for worker in workers]
        assert max(held) - before >= least
        for worker in workers:
            worker.tell()
            worker.expect("RELEASED")


def usage(tmp_path: Path, says: str) -> tuple[str, Path]:
    """A ``usage_command`` that notes each question and prints what the file next to it holds."""
    asked, answer = tmp_path / "asked", tmp_path / "answer"
    asked.touch()
    answer.write_text(says)
    script = f"open({str(asked)!r}, 'a').write('x'); print(open({str(answer)!r}).read())"
    return f"usage_command = [{sys.executable!r}, '-S', '-c', {script!r}]\n".replace("\\\\", "\\"), asked


def test_a_waiter_is_granted_a_slot_only_once_the_provider_has_room(team: Team, tmp_path: Path) -> None:
    gate, asked = usage(tmp_path, "2")
    configure(team, limit=2, more=gate)
    workers = [team.start(HOLD, number) for number in range(3)]
    ready(*workers)
    hold(workers[0])
    assert asked.read_text() == "", "a slot is left: nobody needs to ask"
    queue(team, workers[1])
    until(lambda: asked.read_text())
    until(lambda: feedback(team).usage == 2)
    assert team.pool().in_flight == 1
    (tmp_path / "answer").write_text("1")
    workers[1].expect("HELD")


def test_no_answer_leaves_it_to_the_other_rules_and_is_shown(team: Team, tmp_path: Path) -> None:
    gate, _ = usage(tmp_path, "none of your business")
    configure(team, limit=1, more=gate)
    worker = team.start(HOLD, 1)
    ready(worker)
    hold(worker)
    assert "none of your business" in str(feedback(team).usage_error)
    assert "no usage information" in run("status").stdout


def test_one_who_tries_once_waits_for_the_answer_alone(team: Team, tmp_path: Path) -> None:
    gate, _ = usage(tmp_path, "1")
    configure(team, limit=1, more=gate)
    assert not can_be_had(team)
    (tmp_path / "answer").write_text("0")
    until(lambda: can_be_had(team))


def test_the_machine_asks_once_per_interval_however_many_wait(team: Team, tmp_path: Path) -> None:
    gate, asked = usage(tmp_path, "5")
    configure(team, limit=1, more=gate + f"usage_interval = {EVER}\n")
    workers = [team.start(HOLD, number) for number in range(4)]
    ready(*workers)
    queue(team, *workers)
    until(lambda: feedback(team).usage == 5)
    for _ in range(3):
        assert not can_be_had(team)
    assert asked.read_text() == "x"


def test_a_usage_command_that_hangs_is_ended_with_what_it_started(team: Team, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep {EVER} & echo $! > {pids}; wait"
    configure(team, limit=1, more=f"usage_command = ['sh', '-c', '{script}']\nusage_timeout = 3\n")
    worker = team.start(HOLD, 1)
    ready(worker)
    hold(worker)
    until(lambda: "no answer within 3 s" in str(feedback(team).usage_error))
    until(lambda: has_ended(int(pids.read_text())))


def test_a_callable_is_asked_in_place_of_a_command(team: Team) -> None:
    configure(team, limit=1)
    counts = [1, 0]
    leasecap.set_usage("p", lambda: counts.pop(0))
    assert leasecap.try_acquire("p") is None
    with leasecap.acquire("p", timeout=30):
        assert counts == []
    leasecap.set_usage("p", None)
    with leasecap.acquire("p", timeout=0):
        pass


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", "p"),
        ("report", "p", "--status", "42"),
        ("report", "p", "--status", "429", "--ttfb", "nan"),
        ("pause", "p", "tomorrow"),
        ("resume",),
    ],
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == 2 and done.stderr


def test_pausing_and_resuming_say_what_holds_then(team: Team) -> None:
    configure(team)
    assert run("pause", "p", "1h").stdout.startswith("p: paused for 59m")
    assert run("pause", "p", "1s").stdout.startswith("p: paused for 59m"), "never shortened"
    assert "until `leasecap resume p`" in run("pause", "p").stdout
    assert "open again (it was closed: by hand" in run("resume", "p").stdout
    assert run("resume", "p").stdout == "p: was not paused\n"
    Path(team.pool().path, "feedback", "state.json").write_text("{")
    assert run("run", "-p", "p", "--", "true").returncode == 125
    assert "begins anew" in run("resume", "p").stdout
    assert run("run", "-p", "p", "--", "true").returncode == 0


@pytest.mark.parametrize("value", ["30s", "", "soon", "-3"])
def test_a_hooks_refusal_counts_though_its_retry_after_cannot_be_read(team: Team, value: str) -> None:
    configure(team, limit=8)
    done = run("report", "p", "--status", "429", f"--retry-after={value}")
    assert done.returncode == 0
    [line] = done.stderr.splitlines()
    assert line.startswith("leasecap: ") and "Retry-After" in line
    assert team.pool().limit == 6
    assert run("report", "p", "--status", "000").returncode == 0, "curl's word for no answer"
