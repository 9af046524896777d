"""The unit of systemd and the plist of launchd in docs/reference.md."""

from __future__ import annotations

import os
import plistlib
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import DEADLINE, PROGRAM, environment
from places import REPOSITORY
from standing import free_port

REFERENCE = (REPOSITORY / "docs" / "reference.md").read_text()


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", REFERENCE, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which leasecap is installed as pipx does it."""
    program = tmp_path / "home" / ".local" / "bin" / "leasecap"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY} exec {" ".join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    return tmp_path / "home"


@pytest.mark.linux("systemd")
def test_systemd_takes_the_unit(home: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not here")
    unit = tmp_path / "leasecap-gate.service"
    unit.write_text(block("ini"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(unit)],
        env={**os.environ, "HOME": str(home), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.posix("there is no `leasecap gate`")
def test_what_the_unit_starts_serves_and_ends_as_systemd_ends_it(home: Path) -> None:
    found = re.search("^ExecStart=(.*)$", block("ini"), re.MULTILINE)
    assert found is not None
    words = found[1].replace("%h", str(home)).split()
    gate = subprocess.Popen(
        [*words, "--port", str(free_port())],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"},  # as bare as a service's
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert gate.stderr is not None
    with gate:
        assert "on 127.0.0.1" in gate.stderr.readline()
        gate.send_signal(signal.SIGTERM)
        assert gate.wait(DEADLINE) == -signal.SIGTERM
    assert list(home.rglob("gate/token"))


def test_the_plist_is_one() -> None:
    found = plistlib.loads(block("xml").encode())
    assert found["ProgramArguments"][1:] == ["gate"]
    assert found["Label"] == "leasecap.gate"


@pytest.mark.linux("systemd")
def test_the_lines_can_stand_in_environment_d(home: Path, root: Path) -> None:
    generator = Path("/usr/lib/systemd/user-environment-generators/30-systemd-environment-d-generator")
    if not generator.exists():
        pytest.skip("systemd is not here")
    told = subprocess.run(
        [*PROGRAM, "gate", "--env", "sh"], env=environment(), capture_output=True, text=True, timeout=DEADLINE
    ).stdout
    folder = home / ".config" / "environment.d"
    folder.mkdir(parents=True)
    (folder / "leasecap.conf").write_text(told.replace("export ", ""))
    done = subprocess.run([generator], env={"HOME": str(home)}, capture_output=True, text=True, timeout=DEADLINE)
    seen = subprocess.run(
        [
            "sh",
            "-c",
            f"set -a; {done.stdout}\nexec {sys.executable} -c 'import os; print(os.environ[\"LEASECAP_GATE\"])'",
        ],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    ).stdout
    assert f"export LEASECAP_GATE='{seen.strip()}'" in told
