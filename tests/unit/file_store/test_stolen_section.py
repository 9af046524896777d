"""What is left of a section whose holder was killed inside it, in a pool with a lock directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment

import leasecap

KILLED_INSIDE = """
import os, signal, leasecap
from leasecap._file_store.reconcile import Reconciler
Reconciler.place = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
leasecap.acquire("p")
"""


@pytest.fixture(autouse=True)
def a_pool_with_a_lock_directory(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text('[pools.p]\nlimit = 1\nlock = "directory"\n')
    killed = subprocess.run([sys.executable, "-c", KILLED_INSIDE], env=environment())
    assert killed.returncode == -9


def names(root: Path, where: str) -> list[str]:
    [pool] = (root / "pools").iterdir()
    return [path.name for path in (pool / where).iterdir()]


def test_the_section_is_stolen_and_its_new_holder_vouches_for_what_it_found(root: Path) -> None:
    [token] = names(root, "lock.d")
    with leasecap.acquire("p", timeout=60):
        assert names(root, "stolen") == [f"{token}.known"]


def test_the_mark_of_the_theft_goes_once_the_robbed_holder_cannot_come_back(root: Path) -> None:
    with leasecap.acquire("p", timeout=60):
        assert names(root, "stolen")
        assert leasecap.try_acquire("p", borrow=False) is None  # finds no room, and sweeps
        assert names(root, "stolen") == []
        assert names(root, "staging") == []
