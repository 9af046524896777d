"""`leasecap acquire --for-pid` and `leasecap release`: a slot for a process that isn't ours, as a hook takes it."""

from __future__ import annotations

import subprocess
from itertools import pairwise

import pytest
from commands import PROGRAM, environment, run, start, status, until
from holders import configure

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from referee import Team


pytestmark = pytest.mark.usefixtures("pool")


@pytest.fixture
def agent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that a hook takes a slot for."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        yield process
        process.kill()


def acquire(pid: int, *options: str) -> str:
    done = run("acquire", "-p", "p", "--for-pid", str(pid), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_lease_is_held_by_the_process_until_it_is_released_by_its_id(agent: subprocess.Popen[bytes]) -> None:
    lease = acquire(agent.pid)
    [holder] = status().holders
    assert (holder.id, holder.pid, holder.evidence) == (lease, agent.pid, "process runs")
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 75
    assert run("release", lease, "--yes").returncode == 0
    assert status().in_flight == 0


def test_an_agent_that_dies_without_releasing_gives_its_slot_back(agent: subprocess.Popen[bytes]) -> None:
    acquire(agent.pid)
    waiter = start("run", "-p", "p", "--", "echo", "next")
    until(lambda: status().waiting == 1)
    agent.kill()  # a zombie from now on, until the fixture waits for it: gone all the same
    assert waiter.communicate(timeout=60)[0] == "next\n"


def test_a_waiting_hook_that_is_killed_leaves_no_ticket_that_could_be_granted(agent: subprocess.Popen[bytes]) -> None:
    holder = leasecap.acquire("p")
    hook = start("acquire", "-p", "p", "--for-pid", str(agent.pid))
    until(lambda: status().waiting == 1)
    hook.kill()
    hook.communicate()
    holder.release()
    lease = leasecap.acquire("p", timeout=30)
    assert status().in_flight == 1
    lease.release()


def test_release_hands_the_slot_on(agent: subprocess.Popen[bytes]) -> None:
    lease = acquire(agent.pid)
    waiter = start("run", "-p", "p", "--", "echo", "next")
    until(lambda: status().waiting == 1)
    assert run("release", lease, "--yes").stdout == f"released {lease} of pool p\n"
    assert waiter.communicate(timeout=60)[0] == "next\n"


def test_for_a_process_that_does_not_run_no_slot_is_taken(agent: subprocess.Popen[bytes]) -> None:
    agent.kill()
    agent.wait()
    done = run("acquire", "-p", "p", "--for-pid", str(agent.pid))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"pid {agent.pid} does not run" in done.stderr
    assert status().in_flight == 0


def test_somebody_elses_lease_is_not_released_without_asking(agent: subprocess.Popen[bytes]) -> None:
    lease = acquire(agent.pid)
    asked = run("release", lease)
    assert asked.returncode == 1
    assert "--yes" in asked.stderr
    assert [holder.id for holder in status().holders] == [lease]


def test_a_process_releases_freely_what_it_or_a_parent_of_it_holds() -> None:
    # The agent is the shell here, its hooks are its children.
    script = 'id=$("$@" acquire -p p --for-pid $$) && "$@" release "$id"'
    done = subprocess.run(["sh", "-c", script, "sh", *PROGRAM], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert status().in_flight == 0


def test_the_first_characters_of_an_id_will_do_unless_they_fit_two(team: Team, agent: subprocess.Popen[bytes]) -> None:
    configure(team, limit=40)
    leases = [leasecap.acquire("p") for _ in range(17)]  # with 16 digits, two of 17 begin alike
    first = sorted(lease.id for lease in leases)
    twice = next(one[0] for one, other in pairwise(first) if one[0] == other[0])
    done = run("release", twice, "--yes")
    assert done.returncode == 1
    assert "could be any of" in done.stderr
    lease = acquire(agent.pid)
    assert run("release", lease[:12], "--yes").returncode == 0
    for held in leases:
        held.release()


@pytest.mark.parametrize("lease", ["ffff", "*"])
def test_an_id_that_nobody_holds_is_said_to_be_none(lease: str) -> None:
    done = run("release", lease, "--yes")
    assert done.returncode == 1
    assert "is held" in done.stderr


def test_what_was_taken_for_an_agent_is_released_by_its_pid(agent: subprocess.Popen[bytes]) -> None:
    lease = acquire(agent.pid)
    assert acquire(agent.pid) == lease, "it has one, however often its hooks ask"
    assert run("release", "--for-pid", str(agent.pid), "--yes").stdout == f"released {lease} of pool p\n"
    assert status().in_flight == 0
    assert "holds nothing" in run("release", "--for-pid", str(agent.pid)).stdout
