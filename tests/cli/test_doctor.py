"""What `leasecap doctor` prints, and its exit status."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner
from places import REPOSITORY

from leasecap._doctor import examine
from leasecap._doctor.check import Check
from leasecap.cli.doctor import command


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of the developer's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CODEX_HOME", "CLAUDE_CONFIG_DIR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "leasecap", "doctor", *arguments], capture_output=True, text=True, timeout=60
    )


def doctor_on_a_terminal(columns: int, term: str = "xterm") -> list[str]:
    """The lines on a terminal that wide."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    # A copy: readline, once imported, tells the children of this process a COLUMNS of which os.environ knows nothing.
    environment = {**os.environ, "TERM": term}
    with subprocess.Popen(
        [sys.executable, "-m", "leasecap", "doctor"], stdin=slave, stdout=slave, env=environment
    ) as process:
        os.close(slave)
        seen = b""
        while True:
            try:
                chunk = os.read(master, 65536)
            except OSError:  # Linux's word for the end
                break
            if not chunk:
                break
            seen += chunk
        process.wait(60)
    os.close(master)
    return seen.decode().splitlines()


def test_it_prints_one_aligned_line_a_finding_and_a_verdict_and_ends_with_0(root: Path) -> None:
    root.mkdir(mode=0o700)
    result = doctor()
    assert (result.returncode, result.stderr) == (0, "")
    *lines, blank, verdict = result.stdout.splitlines()
    assert blank == ""
    assert verdict.startswith("Nothing is wrong")
    assert all(re.match(r"(ok    |note  |bad   )[a-zA-Z ]{14} \S| {23}\S", line) for line in lines), result.stdout
    assert "permissions    yours alone" in result.stdout
    assert "\x1b" not in result.stdout


def test_something_wrong_ends_with_1_and_the_remedy_stands_below(root: Path) -> None:
    root.mkdir()
    root.chmod(0o770)
    result = doctor()
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith("bad")]
    assert lines[at].startswith(f"bad   permissions    {root}: can be changed by other users")
    assert lines[at + 1].endswith(f"chmod 700 {root}")
    assert lines[at + 1].startswith(" " * 23)
    assert lines[-1] == "Wrong: permissions. Until that is put right, agents may be refused a slot."


def test_a_directory_to_try_can_be_given(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert f"entries in {tmp_path}/other" in doctor(str(tmp_path / "other")).stdout
    result = doctor(str(tmp_path / "nowhere"))
    assert result.returncode == 1
    assert "nowhere: no such directory" in result.stdout


@pytest.mark.posix("signals")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_that_ends_it_leaves_neither_its_directory_nor_its_processes(
    root: Path, tmp_path: Path, signum: signal.Signals
) -> None:
    ground = tmp_path / "ground"
    ground.mkdir()
    at_the_proof = """
import os, signal
from leasecap._doctor import rivals
from leasecap.cli.main import main

def stay(prover):
    os.write(1, b"prover %d\\n" % prover.pid)
    signal.pause()

for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(signum, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
rivals._line = stay
main()
"""
    arguments = [sys.executable, "-c", at_the_proof, "doctor", str(ground)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        prover = next(line for line in process.stdout if line.startswith("prover "))
        assert list(ground.iterdir())
        process.send_signal(signum)
        process.wait(30)
    assert process.returncode == -signum
    assert list(ground.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(prover.split()[1]), 0)


def test_a_terminal_gets_colours_and_its_own_width_but_what_is_to_be_copied_is_not_wrapped(root: Path) -> None:
    root.mkdir(mode=0o755)
    screen = doctor_on_a_terminal(60)
    assert "\x1b[32mok    \x1b[0mlocks          OS locks (flock) exclude one another" in screen
    assert "\x1b[32mok    \x1b[0msandbox        none round this process. A sandbox" in screen
    assert " " * 25 + f"chmod 700 {root}" in screen


def test_no_colour_is_honoured(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "".join(doctor_on_a_terminal(80))


def test_terminal_that_only_shows_text_gets_no_colours() -> None:
    assert "\x1b" not in "".join(doctor_on_a_terminal(80, term="dumb"))


def test_nothing_found_commands_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # A bell, for click itself takes escape sequences out where there is no terminal.
    check = Check("name", "bad", "found \a", "do \a\n  copy \a")
    monkeypatch.setattr(examine, "examine", lambda directory: iter([check]))
    output = CliRunner().invoke(command).output
    assert output.count("\\x07") == 3
    assert "\a" not in output
