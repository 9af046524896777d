"""What `import leasecap` costs and does: little, and nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

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
    """Run ``code`` in an interpreter of its own; returns the modules then loaded, and how many threads run.

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
    return set(modules), threads


@pytest.fixture
def before() -> set[str]:
    return fresh("")[0]


def test_threads_never_meet_in_the_import_that_two_at_once_break() -> None:
    assert "collections.abc" in fresh("import leasecap")[0]


def test_importing_leasecap_imports_nothing_heavy(before: set[str]) -> None:
    modules, _ = fresh("import leasecap")
    assert "leasecap" in modules
    assert (modules - before) & HEAVY == set()
    assert modules & {"leasecap._transport", "leasecap._gate", "leasecap.httpx", "leasecap.httpx2"} == set()


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


WAIT = """
import threading, leasecap
from leasecap._decisions import polling
polling.SELDOM_LOOK = 0.05
lease = leasecap.acquire("p", limit=1)
def wait():
    leasecap.acquire("p", limit=1, borrow=False).release()
thread = threading.Thread(target=wait)
thread.start()
while not leasecap.status("p").pools[0].waiting:
    pass
thread.join(SECONDS)
lease.release()
thread.join()
"""


SITE = f"import sys\nsys.path += {[path for path in sys.path if path]!r}\n"
"""watchdog is there to be loaded."""

LATE = "from leasecap._file_store import watched_file; watched_file._START_AFTER = 60.0\n"


def test_a_wait_at_a_named_pipe_loads_no_watchdog(root: Path) -> None:
    modules, _ = fresh(SITE + WAIT.replace("SECONDS", "1.5"))  # longer than a plain file is left alone
    assert "leasecap._file_store.receiver" in modules
    assert modules & {"watchdog", "leasecap._file_store.watched_file"} == set()


def test_a_short_wait_without_named_pipes_loads_no_watchdog(root: Path) -> None:
    modules, _ = fresh(SITE + "import os; del os.mkfifo\n" + LATE + WAIT.replace("SECONDS", "0"))
    assert "watchdog" not in modules


def test_what_status_says_of_feedback_is_loaded_where_there_is_any(root: Path) -> None:
    rooms = ("_feedback.messages", "_feedback.adaptive", "_feedback.state")
    parts = {f"leasecap.{name}" for name in (*rooms, "_file_store.feedback_files", "_file_store.feedback_view")}
    modules, _ = fresh('import leasecap; leasecap.acquire("p", limit=1).release(); assert leasecap.status().pools')
    assert modules & parts == set()
    modules, _ = fresh('import leasecap; leasecap.report("p", 503); assert leasecap.status().pools')
    assert modules & parts == parts


def test_the_command_line_loads_only_the_verb_that_it_runs(root: Path) -> None:
    code = """
import sys
sys.argv = ["leasecap", "run", "-p", "p", "--limit", "1", "true"]
from leasecap.cli.main import main
try:
    main()
except SystemExit:
    pass
"""
    # -S, and the packages that are installed: what `site` itself imports is none of our business.
    modules, _ = fresh(f"import sys\nsys.path += {[path for path in sys.path if path]!r}\n{code}")
    verbs = {"limit", "release", "run", "status"}
    assert {name for name in verbs if f"leasecap.cli.{name}" in modules} == {"run"}
    assert modules & {"asyncio", "filelock", "platformdirs", "psutil", "socket", "tomlkit", "watchdog"} == set()
