"""Names and options as people type them: what means nothing is an error, and makes no pool."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from commands import PROGRAM, environment, run, status

import leasecap
from leasecap._config.seal import seal

CONFIG = """
[defaults]
limit = 2
[pools.team-gpu]
limit = 8
aliases = ["graphics"]
[commands]
sh = "for-shells"
"""


@pytest.fixture(autouse=True)
def configured(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(CONFIG)
    seal(str(root), CONFIG)


def pools(root: Path) -> list[str]:
    return os.listdir(root / "pools") if (root / "pools").exists() else []


def under_a_lease(*arguments: str, pool: str = "team-gpu") -> subprocess.CompletedProcess[str]:
    return run("run", "-p", pool, "--", *PROGRAM, *arguments)


@pytest.mark.parametrize(
    "verb", [["pause"], ["resume"], ["report", "--status", "429"], ["forget"], ["status"], ["status", "--json"]]
)
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("antropic", "anthropic"),
        ("Team-Gpuu", "team-gpu"),
        ("grafics", "graphics"),
        ("for-shell", "for-shells"),
        ("used-befor", "Used-Before"),
        ("nopool", None),
        ("foo", None),
    ],
)
def test_unknown_pool_is_one_line_with_the_nearest_known(
    root: Path, verb: list[str], typed: str, meant: str | None
) -> None:
    leasecap.acquire("Used-Before").release()
    before = pools(root)
    done = run(*verb, typed)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert f"there is no pool {typed!r}" in line
    assert (f"did you mean {meant}?" in line) == (meant is not None)
    assert ("did you mean" in line) == (meant is not None)
    assert pools(root) == before


@pytest.mark.parametrize("pool", ["anthropic", "TEAM-GPU", "graphics", "for-shells", "https://api.openai.com/v1", "p"])
def test_pool_that_is_known_can_be_paused_and_resumed(pool: str) -> None:
    leasecap.acquire("p").release()
    for verb in ("pause", "resume", "status"):
        assert run(verb, pool).returncode == 0


def test_resume_makes_no_pool(root: Path) -> None:
    assert run("resume", "team-gpu").stdout == "team-gpu: was not paused\n"
    assert pools(root) == []


def test_report_under_a_lease_needs_no_name() -> None:
    done = under_a_lease("report", "--status", "429")
    assert (done.returncode, done.stderr) == (0, "")
    assert status("team-gpu").limit == 6


def test_report_under_a_lease_takes_its_pool_for_an_unknown_one(root: Path) -> None:
    done = under_a_lease("report", "nopool", "--status", "429")
    assert done.returncode == 0
    assert "nopool" in done.stderr and "noted for team-gpu" in done.stderr
    assert status("team-gpu").limit == 6
    assert len(pools(root)) == 1


def test_report_under_a_lease_is_for_the_pool_that_is_named() -> None:
    assert under_a_lease("report", "for-shells", "--status", "429", "--retry-after", "60").returncode == 0
    assert status("team-gpu").limit == 8
    feedback = status("for-shells").feedback
    assert feedback is not None and feedback.paused


def test_report_of_a_hook_is_for_the_pool_of_its_agent() -> None:
    # The agent is the shell, its hooks are its children.
    script = '"$@" acquire -p team-gpu --for-pid $$ >/dev/null && "$@" report --status 429'
    done = subprocess.run(["sh", "-c", script, "sh", *PROGRAM], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert status("team-gpu").limit == 6


def test_report_without_a_pool_takes_the_environments_or_is_one_line_and_1(root: Path) -> None:
    done = run("report", "--status", "429", env=environment(LEASECAP_POOL="team-gpu"))
    assert done.returncode == 0
    assert status("team-gpu").limit == 6
    done = run("report", "--status", "429")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "-p", "gpu", "-p", "api", "--", "true"],
        ["run", "-p", "gpu", "--pool=api", "--", "true"],
        ["run", "-p", "gpu", "--limit", "1", "--limit", "1", "--", "true"],
        ["run", "-p", "gpu", "-w1", "--wait", "2", "--", "true"],
        ["acquire", "-p", "gpu", "--for-pid", "1", "--for-pid", "2"],
        ["report", "team-gpu", "--status", "429", "--status", "200"],
    ],
)
def test_option_given_twice_is_an_error(root: Path, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == (125 if arguments[0] == "run" else 2)
    assert "given more than once" in done.stderr
    assert pools(root) == []


def test_flags_and_the_commands_own_options_may_come_twice() -> None:
    done = run("run", "-q", "-q", "-p", "p", "--", "echo", "-p", "a", "-p", "b")
    assert (done.returncode, done.stdout) == (0, "-p a -p b\n")
