"""`leasecap run` as the first process of a container, which the orphans of all others come to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import PROGRAM, environment, status, until

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

INSIDE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")

# Leaves ten orphans, and ends well once none of them is a zombie any more.
LEAVES_ORPHANS = """
import os, sys, time
assert os.getppid() == 1
for _ in range(10):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(3)
        os._exit(0)
    os.wait()
def stat(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    except OSError:
        return ["-", "-"]
end = time.monotonic() + 30
while any(stat(pid)[:2] == ["Z", "1"] for pid in os.listdir("/proc") if pid.isdigit()):
    if time.monotonic() > end:
        sys.exit("zombies are left")
    time.sleep(0.02)
sys.exit(7)
"""


@pytest.fixture(autouse=True)
def pool(root: Path) -> None:
    if subprocess.run([*INSIDE, "true"], capture_output=True).returncode:
        pytest.skip("no pid namespace is to be had")
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.p]\nlimit = 1\n")


@pytest.fixture
def waiter() -> Iterator[subprocess.Popen[str]]:
    """One that waits as the first process; ending `unshare` ends it."""
    argv = [*INSIDE, *PROGRAM, "run", "-q", "-p", "p", "--", "echo", "ran"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        yield process
        process.kill()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.linux("pid namespaces")
def test_first_process_reaps_orphans_and_ends_as_its_command_does() -> None:
    command = ["run", "-p", "p", "--", sys.executable, "-c", LEAVES_ORPHANS]
    done = subprocess.run([*INSIDE, *PROGRAM, *command], env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (7, "")


@pytest.mark.linux("pid namespaces")
def test_first_process_reaps_orphans_while_it_waits(tmp_path: Path, waiter: subprocess.Popen[str]) -> None:
    holder = leasecap.acquire("p")
    until(lambda: status().waiting == 1)
    [first] = children_of(waiter.pid)
    told = tmp_path / "told"
    enter = ["nsenter", f"--target={first}", "--pid", "--mount"]
    subprocess.run([*enter, "sh", "-c", f"(sh -c 'echo > {told}' &)"], check=True)
    until(told.exists)
    until(lambda: not children_of(first))
    holder.release()
    assert waiter.stdout is not None
    assert waiter.stdout.read() == "ran\n"
    assert waiter.wait(60) == 0
