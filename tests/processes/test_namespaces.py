"""Holders whose process can't be seen from here: what ends them, and what is said where nothing can be told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import environment, run, status
from helper_process import Helper

import leasecap
from leasecap._host import namespaces
from leasecap._host import process as _process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

INSIDE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture(autouse=True)
def pool(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.p]\nlimit = 1\nstale_after = 60\nheartbeat = 20\n")


@pytest.fixture
def namespace() -> Iterator[subprocess.Popen[str]]:
    """A pid namespace whose first process is a shell that runs what it reads; killing `unshare` ends it."""
    if _process.this_process().pid_ns != namespaces.INITIAL:
        pytest.skip("not in the initial pid namespace")
    started = subprocess.Popen(
        [*INSIDE, "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment()
    )
    assert started.stdin is not None and started.stdout is not None
    started.stdin.write("echo READY\n")
    if started.stdout.readline() != "READY\n":
        pytest.skip("no new pid namespace here")
    with started:
        yield started
        started.kill()


def do(namespace: subprocess.Popen[str], command: str) -> str:
    """Run it in there; returns the line that it says."""
    assert namespace.stdin is not None and namespace.stdout is not None
    namespace.stdin.write(command + "\n")
    return namespace.stdout.readline().strip()


def lease_for_init(namespace: subprocess.Popen[str]) -> str:
    # Not echoed before the command has ended: as long as it lives it holds a lock on the lease that it has made.
    return do(namespace, f'lease=$({sys.executable} -m leasecap acquire -p p --for-pid 1); echo "$lease"')


def end(namespace: subprocess.Popen[str]) -> None:
    namespace.kill()
    namespace.wait()


def name_of(namespace: subprocess.Popen[str]) -> str:
    return do(namespace, "readlink /proc/self/ns/pid")


def test_a_lease_for_a_process_of_a_namespace_that_is_gone_is_free_again(namespace: subprocess.Popen[str]) -> None:
    lease = lease_for_init(namespace)
    [holder] = status().holders
    assert (holder.id, holder.alive, holder.evidence) == (lease, True, "process not visible from here")
    end(namespace)
    leasecap.acquire("p", timeout=10).release()


def test_a_namespace_counts_while_anything_lives_in_it(namespace: subprocess.Popen[str]) -> None:
    name = name_of(namespace)
    before = namespaces.populated()
    assert before is not None
    assert {name, namespaces.INITIAL} <= before
    end(namespace)
    deadline = time.monotonic() + 10
    while name in (namespaces.populated() or ()):
        assert time.monotonic() < deadline


def test_from_another_namespace_nothing_is_said_of_any(namespace: subprocess.Popen[str]) -> None:
    assert do(
        namespace, f"{sys.executable} -c 'from leasecap._host.namespaces import populated; print(populated())'"
    ) == ("None")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
@pytest.mark.usefixtures("namespace")
def test_who_may_not_see_all_processes_says_nothing_of_any() -> None:
    code = "import os; from leasecap._host.namespaces import populated; os.setuid(65534); print(populated())"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.stdout == "None\n", done.stderr


@pytest.mark.parametrize(
    ("options", "hides"),
    [("rw", False), ("rw,hidepid=0", False), ("rw,hidepid=off", False), ("rw,hidepid=2", True),
     ("rw,gid=4,hidepid=invisible", True), ("rw,hidepid=ptraceable", True), (None, True)],
)  # fmt: skip
def test_a_proc_that_hides_processes_is_told_by_its_mount(
    options: str | None, hides: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mountinfo"
    line = "" if options is None else f"22 27 0:21 / /proc rw,relatime - proc proc {options}\n"
    mounts.write_text(f"21 27 0:20 / /sys rw - sysfs sysfs rw\n{line}")
    real = open
    monkeypatch.setattr("builtins.open", lambda path, *how: real(mounts if "mountinfo" in str(path) else path, *how))
    assert namespaces._hides_processes() is hides


def test_where_it_can_not_be_told_the_way_out_is_named_and_works(namespace: subprocess.Popen[str]) -> None:
    # The other way round: the lease is of this namespace, who asks is in another one.
    with_agent = Helper("input()")
    with with_agent.process:
        done = run("acquire", "-p", "p", "--for-pid", str(with_agent.pid))
        lease = done.stdout.strip()
        with_agent.end()
    leasecap_ = f"{sys.executable} -m leasecap"
    told = do(namespace, f"{leasecap_} run -p p -w 0.2 -- true 2>&1 | tr '\\n' ' '; echo")
    assert "process not visible from here" in told
    assert f"leasecap release {lease}" in told
    assert f"if it is gone: leasecap release {lease}" in do(namespace, f"{leasecap_} status p | grep {lease}")
    assert do(namespace, f"{leasecap_} release {lease} --yes") == f"released {lease} of pool p"
    assert status().in_flight == 0


def test_a_daemon_that_keeps_the_lock_of_a_killed_wrapper_is_told_of_elsewhere(
    root: Path, namespace: subprocess.Popen[str]
) -> None:
    # Seen from in there its lock is held, as by one who is stopped; in its own namespace it is known to be gone.
    (root / "config.toml").write_text("[pools.p]\nlimit = 1\nstale_after = 0.3\nheartbeat = 0.1\n")
    code = "import os, sys; os.fork(); os.write(1, b'READY\\n'); sys.stdin.read()"
    wrapper = subprocess.Popen(
        [sys.executable, "-m", "leasecap", "run", "-p", "p", "--", sys.executable, "-c", code],
        env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert wrapper.stdout is not None and wrapper.stdin is not None
    with wrapper:
        assert [wrapper.stdout.readline() for _ in range(2)] == ["READY\n"] * 2
        [holder] = status().holders
        assert holder.child is not None
        wrapper.kill()
        os.kill(holder.child, signal.SIGKILL)
        time.sleep(0.5)  # until the heartbeat is a stale one
        told = do(namespace, f"{sys.executable} -m leasecap run -p p -w 0.2 -- true 2>&1 | tr '\\n' ' '; echo")
        assert f"lock held; if it is gone: leasecap release {holder.id}" in told
        leasecap.acquire("p", timeout=10).release()
        wrapper.stdin.close()


def test_a_waiter_is_told_of_a_holder_that_can_not_be_read(root: Path) -> None:
    lease = leasecap.acquire("p")
    other = Helper(
        "import errno, os\n"
        "from leasecap._host import directory\n"
        "read = directory.Directory.read_and_stat\n"
        "def refuse(self, name, limit):\n"
        "    if 'leases/' in name: raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))\n"
        "    return read(self, name, limit)\n"
        "directory.Directory.read_and_stat = refuse\n"
        "directory.Directory.probe = lambda self, *_: (None, None)\n"
        "import leasecap\n"
        "try: leasecap.acquire('p', timeout=0.1)\n"
        "except leasecap.AcquireTimeout as error: print(str(error).replace(chr(10), ' '))\n"
    )
    with other.process:
        told = other.hear()
    assert f"unreadable from here; if it is gone: leasecap release {lease.id}" in told
    lease.release()


@pytest.mark.linux("/proc")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount")
def test_a_boot_id_that_a_container_gave_itself_is_known_for_one(tmp_path: Path) -> None:
    (tmp_path / "boot_id").write_text("0123\n")
    code = "from leasecap._host.process import this_process; print(this_process().boot)"
    mount = f'mount --bind {tmp_path}/boot_id /proc/sys/kernel/random/boot_id && exec "$0" -c "{code}"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, sys.executable], env=environment(), capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    assert done.stdout == "container 0123\n"
    assert not str(_process.this_process().boot).startswith("container")
