"""`leasecap status`: true at any time, whatever state the root is in, and writing nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import PROGRAM, environment, run, start, status, status_json, until
from places import IS_ROOT, PLATFORM
from planted import PLANTED

import leasecap
from leasecap._file_store.layout import FORMAT
from leasecap._host import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from leasecap._liveness.presence import Presence


@pytest.fixture
def lease() -> Iterator[leasecap.Lease]:
    with leasecap.acquire("p", limit=1, label="the holder") as held:
        yield held


def tree(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in root.rglob("*"))


def pool_directory(root: Path) -> Path:
    [found] = (root / "pools").iterdir()
    return found


def test_a_machine_that_never_used_leasecap_is_told_how_to_begin(root: Path) -> None:
    done = run("status")
    assert done.returncode == 0
    assert "leasecap run" in done.stdout
    assert str(root) in done.stdout
    assert not root.exists()


@pytest.mark.parametrize("below", ["", "sub"], ids=["at the root", "on the way to it"])
@pytest.mark.parametrize("pools", [(), ("p",), ("p", "q")], ids=len)
def test_file_where_the_root_should_be_is_told_of_once(tmp_path: Path, below: str, pools: tuple[str, ...]) -> None:
    file = tmp_path / "file"
    file.touch()
    there = environment(LEASECAP_HOME=str(file / below))
    done = run("status", *pools, env=there)
    assert done.returncode == 1
    told = f"{file}: is no directory"
    said = [line.partition("  ")[2] or line for line in done.stdout.splitlines()[2:] if line]
    assert said[0] == told and "move" in said[1]
    assert said[2:] == ["who holds and who waits is not known"] * len(pools)
    for pool in json.loads(run("status", *pools, "--json", env=there).stdout)["pools"]:
        assert pool["error"].startswith(told)
    assert told in run("forget", "p", env=there).stderr


@pytest.mark.skipif(IS_ROOT, reason="root may enter every directory")
@pytest.mark.posix("modes")
@pytest.mark.parametrize("pools", [(), ("p",)], ids=len)
@pytest.mark.usefixtures("lease")
def test_root_that_may_not_be_entered_is_told_of_once(root: Path, pools: tuple[str, ...]) -> None:
    root.chmod(0)
    done = run("status", *pools)
    root.chmod(0o700)
    assert (done.returncode, done.stdout.count("permission denied")) == (1, 1)
    assert done.stdout.count("is not known") == len(pools)


def test_it_writes_nothing_and_takes_no_lock(root: Path, lease: leasecap.Lease) -> None:
    before = tree(root)
    # A process that is stopped inside the pool's lock jams everything else.
    jam = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'rb+'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('locked', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", jam, str(pool_directory(root) / "lock")], stdout=subprocess.PIPE, text=True
    ) as jammer:
        assert jammer.stdout is not None
        assert jammer.stdout.readline() == "locked\n"
        assert status_json()["pools"][0]["in_flight"] == 1
        jammer.kill()
    assert tree(root) == before


def test_a_pool_that_is_only_configured_is_shown_with_its_limit_and_where_it_comes_from(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.anthropic]\nlimit = 4\n")
    assert "anthropic  0/4 in flight, 0 waiting   limit: config.toml [pools.anthropic]" in run("status").stdout
    assert "zai  0/3 in flight" in run("status", "zai").stdout


def test_a_pool_that_is_named_twice_is_shown_once(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text('[pools.p]\nlimit = 3\naliases = ["one"]\n[pools.q]\nlimit = 1\n')
    shown = json.loads(run("status", "one", "q", "p", "P", "q", "--json").stdout)
    assert [pool["pool"] for pool in shown["pools"]] == ["p", "q"]
    assert run("status", "p", "p").stdout.count("config.toml [pools.p]") == 1


def test_a_broken_configuration_is_said_and_the_pools_are_shown_all_the_same(root: Path, lease: leasecap.Lease) -> None:
    (root / "config.toml").write_text("[pools.p]\nlimit = 'two'\n")
    done = run("status")
    assert done.returncode == 1
    assert "config.toml:2" in done.stdout
    assert lease.id in done.stdout


def test_a_broken_configuration_is_not_answered_with_a_command_that_fails_as_well(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text("[pools.p\n")
    done = run("status")
    assert "not valid TOML" in done.stdout and "Try:" not in done.stdout
    assert done.returncode == 1


def test_a_store_that_is_none_is_said_and_the_pools_are_shown_all_the_same(lease: leasecap.Lease) -> None:
    done = run("status", env=environment(LEASECAP_STORE="nowhere"))
    assert done.returncode == 1
    assert "LEASECAP_STORE = nowhere" in done.stdout
    assert lease.id in done.stdout


def test_a_pool_that_can_not_be_read_is_not_said_to_be_idle(root: Path, lease: leasecap.Lease, tmp_path: Path) -> None:
    pool = Path(leasecap.status("p").pools[0].path)
    aside = pool.rename(tmp_path / "aside")
    pool.touch()
    done = run("status")
    pool.unlink()
    aside.rename(pool)
    assert done.returncode == 1
    assert "who holds and who waits is not known" in done.stdout
    assert "in flight" not in done.stdout


def test_a_process_is_looked_up_once_however_many_slots_it_holds(
    lease: leasecap.Lease, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    presence = process.presence
    evidence = "process runs" if PLATFORM == "win32" else "lock held"  # there are no OS locks on Windows

    def counted(pid: int, start: int) -> Presence:
        asked.append(pid)
        return presence(pid, start)

    with leasecap.acquire("q", limit=2, borrow=False), leasecap.acquire("q", limit=2, borrow=False):
        monkeypatch.setattr("leasecap._host.effects.presence", counted)
        for looks in (1, 2):
            holders = [holder for pool in leasecap.status().pools for holder in pool.holders]
            assert [holder.evidence for holder in holders] == [evidence] * 3
            assert asked == [os.getpid()] * looks, "and again by the next status"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version": 99}', b"\xff" * 20_000])
def test_a_corrupt_record_is_shown_as_such_and_counts_as_held(
    root: Path, lease: leasecap.Lease, content: bytes
) -> None:
    [entry] = (pool_directory(root) / "leases").iterdir()
    (entry / "info.json").write_bytes(content)
    assert "(corrupt record)" in run("status").stdout
    assert status().in_flight == 1
    assert leasecap.try_acquire("p", limit=1, borrow=False) is None


def test_a_heartbeat_with_any_byte_damaged_is_nobodys_error(root: Path, lease: leasecap.Lease) -> None:
    # "1 -ffff..." was a grant some 10^26 seconds hence, which no date can say.
    [alive] = pool_directory(root).glob("leases/*/alive")
    whole = alive.read_bytes()
    damaged = [whole[:at] + byte + whole[at + 1 :] for at in range(len(whole)) for byte in (b"-", b"f", b"\xff", b" ")]
    for data in (*damaged, b"", b"1", b"1 -" + b"f" * 30, b"7" + whole):
        alive.write_bytes(data)
        assert [holder.alive for holder in status().holders] == [True]
        with pytest.raises(leasecap.AcquireTimeout, match="held by"):
            leasecap.acquire("p", timeout=0, borrow=False)


def test_a_lease_that_is_half_removed_does_not_disturb(root: Path, lease: leasecap.Lease) -> None:
    [entry] = (pool_directory(root) / "leases").iterdir()
    (entry / "info.json").unlink()
    assert run("status").returncode == 0
    (entry / "alive").unlink()
    assert run("status").returncode == 0


def test_what_was_put_there_by_somebody_else_is_shown_and_counts(root: Path, lease: leasecap.Lease) -> None:
    leases = pool_directory(root) / "leases"
    (leases / "strange").mkdir()
    (leases / "file").touch()
    (leases / ".hidden").mkdir()
    assert status().in_flight == 3
    assert "strange" in run("status").stdout


NEWER = json.dumps({"format": FORMAT + 1, "name": "p", "identity": "p", "lock": "os"})


@pytest.mark.parametrize("content", ["", "{", "[" * 4096, NEWER], ids=["empty", "torn", "deep", "newer"])
def test_a_pool_that_cannot_be_read_says_why_and_the_others_are_shown(
    root: Path, lease: leasecap.Lease, content: str
) -> None:
    leasecap.acquire("other", limit=1).release()
    (root / "pools" / _directory_of("p") / "pool.json").write_text(content)
    done = run("status")
    assert done.returncode == 1
    assert "pool.json" in done.stdout
    assert "other  0 in flight" in done.stdout


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_what_is_planted_in_place_of_a_pools_description_is_shown_as_such_at_once(
    root: Path, lease: leasecap.Lease, plant: Callable[[Path], object]
) -> None:
    # A FIFO had `status` wait for ever for somebody to write to it.
    description = pool_directory(root) / "pool.json"
    description.unlink()
    plant(description)
    done = run("status")
    assert done.returncode == 1
    assert "pool.json" in done.stdout


def _directory_of(pool: str) -> str:
    return Path(leasecap.status(pool).pools[0].path).name


@pytest.mark.posix("run")
def test_a_dead_holder_is_shown_as_such_until_somebody_wants_its_slot() -> None:
    holder = start("run", "-p", "p", "--limit", "1", "--", "sh", "-c", "kill -9 $PPID; kill -9 $$")
    holder.communicate(timeout=60)
    until(lambda: not status().holders[0].alive)
    assert ": to be reaped" in run("status").stdout  # by its pid, or by its lock if killed before it noted the command
    assert run("run", "-p", "p", "--limit", "1", "-n", "--", "true").returncode == 0


@pytest.mark.posix("run")
def test_a_loan_is_shown() -> None:
    inner = [*PROGRAM, "run", "-p", "p", "--limit", "1", "--", *PROGRAM, "status", "--json"]
    done = run("run", "-p", "p", "--limit", "1", "--", *inner)
    pool = json.loads(done.stdout)["pools"][0]
    assert pool["in_flight"] == 1
    assert [holder["borrows_from"] for holder in pool["holders"]] == [None, pool["holders"][0]["id"]]


def test_control_characters_in_a_label_do_not_reach_the_terminal() -> None:
    with leasecap.acquire("p", limit=1, label="a\x1b]0;title\x07\nb"):
        assert "\x1b" not in run("status").stdout


@pytest.mark.posix("SIGPIPE")
def test_a_reader_that_goes_away_is_no_traceback(lease: leasecap.Lease) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" status | true', "sh", *PROGRAM], env=environment(), capture_output=True, text=True
    )
    assert done.stderr == ""


def test_watch_shows_it_again_until_it_is_interrupted(lease: leasecap.Lease) -> None:
    watching = start("status", "--watch")
    assert watching.stdout is not None
    seen = [line for line in watching.stdout if lease.id in line and not watching.send_signal(2)]  # type: ignore[func-returns-value]
    assert len(seen) >= 1
    assert watching.wait(timeout=60) == -2
    watching.communicate()


def test_a_name_that_cannot_be_one_is_refused() -> None:
    done = run("status", "..")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.posix("run")
def test_holder_that_is_stopped_and_where_it_was_started_are_shown(root: Path, tmp_path: Path) -> None:
    directory = tmp_path / "worktree"
    directory.mkdir()
    # By its own hand. leasecap stops as well where the shell has job control.
    holder = start("run", "-p", "p", "--limit", "1", "--", "sh", "-c", "kill -STOP $$; echo went on", cwd=directory)
    until(lambda: status().holders and status().holders[0].stopped)
    waiter = start("run", "-p", "p", "--limit", "1", "--", "true", cwd=directory)
    until(lambda: status().waiting == 1)
    shown = run("status").stdout
    rows = [line for line in shown.splitlines() if "worktree" in line]
    assert len(rows) == 2
    assert "; stopped" in rows[0]
    [entry] = status().waiters
    assert entry.cwd == str(directory)
    child = status().holders[0].child
    assert child is not None
    os.kill(child, signal.SIGCONT)
    holder.send_signal(signal.SIGCONT)
    assert holder.communicate(timeout=60)[0] == "went on\n"
    waiter.communicate(timeout=60)
    assert waiter.returncode == 0
