"""Each verb of the command line on a pool: what it does, its exit status, and the essence of what it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest
from commands import PROGRAM, environment, run, start, status, status_json, until
from gated import Gated
from holders import configure
from provider import Provider
from provider_steps import Latch, reply

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from referee import Team

pytestmark = pytest.mark.usefixtures("pool")


# -- run -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["-p", "p", "--", "sh", "-c", "exit 3"], 3, ""),
        (["-p", "p", "--", "sh", "-c", "kill -TERM $$"], -signal.SIGTERM, ""),
        (["-p", "p", "--", "no-such-command-here"], 127, "not found"),
        (["-p", "p", "--", "/"], 126, "directory"),
        (["-p", "p", "--max-hold", "100ms", "--kill-after", "100ms", "--", "sleep", "600"], 124, "held too long"),
        (["-p", "without-a-limit", "--", "true"], 125, "leasecap limit without-a-limit 4"),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else "",
)
def test_run_ends_as_its_command_does_or_says_why_not(arguments: list[str], code: int, says: str) -> None:
    done = run("run", *arguments)
    assert done.returncode == code and says in done.stderr, done.stderr
    assert status().in_flight == 0


def test_run_gives_its_command_lease_and_pool(team: Team) -> None:
    asks = [sys.executable, "-c", "import os; print(os.environ['LEASECAP_POOL'], os.environ['LEASECAP_LEASE'])"]
    name, lease = run("run", "-p", "p", "--", *asks).stdout.split()
    assert name == "p" and re.search(r"/[0-9a-f]{16}$", lease)
    team.assert_idle()


def test_run_says_who_holds_when_no_slot_comes_in_time() -> None:
    with leasecap.slot("p", label="the-holder"):
        for options, code in ((["-n"], 75), (["-w", "0.05"], 75), (["-n", "-E", "9"], 9)):
            done = run("run", "-p", "p", *options, "--", "echo", "never")
            assert (done.returncode, done.stdout) == (code, "")
            assert "limit 1" in done.stderr and "the-holder" in done.stderr
        loud, quiet = (run("run", "-p", "p", "-w", "1.3", *more, "--", "true").stderr for more in ([], ["-q"]))
        assert "waiting for p: 1/1, position 1, held longest by pid" in loud and "the-holder" in loud
        assert "waiting" not in quiet
        assert status().waiting == 0


def test_run_with_no_borrow_takes_a_slot_of_its_own() -> None:
    inner = [*PROGRAM, "run", "-p", "p", "-n", "--no-borrow", "--", "true"]
    assert run("run", "-p", "p", "--", *inner).returncode == 75


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_run_that_is_interrupted_in_the_queue_leaves_no_ticket(team: Team, signum: int) -> None:
    with leasecap.slot("p"):
        waiter = team.leasecap("run", "-p", "p", "--", "true")
        team.until_waiting(1)
        waiter.send(signum)
        assert waiter.wait() == -signum
        until(lambda: status().waiting == 0)


def test_run_whose_lease_was_released_by_a_person_says_so_and_ends_as_its_command(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    wrapper = start("run", "-p", "p", "--", "sh", "-c", f"echo ready; read line < {fifo}; exit 3")
    assert wrapper.stdout is not None and wrapper.stdout.readline() == "ready\n"
    [holder] = status().holders
    assert run("release", holder.id, "--yes").returncode == 0
    fifo.write_text("go\n")
    _, said = wrapper.communicate(timeout=60)
    assert wrapper.returncode == 3
    assert "was lost" in said


def test_run_per_request_holds_a_slot_for_each_request() -> None:
    latch = Latch()
    with Provider() as provider, Gated(provider) as gate, gate.connect() as client:
        assert status().in_flight == 0
        provider.plan((latch, *reply(200, b"answered")))
        client.send(gate.request())
        provider.request()
        assert status().in_flight == 1
        latch.set()
        assert client.answer().body == b"answered"
        until(lambda: status().in_flight == 0)


# -- what is seen --------------------------------------------------------------------------------------------------


def test_status_shows_holders_and_waiters() -> None:
    with leasecap.slot("p", label="the holder") as lease:
        waiter = start("run", "-p", "p", "-l", "the waiter", "--priority", "7", "--", "true")
        try:
            until(lambda: status().waiting == 1)
            shown, found = run("status").stdout, status_json()
        finally:
            waiter.kill()
            waiter.communicate()
    assert re.search(r"^p  1/1 in flight, 1 waiting   limit: ", shown, re.M)
    assert [line.split()[1] for line in shown.splitlines() if lease.id in line] == [str(os.getpid())]
    assert "the holder" in shown and "the waiter" in shown
    assert found["schema_version"] == 1
    assert found.keys() == leasecap.status().as_dict().keys()
    [pool] = found["pools"]
    assert (pool["pool"], pool["limit"], pool["in_flight"], pool["waiting"], pool["stable"]) == ("p", 1, 1, 1, True)
    [holder], [waiting] = pool["holders"], pool["waiters"]
    assert (holder["id"], holder["label"], holder["state"]) == (lease.id, "the holder", "held")
    assert holder["granted_at"].endswith("Z") and 0 <= holder["held_for"] < 60
    assert (waiting["label"], waiting["priority"], waiting["position"]) == ("the waiter", 7, 1)


def test_completion_names_pools_and_leases() -> None:
    with leasecap.slot("p") as lease:
        asked = environment(_LEASECAP_COMPLETE="fish")
        assert lease.id in run("release", "", env=asked).stdout
        assert re.search(r"^p\b", run("status", "", env=asked).stdout, re.M)


def test_doctor_finds_nothing_wrong_and_counts_the_pool() -> None:
    with leasecap.slot("p"):
        done = run("doctor")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\w+ +pools +.*\b1\b", done.stdout, re.M), done.stdout


# -- what people change --------------------------------------------------------------------------------------------


def test_limit_is_set_shown_and_taken_out(team: Team) -> None:
    team.configure("[pools.p]\n")
    assert run("limit", "p", "3").stdout.startswith("p: none -> 3 (")
    assert "3 (" in run("limit", "p").stdout
    assert run("limit", "p", "4").returncode == 0
    assert status().limit == 4
    assert run("limit", "p", "unlimited").returncode == 0
    assert status().limit == "unlimited"
    assert run("limit", "p", "--unset").returncode == 0
    with pytest.raises(leasecap.ConfigError, match="has no limit"):
        leasecap.try_acquire("p")
    assert run("limit", "p", "0").returncode == 2


def test_limit_that_is_raised_is_granted_at_once(team: Team) -> None:
    team.configure("[pools.p]\n")
    run("limit", "p", "1")
    with leasecap.slot("p"):
        waiter = start("run", "-p", "p", "--", "echo", "RAN")
        until(lambda: status().waiting == 1)
        run("limit", "p", "2")
        assert waiter.communicate(timeout=60)[0] == "RAN\n"


def test_pause_and_resume_say_what_holds_then() -> None:
    assert run("pause", "p", "10m").stdout.startswith(("p: paused for 9m5", "p: paused for 10m00s"))
    assert run("pause", "p", "1s").stdout.startswith("p: paused for 9m5"), "never shortened"
    assert "until `leasecap resume p`" in run("pause", "p").stdout
    assert leasecap.try_acquire("p") is None
    feedback = status().feedback
    assert feedback is not None and feedback.paused
    assert "open again (it was closed: by hand" in run("resume", "p").stdout
    assert run("resume", "p").stdout == "p: was not paused\n"
    leasecap.acquire("p", timeout=0).release()


def test_forget_is_refused_while_somebody_holds_or_waits() -> None:
    holder = start("run", "-p", "p", "-l", "the-holder", "--", "cat", stdin=subprocess.PIPE)
    until(lambda: status().in_flight == 1)
    waiter = start("run", "-p", "p", "-l", "the-waiter", "--", "true")
    until(lambda: status().waiting == 1)
    done = run("forget", "p")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"pid {holder.pid} (the-holder)" in done.stderr and f"pid {waiter.pid} (the-waiter)" in done.stderr
    for process in (holder, waiter):
        process.communicate(timeout=60)
    assert run("pause", "p").returncode == 0
    assert run("forget", "p").stdout.startswith("p: forgotten")
    assert "nobody has used it" in run("forget", "p").stdout


def test_forgotten_pool_has_no_pause_and_can_be_used_again(team: Team) -> None:
    run("pause", "p")
    assert run("forget", "p").returncode == 0
    configure(team)
    leasecap.acquire("p", timeout=0).release()


@pytest.mark.parametrize("words", [("pause", "p", "tomorrow"), ("resume",), ("report", "p"), ("release",), ("forget",)])
def test_wrong_usage_is_refused(words: tuple[str, ...]) -> None:
    done = subprocess.run([*PROGRAM, *words], env=environment(), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr
