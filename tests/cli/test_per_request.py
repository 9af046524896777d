"""`leasecap run --per-request` as a command: how it ends, what it refuses before the start, what it says."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from commands import environment, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

pytestmark = pytest.mark.posix("there is no `leasecap run`")

WITHOUT = """
import sys
sys.modules["h11"] = None
from leasecap.cli.main import main
main()
"""
LONG_FROM = """
import sys
from leasecap.cli import _per_request
_per_request.LONG = float(sys.argv.pop(1))
from leasecap.cli.main import main
main()
"""
SPOKEN = "made no request that took a slot"


def per_request(*words: str, limited: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    limit = ("-p", "p", "--limit", "1") if limited else ()
    return run("run", "--per-request", *limit, *words, env=environment(**more))


def python(code: str) -> tuple[str, ...]:
    return "--", sys.executable, "-c", code


# -- how it ends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 7, 75, 124, 255])
def test_the_exit_status_is_the_commands(status: int) -> None:
    done = per_request(*python(f"print('out'); raise SystemExit({status})"))
    assert (done.returncode, done.stdout) == (status, "out\n")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGSEGV"])
def test_a_command_that_dies_of_a_signal_is_followed(name: str) -> None:
    signum = getattr(signal, name)
    assert per_request(*python(f"import os; os.kill(os.getpid(), {int(signum)})")).returncode == -signum


def test_a_command_that_cant_be_started_is_told_as_shells_tell(
    tmp_path: Path, long_from: Callable[[float], None]
) -> None:
    long_from(0)
    plain = tmp_path / "plain"
    plain.write_text("no program")
    assert per_request("--", str(tmp_path / "missing")).returncode == 127
    done = per_request("--", str(plain))
    assert done.returncode == 126
    assert SPOKEN not in done.stderr


# -- what is refused before the start ---------------------------------------------------------------------------------


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert (done.returncode, done.stdout) == (125, ""), done
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("-n",), "-n"),
        (("--no-wait",), "-n"),
        (("-E", "3"), "-E"),
        (("-E", "75"), "-E"),
        (("--kill-after", "5"), "--kill-after"),
        (("-n", "-w", "1"), "-w"),
        (("-v", "-q"), "-v"),
        (("--limit", "2"), "--limit"),
        (("--max-hold", "0"), "--max-hold"),
        (("-w", "soon"), "soon"),
        (("--unheard-of",), "--unheard-of"),
    ],
)
def test_wrong_usage_is_told_before_the_start(options: tuple[str, ...], named: str) -> None:
    refused(per_request(*options, *python("print('started')")), named)


def test_without_a_command_nothing_is_run() -> None:
    refused(per_request(), "CMD")


def test_a_pool_without_a_limit_is_told_before_the_start() -> None:
    refused(per_request("-p", "p", *python("print('started')"), limited=False), "limit")


def test_a_root_of_no_absolute_path_is_told_before_the_start() -> None:
    refused(per_request(*python("print('started')"), LEASECAP_HOME="root"), "LEASECAP_HOME", "absolute")


def test_a_missing_extra_is_told_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commands.PROGRAM", (sys.executable, "-c", WITHOUT))
    refused(per_request(*python("print('started')")), "h11", "pip install 'leasecap[gate]'")
    assert run("run", "-p", "p", "--limit", "1", *python("print('started')")).stdout == "started\n"


@pytest.mark.parametrize("agent", ["pi", "vibe"])
def test_an_agent_that_the_gate_cant_reach_is_told_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agent: str
) -> None:
    program = tmp_path / agent
    program.write_text("#!/bin/sh\necho started\n")
    program.chmod(0o755)
    refused(per_request("--", str(program)), agent)


def test_an_upstream_that_cant_be_told_names_its_variable() -> None:
    refused(per_request(*python("print('started')"), ANTHROPIC_BASE_URL="not an address"), "ANTHROPIC_BASE_URL")


# -- what it says -----------------------------------------------------------------------------------------------------


@pytest.fixture
def long_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Says from how many seconds on a command has run for long."""
    return lambda seconds: monkeypatch.setattr("commands.PROGRAM", (sys.executable, "-c", LONG_FROM, str(seconds)))


def test_a_command_without_requests_is_told_of_unless_quiet(long_from: Callable[[float], None]) -> None:
    long_from(0)
    assert per_request(*python("")).stderr.count(SPOKEN) == 1
    assert per_request("-q", *python("")).stderr == ""


@pytest.mark.parametrize("status", [0, 1])
def test_a_command_that_asked_for_nothing_in_a_moment_is_not_told_of(
    long_from: Callable[[float], None], status: int
) -> None:
    long_from(3600)
    assert per_request(*python(f"raise SystemExit({status})")).stderr == ""


def test_verbose_tells_what_takes_slots_and_how_it_ended() -> None:
    told = per_request("-v", "--", sys.executable, "-c", "raise SystemExit(3)").stderr.splitlines()
    assert told[-1] == "leasecap: ended with status 3"
    [anthropic] = [line for line in told if line.startswith("leasecap: anthropic (https://api.anthropic.com)")]
    assert "a slot of p per request" in anthropic


def test_verbose_tells_what_passes_unmetered() -> None:
    told = run("run", "--per-request", "-v", "-p", "anthropic", "--limit", "1", *python("")).stderr.splitlines()
    [openai] = [line for line in told if line.startswith("leasecap: openai (https://api.openai.com)")]
    assert "unmetered" in openai


def test_nothing_stays_on_disk_of_a_command_that_has_ended(root: Path) -> None:
    per_request(*python(""))
    assert list(root.rglob("gates/*")) == []
