"""`scripts/redis-faults`: it sees a cap that is exceeded, keeps the evidence, and leaves no process behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from places import REPOSITORY

pytestmark = [pytest.mark.redis, pytest.mark.long, pytest.mark.linux("a round reads /proc")]

MORE_SLOTS = """
import re
from _redis_faults import __main__ as script, round, scenes
configure, set_up = round.Round._configure, scenes.set_up
def more_slots(self, url):
    configure(self, url)
    path = self._root / "config.toml"
    path.write_text(re.sub("limit = ([0-9])", lambda found: f"limit = {int(found[1]) + 4}", path.read_text()))
round.Round._configure = more_slots
scenes.set_up = lambda server, limits: set_up(server, {pool: limit + 4 for pool, limit in limits.items()})
raise SystemExit(script.main())
"""


def test_a_round_finds_slots_too_many_and_keeps_the_evidence(tmp_path: Path) -> None:
    scripts = REPOSITORY / "scripts"  # commands, which see no PYTHONPATH, find their module where they run
    places = (scripts, REPOSITORY, REPOSITORY / "tests" / "support")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places)), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", MORE_SLOTS, "keeps", "--tiny", "--seed", "1"], env=environment, cwd=scripts, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as script:  # fmt: skip
        out, errors = script.communicate(timeout=100)
    assert script.returncode == 1, errors
    assert "worked under a limit of" in errors
    [overlaps] = [line for line in out.splitlines() if line.strip().startswith("overlaps")]
    assert int(overlaps.split()[1]) > 0
    [kept] = tmp_path.glob("leasecap-redis-faults-*")
    assert f"the evidence is kept in {kept}; seed 1" in errors
    assert (kept / "journal").stat().st_size > 0
    assert left_of(script.pid) == []


def left_of(session: int) -> list[int]:
    """The pids in that session, but for those that have ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return found
