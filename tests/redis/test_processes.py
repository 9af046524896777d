"""Real processes that share a cap on a real server, judged by a referee outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import has_ended
from commands import run, start
from holders import HOLD, give_back, hold, queue, ready
from redis_pools import TTL, place, settle, token
from referee import Team, Worker, until

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._redis_store.pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from redis_server import RedisServer

    from leasecap._redis_store.client import Client

pytestmark = pytest.mark.redis

# A process whose boot nobody knows, as one of another machine.
ELSEWHERE = """
from leasecap._host import effects
here = effects.this_process
effects.this_process = lambda: here()._replace(boot="elsewhere")
"""

KEPT = 6.0  # the ttl, seconds; where it has to last on a busy machine, or to end in time there

# One that doesn't look by itself.
PATIENT = """
from leasecap._redis_store import ticket
ticket.DUTY = ticket._WATCHED = 60.0
"""


@pytest.fixture
def pool(server: RedisServer, client: Client, team: Team) -> Iterator[Pool]:
    """The pool "p" of one slot, which the workers share."""
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    pool = Pool(client, pool_name("p"), time.monotonic)
    settle(pool)
    yield pool


def held(pool: Pool) -> int:
    seen = pool.picture().seen
    return len(seen.leases) + len(seen.granted)


# -- the cap, and the order ----------------------------------------------------------------------------------------


def test_released_slot_reaches_a_waiter_by_a_message(server: RedisServer, pool: Pool, team: Team) -> None:
    settle(pool, ttl=30)
    holder, waiter = team.start(HOLD, "holder"), team.start(PATIENT + HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    until(lambda: "sub=2" in server.command("CLIENT", "LIST"), "it has subscribed")
    released = time.monotonic_ns()
    give_back(holder)
    waiter.expect("HELD")
    [_, second] = [line for line in team.referee.log.read_text().splitlines() if line.startswith("start")]
    assert int(second.split()[1]) - released < 10e9


# -- ends ----------------------------------------------------------------------------------------------------------


def test_slot_of_a_killed_holder_elsewhere_is_granted_after_its_ttl(pool: Pool, team: Team) -> None:
    holder, waiter = team.start(ELSEWHERE + HOLD, "holder"), team.start(HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    killed = holder.kill()
    waiter.expect("HELD")
    waited = (time.monotonic_ns() - killed) / 1e9
    assert TTL * 0.1 < waited < TTL + 5


def test_holder_that_was_stopped_past_its_ttl_learns_that_it_lost_its_slot(pool: Pool, team: Team) -> None:
    holder, waiter = team.start(HOLD, "holder"), team.start(HOLD, "waiter")
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    holder.stop()
    waiter.expect("HELD")
    holder.go_on()
    assert holder.expect("LOST") == "False"


def test_holder_learns_of_its_loss_before_its_slot_is_anothers(server: RedisServer, pool: Pool, team: Team) -> None:
    """consul#9788: the holder was told 90 s after another one had the lock."""
    settle(pool, ttl=KEPT)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    server.freeze()
    began = time.monotonic()
    assert holder.expect("LOST") == "False"
    assert time.monotonic() - began < KEPT + 3
    server.thaw()


def test_blocked_event_loop_keeps_its_lease(pool: Pool, team: Team) -> None:
    """PrefectHQ/prefect#19068: a loop that was busy starved the renewal."""
    worker = team.start(
        f"""
import asyncio
async def main():
    async with leasecap.slot("p") as lease:
        say("HELD")
        time.sleep({2 * TTL})
        say("LOST", bool(lease.lost))
asyncio.run(main())
"""
    )
    worker.expect("HELD")
    assert worker.expect("LOST") == "False"
    worker.done()


# -- the server ----------------------------------------------------------------------------------------------------


def test_cap_holds_through_a_restart_of_a_server_that_forgets(server: RedisServer, pool: Pool, team: Team) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 2\n')
    settle(pool, limit=2, ttl=10)
    workers = [team.start(HOLD, number) for number in range(3)]
    ready(*workers)
    hold(workers[0])
    hold(workers[1])
    queue(team, workers[2])
    server.restart()
    until(lambda: held(pool) == 2, "both are counted again")
    settle(pool, limit=2, ttl=10)
    until(lambda: len(pool.picture().seen.queue) == 1, "and the waiter waits on")
    assert held(pool) == 2
    give_back(workers[0])
    workers[2].expect("HELD")
    for worker in workers[1:]:
        give_back(worker)
    assert team.referee.peak() == 2


def test_holder_that_has_waited_is_counted_again_as_soon_as_the_server_is_back(
    server: RedisServer, pool: Pool, team: Team
) -> None:
    settle(pool, ttl=30)
    first, second = team.start(HOLD, "first"), team.start(HOLD, "second")
    ready(first, second)
    hold(first)
    queue(team, second)
    give_back(first)
    second.expect("HELD")
    until(lambda: len(pool.picture().seen.leases) == 1, "it is acknowledged")
    server.restart()
    began = time.monotonic()
    until(lambda: len(pool.picture().seen.leases) == 1, "it is counted again")
    assert time.monotonic() - began < 4  # and not at the next beat
    give_back(second)


def test_waiter_keeps_its_place_while_the_server_is_away(server: RedisServer, pool: Pool, team: Team) -> None:
    settle(pool, ttl=30)
    holder, first, second = (team.start(HOLD, name) for name in ("holder", "first", "second"))
    ready(holder, first, second)
    hold(holder)
    queue(team, first, second)
    server.freeze()
    time.sleep(2)  # calls run into their time-outs
    server.thaw()
    give_back(holder)
    first.expect("HELD")
    give_back(first)
    second.expect("HELD")


def test_command_that_finds_no_server_fails_with_the_remedy(server: RedisServer, pool: Pool, team: Team) -> None:
    server.stop()
    found = run("run", "-p", "p", "-n", "--", "true")
    assert found.returncode == 125
    assert "can't be reached" in found.stderr
    assert server.url() in found.stderr
    found = run("run", "-p", "p", "-w", "1", "--", "true")
    assert found.returncode == 125
    assert "can't be reached" in found.stderr


# A verb that goes on, once it has been given a slot, when it is told so.
AWAY = """
from leasecap._lease import Lease
from leasecap.cli import main
verb = sys.argv[1]
name = "note_child" if verb == "run" else "hand_to"
note = getattr(Lease, name)
def noted(self, *words):
    say("GRANTED")
    hear()
    setattr(Lease, name, note)
    note(self, *words)
setattr(Lease, name, noted)
words = ["--", "sh", "-c", "echo RAN; exit 7"] if verb == "run" else ["--for-pid", str(os.getppid())]
sys.argv[1:] = [verb, "-p", "p", "-w", "30", *words]
main.main()
"""


@pytest.mark.parametrize("then", ["is back", "has given it away", "Ctrl-C"])
def test_command_waits_for_a_server_that_goes_away_before_it_is_started(
    server: RedisServer, pool: Pool, team: Team, then: str
) -> None:
    """It ended with 125, though it could have waited for a slot for as long."""
    settle(pool, ttl=30)
    wrapper = team.start(AWAY, "run")
    wrapper.expect("GRANTED")
    if then == "has given it away":
        [lease] = pool.picture().seen.leases
        pool.end(lease[21:37], by_holder=False)
        wrapper.tell()
        assert wrapper.wait() == 125
        with pytest.raises(AssertionError, match="was taken while it was held"):
            wrapper.line()  # the command would have written one
        return
    server.freeze()
    wrapper.tell()
    until(lambda: "isn't used before it can be" in wrapper.errors(), "it has asked in vain")
    if then == "Ctrl-C":
        wrapper.send(signal.SIGINT)
        assert wrapper.wait() == -signal.SIGINT
        server.thaw()
        return
    server.thaw()
    wrapper.expect("RAN")
    assert wrapper.wait() == 7


def test_command_is_not_started_where_its_server_stays_away_for_as_long_as_the_lease_lasts(
    server: RedisServer, pool: Pool, team: Team
) -> None:
    settle(pool, ttl=TTL)
    wrapper = team.start(AWAY, "run")
    wrapper.expect("GRANTED")
    server.freeze()
    wrapper.tell()
    assert wrapper.wait() == 125
    server.thaw()
    assert "can't be reached" in wrapper.errors() and "runs on" not in wrapper.errors()


def test_slot_for_an_agent_waits_for_a_server_that_goes_away(server: RedisServer, pool: Pool, team: Team) -> None:
    settle(pool, ttl=30)
    taking = team.start(AWAY, "acquire")
    lease = taking.line()
    taking.expect("GRANTED")
    server.freeze()
    taking.tell()
    until(lambda: "isn't used before it can be" in taking.errors(), "it has asked in vain")
    server.thaw()
    taking.done()
    assert json.loads(pool.picture().records[lease])["pid"] == os.getpid()
    assert run("release", lease).returncode == 0


def test_status_of_the_command_survives_a_server_that_goes_away(server: RedisServer, pool: Pool, team: Team) -> None:
    worker = team.leasecap("run", "-p", "p", "--", "sh", "-c", "echo READY; read word; exit 7")
    worker.expect("READY")
    server.stop()
    began = time.monotonic()
    worker.tell()
    assert worker.wait() == 7
    assert time.monotonic() - began < 10


# -- for other processes -------------------------------------------------------------------------------------------


def pass_time(pool: Pool) -> None:
    """Let entries run out that nobody renews: after a stretch without calls a server gives all of them time."""
    end = time.monotonic() + 2 * KEPT
    while time.monotonic() < end:
        pool.configure()
        time.sleep(0.2)


def assert_outlives(wrapper: Worker, pool: Pool) -> None:
    """The command, which has told its pid, keeps its slot when its wrapper is killed, and until it ends."""
    command = int(wrapper.line())
    wrapper.kill()
    pass_time(pool)
    assert held(pool) == 1
    os.kill(command, signal.SIGKILL)
    until(lambda: held(pool) == 0, "the keeper has seen that")


def test_command_of_a_killed_wrapper_keeps_its_slot_until_it_ends(pool: Pool, team: Team) -> None:
    settle(pool, ttl=KEPT)
    wrapper = team.leasecap("run", "-p", "p", "--", "sh", "-c", "echo $$; exec sleep 600")
    command = int(wrapper.line())
    wrapper.kill()
    pass_time(pool)
    assert held(pool) == 1
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 75
    os.kill(command, signal.SIGKILL)
    until(lambda: held(pool) == 0, "the keeper has seen that")


def test_slot_of_one_that_died_elsewhere_is_free_for_calls_that_come_seldom_and_try_once(pool: Pool) -> None:
    """As by cron: each finds that nobody has called for longer than a holder has to say that it lives."""
    settle(pool, ttl=TTL)
    place(pool, 1)  # nobody renews it
    time.sleep(TTL + 0.5)  # nobody calls
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 0


def test_what_lies_in_the_directory_of_a_command_keeps_nobody_from_keeping_its_slot(
    pool: Pool, team: Team, tmp_path: Path
) -> None:
    for name in ("redis", "json", "signal", "leasecap"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of the directory')\n")
    settle(pool, ttl=KEPT)
    words = 'cd "$1" && exec "$2" -P -m leasecap run -p p -- sh -c \'echo $$; exec sleep 600\''
    wrapper = team.run(["sh", "-c", words, "sh", str(tmp_path), sys.executable])
    assert_outlives(wrapper, pool)


def test_keeper_runs_the_package_that_its_starter_has_from_its_directory(
    pool: Pool, team: Team, tmp_path: Path
) -> None:
    shutil.copytree(Path(leasecap.__file__).parent, tmp_path / "leasecap")
    keeper, ran = tmp_path / "leasecap/_redis_store/keeper.py", tmp_path / "ran"
    keeper.write_text(f"{keeper.read_text()}    open({str(ran)!r}, 'w').close()\n")
    settle(pool, ttl=KEPT)
    words = 'cd "$1" && unset PYTHONPATH && exec "$2" -m leasecap run -p p -- sh -c \'echo $$; exec sleep 600\''
    wrapper = team.run(["sh", "-c", words, "sh", str(tmp_path), sys.executable])
    assert_outlives(wrapper, pool)
    until(ran.exists, "it was that one")


def test_keeper_goes_by_the_configuration_that_its_lease_was_taken_by(pool: Pool, team: Team) -> None:
    settle(pool, ttl=KEPT)
    wrapper = team.leasecap("run", "-p", "p", "--", "sh", "-c", "echo $$; exec sleep 600")
    command = int(wrapper.line())
    kept_by = (team.root / "config.toml").read_text()
    team.configure("[pools.p\n")
    wrapper.kill()
    pass_time(pool)
    assert held(pool) == 1
    team.configure(kept_by)
    os.kill(command, signal.SIGKILL)
    until(lambda: held(pool) == 0, "the keeper has seen that")


def test_hook_takes_the_place_of_one_that_was_killed_though_nobody_else_looks(pool: Pool, team: Team) -> None:
    agent = team.start("say('READY'); hear()")
    agent.expect("READY")
    settle(pool, ttl=600)
    for number in (1, 2, 3):  # they hold and wait on another machine
        place(pool, number, process=number)
    hook = start("acquire", "-p", "p", "--for-pid", str(agent.pid))
    until(lambda: len(pool.picture().seen.queue) == 3, "it waits")
    first = pool.picture().seen.queue[2]
    hook.kill()
    hook.communicate()
    hook = start("acquire", "-p", "p", "--for-pid", str(agent.pid))
    until(lambda: any(name != first for name in pool.picture().seen.queue[2:]), "the other one waits")
    for number in (1, 2, 3):
        pool.end(token(number), by_holder=True)
    assert len(hook.communicate(timeout=60)[0].split()) == 1
    assert held(pool) == 1


def test_hook_takes_the_slot_that_was_granted_to_one_that_was_killed(pool: Pool, team: Team) -> None:
    agent = team.start("say('READY'); hear()")
    agent.expect("READY")
    settle(pool, ttl=600)
    place(pool, 1)
    hook = start("acquire", "-p", "p", "--for-pid", str(agent.pid))
    until(lambda: len(pool.picture().seen.queue) == 1, "it waits")
    hook.send_signal(signal.SIGSTOP)
    pool.end(token(1), by_holder=True)
    assert len(pool.picture().seen.granted) == 1
    hook.kill()
    hook.communicate()
    assert run("acquire", "-p", "p", "--for-pid", str(agent.pid)).returncode == 0
    assert held(pool) == 1


def test_slot_for_a_pid_lasts_as_long_as_that_process(pool: Pool, team: Team) -> None:
    agent = team.start("say('READY'); hear()")
    agent.expect("READY")
    settle(pool, ttl=KEPT)
    lease = run("acquire", "-p", "p", "--for-pid", str(agent.pid)).stdout.strip()
    pass_time(pool)
    assert [holder.id for holder in team.pool().holders] == [lease]
    assert run("acquire", "-p", "p", "--for-pid", str(agent.pid)).stdout.strip() == lease
    agent.tell()
    agent.done()
    until(lambda: held(pool) == 0, "the keeper has seen that")


# -- when nobody can tell whose slot it is -------------------------------------------------------------------------

ENDING = 12.0  # the ttl, seconds: KILL comes a second before that is over

# Says that it got TERM, and notes for how long it has lived, until KILL ends it.
STUBBORN = """
trap 'echo TERM' TERM
echo READY $$
while :; do date +%s.%N >> "$0"; sleep 0.02; done
"""


@pytest.fixture
def ending(server: RedisServer, pool: Pool, team: Team) -> Pool:
    """The pool, whose policy is to end commands in time."""
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nstale_after = {ENDING}\nheartbeat = 2\nwhen_unsure = "end"\n')
    assert run("policy", "push", "p").returncode == 0
    settle(pool, ttl=ENDING)
    return pool


def last_beat(path: Path) -> float:
    return float(path.read_text().split()[-1])


def test_command_ends_before_its_slot_is_anothers_where_the_policy_says_so(
    server: RedisServer, ending: Pool, team: Team, tmp_path: Path
) -> None:
    lives = tmp_path / "lives"
    worker = team.leasecap("run", "-p", "p", "--", "sh", "-c", STUBBORN, str(lives))
    command = int(worker.expect("READY"))
    server.freeze()
    frozen = time.time()
    worker.expect("TERM")
    until(lambda: has_ended(command), "it is killed")
    assert last_beat(lives) < frozen + ENDING
    server.thaw()
    assert worker.wait() == 125
    assert 'when_unsure = "end"' in worker.errors()
    assert "gets KILL" in worker.errors()


def test_command_of_a_killed_wrapper_ends_in_time_as_well(
    server: RedisServer, ending: Pool, team: Team, tmp_path: Path
) -> None:
    lives = tmp_path / "lives"
    wrapper = team.leasecap("run", "-p", "p", "--", "sh", "-c", STUBBORN, str(lives))
    command = int(wrapper.expect("READY"))
    wrapper.kill()
    renewed = max(ending.picture().expiries.values())
    until(lambda: max(ending.picture().expiries.values()) > renewed, "the keeper renews")
    server.freeze()
    frozen = time.time()
    wrapper.expect("TERM")
    until(lambda: has_ended(command), "it is killed")
    assert last_beat(lives) < frozen + ENDING


def test_command_runs_on_where_the_policy_says_nothing(
    server: RedisServer, pool: Pool, team: Team, tmp_path: Path
) -> None:
    lives = tmp_path / "lives"
    worker = team.leasecap("run", "-p", "p", "--", "sh", "-c", STUBBORN, str(lives))
    command = int(worker.expect("READY"))
    server.freeze()
    frozen = time.time()
    until(lambda: "runs on beside the cap" in worker.errors(), "it is told")
    until(lambda: last_beat(lives) > frozen + TTL, "it runs on")
    os.kill(command, signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL
