"""What errors and hints say: what happened, where, and something that can be done."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import DEADLINE, PROGRAM, environment, remove_tree, run, start, status, until

import leasecap
from leasecap._config.nearest import nearest
from leasecap._faults import store_error

BOM = b"\xef\xbb\xbf"


def limited(number: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``leasecap ARGUMENTS`` where so many descriptors may be open."""
    return subprocess.run(
        ["sh", "-c", f'ulimit -n {number}; exec "$@"', "sh", *PROGRAM, *arguments],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def configure(root: Path, text: str | bytes) -> None:
    root.mkdir(mode=0o700, exist_ok=True)
    (root / "config.toml").write_bytes(text.encode() if isinstance(text, str) else text)


def test_config_may_begin_with_a_byte_order_mark(root: Path) -> None:
    configure(root, BOM + b"# mine\r\n[pools.p]\r\nlimit = 2\r\n")
    assert run("limit", "p").stdout.startswith("p: 2 (config.toml [pools.p])")
    assert run("limit", "p", "3").returncode == 0
    assert status().limit == 3
    assert b"# mine\r\n" in (root / "config.toml").read_bytes()
    configure(root, BOM + b"[pools.p]\nlimt = 2\n")
    assert "config.toml:2: pools.p.limt" in run("limit", "p").stderr


@pytest.mark.parametrize("arguments", [["run", "-p", "my pool", "--", "true"], ["acquire", "-p", "my pool"]])
def test_no_limit_names_what_can_be_typed(arguments: list[str]) -> None:
    pid = ["--for-pid", str(os.getpid())] if arguments[0] == "acquire" else []
    done = run(arguments[0], *pid, *arguments[1:])
    assert "leasecap limit 'my pool' 4" in done.stderr
    assert "give --limit" not in done.stderr and "did you mean" not in done.stderr


def test_no_limit_asks_whether_a_name_is_misspelt() -> None:
    assert "did you mean anthropic?" in run("run", "-p", "antropic", "--", "true").stderr
    with pytest.raises(leasecap.ConfigError, match=r"did you mean ollama\?"):
        leasecap.acquire("olama")
    with pytest.raises(leasecap.ConfigError) as caught:
        leasecap.acquire("openai")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("limt", "limit"), ("Pools", "pools"), ("pool", "pools"), ("foo", None), ("x", None), ("timeout", None)],
)
def test_nearest_is_near(word: str, meant: str | None) -> None:
    assert nearest(word, ["pools", "limit", "defaults", "commands", "cooldown"]) == meant


def test_unknown_table_gets_no_far_fetched_hint(root: Path) -> None:
    configure(root, "[defaults]\nfoo = 1\n")
    done = run("limit")
    assert "unknown key" in done.stderr and "did you mean" not in done.stderr


def test_doctor_tells_a_file_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file: is no directory" in run("doctor", str(tmp_path / "file")).stdout
    assert "nothing: no such directory" in run("doctor", str(tmp_path / "nothing")).stdout


@pytest.mark.parametrize(
    ("files", "free", "says"),
    [(100, 0, "no inode left"), (100, 20, "no inode left"), (10**6, 10**5, "disk is full"), (0, 0, "full")],
)
def test_full_disk_is_told_from_one_without_inodes(
    files: int, free: int, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_files=files, f_favail=free))
    error = store_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), str(tmp_path / "not" / "there"))
    assert says in error.remedy


def test_pools_that_cannot_be_read_are_not_no_pools(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "pools").touch()  # root may read any directory
    done = run("status")
    assert done.returncode == 1
    assert "No pool yet" not in done.stdout and f"{root}/pools" in done.stdout
    assert str(root / "pools") in str(leasecap.status().error)
    assert f"not all pools can be read: {root}/pools" in run("release", "abc").stderr
    assert "pools" in run("doctor").stdout.splitlines()[-1]


def test_a_pool_without_a_limit_names_an_option_that_the_verb_has(root: Path) -> None:
    for verb in (("acquire", "-p", "p", "--for-pid", str(os.getpid())), ("run", "-p", "p", "--", "true")):
        done = run(*verb)
        assert done.returncode != 0
        assert "leasecap limit p 4" in done.stderr and "for one call only: --limit N" in done.stderr
        assert "--limit" in run(verb[0], "--help").stdout


def test_run_says_that_the_root_was_removed(root: Path) -> None:
    configure(root, "[pools.p]\nlimit = 1\nheartbeat = 0.05\nstale_after = 3\n")
    holder = start("run", "-p", "p", "--", "cat", stdin=subprocess.PIPE)
    until(lambda: status().in_flight == 1 and status().holders[0].child)
    remove_tree(root)
    assert holder.stderr is not None
    line = holder.stderr.readline()
    assert "was removed" in line and "by a person" not in line
    holder.communicate(timeout=DEADLINE)
    assert holder.returncode == 0


@pytest.mark.parametrize("number", [6, 8, 9])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "-p", "p", "--limit", "1", "-w", "1", "--", "true"], 125),
        (["limit", "p", "3"], 1),
        (["pause", "p", "1s"], 1),
        (["forget", "p"], 1),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_without_descriptors_it_is_an_error_and_nothing_is_broken(number: int, arguments: list[str], code: int) -> None:
    leasecap.acquire("p", limit=1).release()
    done = limited(number, *arguments)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, code)
    if done.returncode:
        assert "ulimit -n" in done.stderr
    assert run("resume", "p").returncode in (0, 1)
    leasecap.acquire("p", limit=1, timeout=30).release()


def test_what_is_wrong_with_leasecap_pool_is_said_of_it() -> None:
    done = run("run", "--", "true", env=environment(LEASECAP_POOL=".."))
    assert done.returncode == 125
    assert "environment: LEASECAP_POOL" in done.stderr


def test_one_that_does_not_wait_is_told_that_no_slot_is_free_now() -> None:
    with leasecap.slot("p", limit=1):
        told = rf"no slot of pool 'p' is free now(, after \d+\.\d s)? \(limit 1\)\nheld by: pid {os.getpid()} "
        with pytest.raises(leasecap.AcquireTimeout, match=told):
            leasecap.acquire("p", timeout=0, borrow=False)
        for options in (["-n"], ["-w", "0"]):
            done = run("run", "-p", "p", "--limit", "1", "--no-borrow", *options, "--", "true")
            assert done.returncode == 75
            assert re.match(told, done.stderr.replace("leasecap: ", ""))
        waited = run("run", "-p", "p", "--limit", "1", "--no-borrow", "-w", "10ms", "--", "true").stderr
        assert re.search(r"came free in \d+\.\d s .*position 1 in the queue", waited)


def test_a_wait_without_a_limit_shows_no_huge_number(root: Path) -> None:
    configure(root, '[pools.p]\nlimit = "unlimited"\n')
    assert run("pause", "p").returncode == 0
    done = run("run", "-p", "p", "-w", "5", "--", "true")
    assert done.returncode == 75
    assert "0/no limit" in done.stderr and "(no limit" in done.stderr
    assert "9223372036854775807" not in done.stderr
