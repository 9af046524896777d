"""`leasecap limit POOL`: what is in force beside what the file says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from commands import DEADLINE, run, start, status, until

import leasecap
from leasecap._config.seal import seal

CONFIG = "[pools.p]\nlimit = 8\n"


@pytest.fixture(autouse=True)
def configured(root: Path) -> None:
    root.mkdir(mode=0o700)
    (root / "config.toml").write_text(CONFIG)
    seal(str(root), CONFIG)


def shown(pool: str = "p", *change: str) -> list[str]:
    done = run("limit", pool, *change)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_limit_of_an_idle_pool_is_that_of_the_file(root: Path) -> None:
    says = ["p: 8 (config.toml [pools.p])", "Change it: leasecap limit p N"]
    assert shown() == says
    assert not (root / "pools").exists()
    leasecap.acquire("p").release()
    assert shown() == says


def test_limit_shows_a_cut_and_a_pause() -> None:
    leasecap.acquire("p").release()
    leasecap.report("p", 429, retry_after=60)
    cut, *others = shown()[1:-1]
    assert cut.startswith("in force now: 6 (reduced, below 8")
    assert any("paused for" in line and "a 429" in line for line in others)
    assert run("pause", "p").returncode == 0
    assert any("closed for" in line and "by hand" in line for line in shown())


def test_limit_shows_one_that_is_declared() -> None:
    holders = [
        start("run", "-p", pool, "--limit", "3", "--", "cat", stdin=subprocess.PIPE) for pool in ("p", "declared")
    ]
    until(lambda: status("p").in_flight and status("declared").in_flight)
    assert f"in force now: 3 (declared by {status('p').holders[0].id}, below 8 from config.toml [pools.p])" in shown()
    first, second, *_ = shown("declared")
    assert (first, second.partition(" by ")[0]) == ("declared: none", "in force now: 3 (declared")
    for holder in holders:
        holder.communicate(timeout=DEADLINE)


def test_limit_shows_why_no_slot_is_given_out() -> None:
    leasecap.acquire("p").release()
    leasecap.report("p", 429)
    Path(status().path, "feedback", "state.json").write_text("{")
    assert any("leasecap resume p" in line for line in shown())


def test_limit_of_a_misspelt_name_asks() -> None:
    assert "There is no such pool yet; did you mean anthropic?" in shown("antropic")
    assert "Set it: leasecap limit antropic N" in shown("antropic")


def test_limit_that_is_set_for_a_misspelt_name_asks() -> None:
    done = run("limit", "antropic", "--unset")
    assert done.returncode == 1 and "no pool 'antropic'; did you mean anthropic?" in done.stderr
    assert shown("antropic", "3")[1:] == [
        "There was no such pool; did you mean anthropic? Take its limit out: leasecap limit antropic --unset"
    ]
    run("limit", "antropic", "--unset")
    assert len(shown("antropic", "3")) == 2, "it was undone"
    assert len(shown("antropic", "4")) == 1, "now there is one"
    assert len(shown("something-else", "4")) == 1


def test_pause_of_no_length_is_wrong_usage() -> None:
    assert run("pause", "p", "0").returncode == 2
    assert not any("paused" in line for line in shown())
