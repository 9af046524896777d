"""What `import leasecap` costs and does: little, and nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from referee import REPOSITORY

# Imported when first needed, if ever; each costs more than all that an acquire does.
HEAVY = {
    *("asyncio", "click", "filelock", "logging", "multiprocessing", "pathlib", "platformdirs", "psutil", "socket"),
    *("subprocess", "tempfile", "tomlkit", "tomllib", "typing", "watchdog"),
}

AFTER = """
import sys
loaded = sorted(sys.modules)
import json, threading
print(json.dumps([loaded, threading.active_count()]))
"""


def fresh(code: str, **env: str) -> tuple[set[str], int]:
    """Run ``code`` in an interpreter of its own; returns the top-level modules then loaded, and how many threads run.

    Without `site`, since other packages put things into its start-up.
    """
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code + AFTER],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **env},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    modules, threads = json.loads(ran.stdout)
    return {name.partition(".")[0] for name in modules}, threads


@pytest.fixture
def before() -> set[str]:
    return fresh("")[0]


def test_importing_leasecap_imports_nothing_heavy(before: set[str]) -> None:
    modules, _ = fresh("import leasecap")
    assert "leasecap" in modules
    assert (modules - before) & HEAVY == set()


def test_importing_leasecap_does_nothing(root: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    _, threads = fresh("import leasecap", HOME=str(home), LEASECAP_HOME=str(root))
    assert threads == 1
    assert not root.exists()
    assert list(home.iterdir()) == []


def test_an_uncontended_acquire_imports_nothing_more(root: Path, before: set[str]) -> None:
    # It would pay for it in the queue, and everybody behind it.
    modules, _ = fresh('import leasecap; leasecap.acquire("p", limit=1).release()')
    assert (modules - before) & HEAVY == set()


def test_the_command_line_loads_only_the_verb_that_it_runs() -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "leasecap", "run", "-p", "p", "--limit", "1", "true"],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    tops = {name.partition(".")[0] for name in loaded}
    assert "leasecap.cli.run" in loaded
    assert loaded & {"leasecap.cli.limit", "leasecap.cli.release", "leasecap.cli.status"} == set()
    assert tops & {"asyncio", "filelock", "platformdirs", "psutil", "tomlkit", "watchdog"} == set()
