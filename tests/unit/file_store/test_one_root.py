"""One directory is one root, however a process spells it; and one that was made anew is another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from commands import environment
from holders import HOLD, configure, ready
from hostile import mounted
from referee import until

import leasecap
from leasecap._runtime import Runtime, runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team


@pytest.fixture
def spelled(root: Path) -> dict[str, str]:
    """Spellings of one root."""
    root.mkdir(mode=0o700)
    link = root.parent / "link"
    link.symlink_to(root.parent)
    return {
        "plain": str(root),
        "by a symlink": str(link / "root"),
        "with a dot": f"{root}/.",
        "with dots": f"{root}/../root",
        "twice": str(link / "link" / "root"),
    }


def test_all_spellings_are_one_root(spelled: dict[str, str]) -> None:
    one = Runtime()
    found = {id(one.root(path)) for path in spelled.values()}
    assert len(found) == 1
    for path in spelled.values():
        assert one.root(path).path == path  # the one that surely means it
    one.close(spelled["twice"])
    assert one.root(spelled["plain"]) is not one.root(spelled["plain"] + "/..")


def test_a_root_that_is_made_later_is_one_as_well(root: Path) -> None:
    one = Runtime()
    (root.parent / "link").symlink_to(root.parent)
    before = one.root(str(root)), one.root(str(root.parent / "link" / "root"))
    root.mkdir(mode=0o700)
    assert one.root(str(root)) is one.root(str(root.parent / "link" / "root"))
    assert one.root(str(root)) in before


def test_a_link_to_the_root_itself_means_the_same_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with leasecap.slot("p", limit=1):
        (root.parent / "to-it").symlink_to(root)
        monkeypatch.setenv("LEASECAP_HOME", str(root.parent / "to-it"))
        assert leasecap.status("p").root == str(root)
        with pytest.raises(leasecap.AcquireTimeout):
            leasecap.acquire("p", limit=1, timeout=0, borrow=False)


def test_a_spelling_that_comes_to_mean_another_directory_is_followed(root: Path, tmp_path: Path) -> None:
    one = Runtime()
    for name in ("a", "b"):
        (tmp_path / name / "root").mkdir(parents=True, mode=0o700)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "a")
    first = one.root(str(link / "root"))
    assert one.root(str(tmp_path / "a" / "root")) is first
    link.unlink()
    link.symlink_to(tmp_path / "b")
    second = one.root(str(link / "root"))
    assert second is not first
    assert second is one.root(str(tmp_path / "b" / "root"))
    assert one.root(str(tmp_path / "a" / "root")) is first
    assert first.path == str(tmp_path / "a" / "root")  # not by the link


def test_pools_opened_by_one_spelling_are_those_of_the_other(
    spelled: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = leasecap.acquire("p", limit=1)
    monkeypatch.setenv("LEASECAP_HOME", spelled["by a symlink"])
    assert leasecap.try_acquire("p", limit=1, borrow=False) is None
    with lease:
        leasecap.acquire("p", limit=1, timeout=0).release()  # it borrows
    last = leasecap.try_acquire("p", limit=1)
    assert last is not None
    last.release()
    runtime.close(spelled["plain"])


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.posix("an open pool's descriptors")
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_a_root_made_anew_is_another_and_the_old_one_is_closed(root: Path) -> None:
    leasecap.acquire("p", limit=2).release()
    path = str(root)
    lease = leasecap.acquire("p", limit=2)
    before = runtime.root(path)
    shutil.rmtree(root)
    other = leasecap.acquire("p", limit=2)
    assert runtime.root(path) is not before
    between = descriptors()
    lease.release()
    assert lease.lost
    lease.release()
    runtime.root(path)
    assert descriptors() <= between - 3  # the pool, its lock, and the lease
    other.release()
    assert not other.lost
    assert leasecap.status("p").pools[0].in_flight == 0
    lease.report(429)  # goes to the pool that is there now


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_roots_that_come_and_go_leave_nothing_open(root: Path) -> None:
    counts = []
    for _ in range(30):
        for _ in range(2):
            leasecap.acquire("p", limit=2).release()
        shutil.rmtree(root)
        counts.append(descriptors())
    assert max(counts[5:]) <= max(counts[:5]) + 1


@pytest.mark.posix("OS locks")
def test_two_spellings_hear_of_their_grants_at_once(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(team)
    link = team.root.parent / "link"
    link.symlink_to(team.root.parent)
    holder = team.start(HOLD, "holder")
    ready(holder)
    holder.tell()
    holder.expect("HELD")
    got: list[leasecap.Lease] = []

    def wait() -> None:
        got.append(leasecap.acquire("p", borrow=False))

    threads = []
    for home in (str(team.root), str(link / "root")):
        monkeypatch.setenv("LEASECAP_HOME", home)
        threads.append(threading.Thread(target=wait))
        threads[-1].start()
        team.until_waiting(len(threads))
    # A ticket stands in the queue a moment before its process has a wake-up.
    until(lambda: len(list(team.root.glob("wake/*"))) == 1, "there is one wake-up")
    holder.tell()
    holder.expect("RELEASED")
    for number in (1, 2):
        for thread in threads:
            thread.join(0.3 if len(got) >= number else 30 / number)
        assert len(got) >= number
        got[number - 1].release()
    for thread in threads:
        thread.join(30)
    runtime.close(str(team.root))


BOUND = """
import os, sys
import leasecap
from leasecap._runtime import runtime
here, there = sys.argv[1:]
assert runtime.root(here) is runtime.root(there)
os.environ["LEASECAP_HOME"] = here
with leasecap.slot("p", limit=1) as lease:
    os.environ["LEASECAP_HOME"] = there
    assert leasecap.try_acquire("p", limit=1, borrow=False) is None
    leasecap.acquire("p", limit=1, timeout=0).release()
    os.environ.update(lease.env())
    code = "import leasecap; leasecap.acquire('p', limit=1, timeout=0).release(); print('borrowed', flush=True)"
    sys.exit(os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]))
"""


def test_a_bind_mount_of_the_root_is_that_root_to_borrowers_too(root: Path, tmp_path: Path) -> None:
    root.mkdir(mode=0o700)
    there = tmp_path / "there"
    there.mkdir(mode=0o700)
    under = mounted(f"mount --bind {root} {there}")
    done = subprocess.run(
        [*under, sys.executable, "-c", BOUND, str(root), str(there)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "borrowed\n"), done.stderr
