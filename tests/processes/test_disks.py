"""Full and read-only disks, as they are: a small one is mounted in a mount namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from places import REPOSITORY

MOUNTED = """
import os, subprocess, sys
import leasecap
place, options = sys.argv[1:3]
subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
os.environ["LEASECAP_HOME"] = os.path.join(place, "root")

def fill():
    with open(os.path.join(place, "filler"), "wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            pass

def attempt(pool="p"):
    try:
        leasecap.acquire(pool, limit=1, timeout=0, borrow=False).release()
        print("acquired", flush=True)
    except leasecap.LeasecapError as error:
        print(type(error).__name__, *str(error).splitlines(), sep=" | ")

def count():
    pool = leasecap.status().pools
    print(sum(len(one.holders) for one in pool))
"""


def in_a_mount(place: Path, options: str, code: str) -> list[str]:
    place.mkdir()
    if sys.platform != "linux":
        pytest.skip("mount namespaces are a thing of Linux")
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no new mount namespace here: {tried.stderr.strip()}")
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", MOUNTED + code, str(place), options],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "'tmpfs'" in done.stderr:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    assert not done.stderr
    return done.stdout.splitlines()


def test_a_full_disk_is_an_error_and_costs_no_lease(tmp_path: Path) -> None:
    said = in_a_mount(
        tmp_path / "mount",
        "size=256k",
        """
attempt()
lease = leasecap.acquire("q", limit=1)
fill()
attempt(); attempt("new")
lease.release()
count()
os.unlink(os.path.join(place, "filler"))
attempt(); attempt("q"); attempt("new")
""",
    )
    full = "the disk is full"
    assert said[0] == "acquired"
    assert said[1].startswith("StoreError") and full in said[1]
    assert said[2].startswith("StoreError") and full in said[2]
    assert said[3:] == ["0", "acquired", "acquired", "acquired"]


@pytest.mark.parametrize("inodes", range(3, 22, 2))
def test_a_disk_without_inodes_is_an_error_wherever_it_strikes(tmp_path: Path, inodes: int) -> None:
    said = in_a_mount(tmp_path / "mount", f"nr_inodes={inodes}", "attempt(); attempt()")
    assert len(said) == 2
    for line in said:
        assert line == "acquired" or (line.startswith("StoreError") and "no inode left" in line)


def test_a_read_only_disk_is_an_error_that_says_so(tmp_path: Path) -> None:
    said = in_a_mount(
        tmp_path / "mount",
        "size=1m",
        """
if not os.fork():  # a file that is open for writing would keep the disk writable
    attempt()
    os._exit(0)
os.wait()
subprocess.run(["mount", "-o", "remount,ro", place], check=True)
attempt(); attempt("new")
count()
os.environ["LEASECAP_HOME"] = os.path.join(place, "another")
attempt()
""",
    )
    assert said[0] == "acquired"
    assert said[3] == "0"
    for line in (said[1], said[2], said[4]):
        assert line.startswith("StoreError")
        assert "read-only file system" in line
        assert "mount it writable" in line
