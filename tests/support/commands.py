"""The `leasecap` command, run as people run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

from places import REPOSITORY

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

PROGRAM = (sys.executable, "-m", "leasecap")
DEADLINE = 60.0


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **more}


def run(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run ``leasecap ARGUMENTS`` to its end."""
    more.setdefault("env", environment())
    more.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=DEADLINE, **more)


def start(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    """Start ``leasecap ARGUMENTS``; a test that does so ends it, too."""
    more.setdefault("env", environment())
    more.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen(
        [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1, **more
    )


def status(pool: str = "p") -> leasecap.PoolStatus:
    return leasecap.status(pool).pools[0]


def status_json() -> Any:
    return json.loads(run("status", "--json").stdout)


def until(what: Callable[[], object]) -> None:
    """Return when ``what()`` is true: something that must happen, and happens soon."""
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)


def remove_tree(path: Path) -> None:
    """Remove all of it, though somebody may still write there, who has its directories open."""

    def is_gone() -> bool:
        shutil.rmtree(path, ignore_errors=True)
        return not path.exists()

    until(is_gone)
