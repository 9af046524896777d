"""A signal whose handler raises, at a sample of all positions; `scripts/interrupts` strikes every one of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from places import IMPORTABLE
from strikes.scenes import SCENES

LEAST = 500
"""Positions that even the shortest call passes, on any Python."""


@pytest.mark.parametrize("lock", ["os", "directory"])
@pytest.mark.parametrize("scene", SCENES)
def test_wherever_a_signal_strikes_nothing_is_kept(scene: str, lock: str) -> None:
    every = {"async-three": 997}.get(scene, 211)
    argv = [sys.executable, "-W", "ignore", "-m", "strikes", scene, "--every", str(every), "--first", str(every // 2)]
    ran = subprocess.run(
        argv + ["--directory"] * (lock == "directory"),
        env={**os.environ, "PYTHONPATH": IMPORTABLE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = re.search(r"struck (\d+) of \d+ positions", ran.stdout)
    assert found is not None and int(found.group(1)) * every >= LEAST, ran.stdout
