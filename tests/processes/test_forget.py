"""`leasecap forget`: a pool goes when nobody uses it, and never from under a newcomer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment, run
from holders import HOLD, configure, give_back, hold, queue, ready
from killed_after import KILLED_AFTER

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._file_store.layout import pool_path
from leasecap._file_store.opening import open_pool
from leasecap._host.effects import Effects
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from referee import Team

NAME = pool_name("p")

# Stops for a word with the test at the given step of its acquire.
STOPS = """
from leasecap._file_store.{module} import {owner}
real = {owner}.{step}
def stop(self, *arguments):
    {owner}.{step} = real
    say("STOPPED")
    hear()
    return real(self, *arguments)
{owner}.{step} = stop
"""
BEFORE_STAGING = STOPS.format(module="entries", owner="Entries", step="stage")
BEFORE_THE_SECTION = {
    "os": STOPS.format(module="os_lock", owner="OsLock", step="try_enter"),
    "directory": STOPS.format(module="lock_directory", owner="LockDirectory", step="try_enter"),
}


def pools(root: Path) -> list[str]:
    return os.listdir(root / "pools")


def test_forget_removes_a_pool_and_what_it_was_taught(root: Path) -> None:
    leasecap.acquire("p", limit=1).release()
    assert run("pause", "p").returncode == 0
    done = run("forget", "p")
    assert (done.returncode, done.stdout, done.stderr) == (0, "p: forgotten\n", "")
    assert pools(root) == []
    leasecap.acquire("p", limit=1, timeout=0).release()
    assert len(pools(root)) == 1


@pytest.mark.usefixtures("pool")
def test_forget_says_what_stays_of_a_configured_pool(root: Path) -> None:
    assert "nobody has used it" in run("forget", "p").stdout
    leasecap.acquire("p").release()
    assert "leasecap limit p --unset" in run("forget", "P").stdout
    assert pools(root) == []


def test_forget_counts_no_dead(team: Team, lock: str) -> None:
    configure(team, lock, more="stale_after = 0.6\nheartbeat = 0.2\n")
    holder, waiter = team.start(HOLD, "holder"), team.start(HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    for worker in (waiter, holder):  # the waiter first: it would take the holder's slot
        worker.kill()
        worker.wait()
    assert (team.pool().in_flight, team.pool().waiting) == (1, 1)
    assert run("forget", "p").returncode == 0


@pytest.mark.parametrize("step", ["staging", "the section"])
@pytest.mark.parametrize("cleared", [True, False])
def test_newcomer_with_the_forgotten_pool_open_begins_again_in_the_new(
    team: Team, lock: str, step: str, cleared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(team, lock)
    newcomer = team.start((BEFORE_STAGING if step == "staging" else BEFORE_THE_SECTION[lock]) + HOLD, "newcomer")
    holder = team.start(HOLD, "holder")
    ready(newcomer, holder)
    newcomer.tell()
    newcomer.expect("STOPPED")
    if not cleared:  # it is slow to, or was killed
        monkeypatch.setattr("leasecap._file_store.forget.remove_tree", lambda path: None)
    assert runtime.forget(str(team.root), NAME)
    hold(holder)
    newcomer.tell()
    team.until_waiting(1)
    give_back(holder)
    newcomer.expect("HELD")
    give_back(newcomer)
    assert team.referee.peak() == 1


# Says whether it holds the lock of its process when it ends what it has in the forgotten pool.
SAYS_THE_LOCK = """
from leasecap._file_store.ticket import FileTicket
from leasecap._runtime import runtime
real_end = FileTicket.end
def end(self):
    say(str(runtime.own.lock._is_owned()))
    real_end(self)
FileTicket.end = end
"""


@pytest.mark.posix("OS locks")
def test_newcomer_that_begins_again_holds_no_lock_for_which_heartbeats_wait(team: Team) -> None:
    """Their thread may wait for it while it holds its own, which is needed where something can't be removed."""
    configure(team, "os")
    newcomer = team.start(BEFORE_THE_SECTION["os"] + SAYS_THE_LOCK + HOLD, "newcomer")
    ready(newcomer)
    newcomer.tell()
    newcomer.expect("STOPPED")
    assert runtime.forget(str(team.root), NAME)
    newcomer.tell()
    assert [newcomer.line(), newcomer.line()] == ["False", "False"]  # it ends nothing more before it begins again
    newcomer.expect("HELD")
    give_back(newcomer)


STEPS = f"""{KILLED_AFTER}
from leasecap._runtime import runtime
from leasecap._config.pool_name import pool_name
runtime.forget(sys.argv[1], pool_name("p"))
"""


@pytest.mark.parametrize("made_again", [False, True])
def test_forget_killed_at_any_step_can_be_done_again(root: Path, made_again: bool) -> None:
    path, steps = Path(pool_path(str(root), NAME)), 0
    while True:
        open_pool(Effects(), str(root), NAME, "os").directory.close()
        done = subprocess.run([sys.executable, "-c", STEPS, str(root), str(steps)], env=environment(), check=False)
        assert done.returncode in (0, 9)
        if made_again and path.exists():
            (path / "queue").mkdir(exist_ok=True)  # as a tidy newcomer does
            open_pool(Effects(), str(root), NAME, "os").directory.close()
        runtime.forget(str(root), NAME)
        assert not path.exists(), steps
        if done.returncode == 0:
            break
        steps += 1
    assert steps > 5
