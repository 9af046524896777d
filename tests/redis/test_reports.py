"""What other limiters on a server were reported to get wrong, where no other test here is about it.

docs/proof.md has the whole list.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import redis
from commands import run
from holders import HOLD, TRY, give_back, hold, ready
from redis_pools import RECORD, known_pool, place, settle, token
from referee import Team, until

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._errors import Unreachable
from leasecap._feedback.adaptive import Report
from leasecap._host.effects import Effects
from leasecap._host.process import start_of
from leasecap._liveness.record import decode_record
from leasecap._redis_store.client import Client
from leasecap._redis_store.deciding import state_of
from leasecap._redis_store.lookout import Lookout
from leasecap._redis_store.lua.pools import COMMIT
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.store import RedisStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from redis_server import RedisServer

    from leasecap._feedback.state import State
    from leasecap._redis_store.answer import Answer, Picture
    from leasecap._redis_store.calls import Ask
    from leasecap._redis_store.deciding import Decided

pytestmark = pytest.mark.redis


@pytest.fixture
def pool(server: RedisServer, client: Client, team: Team) -> Iterator[Pool]:
    """The pool "p" of two slots, which the workers share."""
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    pool = Pool(client, pool_name("p"), time.monotonic)
    settle(pool, limit=2)
    yield pool


def held(pool: Pool) -> list[str]:
    seen = pool.picture().seen
    return sorted(name[21:37] for name in (*seen.leases, *seen.granted))


def test_slots_neither_leak_nor_drift_whatever_becomes_of_their_holders(pool: Pool, team: Team) -> None:
    """PrefectHQ/prefect#17415, BerriAI/litellm#20256: a count that is not taken back, and only a restart that helps."""
    worker = team.start(
        """
import asyncio
def lost_in_the_middle():
    with leasecap.slot("p"):
        raise TimeoutError("the provider")
def released_twice():
    lease = leasecap.acquire("p")
    lease.release(); lease.release()
def forgotten():
    leasecap.acquire("p")
async def cancelled():
    async with leasecap.slot("p"):
        await asyncio.sleep(60)
async def gave_up():
    async with leasecap.slot("p", timeout=0.05):
        await asyncio.sleep(60)
async def tasks():
    some = [asyncio.create_task(kind()) for kind in (cancelled, gave_up) * 3]
    await asyncio.sleep(0.1)
    for task in some:
        task.cancel()
    await asyncio.gather(*some, return_exceptions=True)
for _ in range(3):
    for kind in (lost_in_the_middle, released_twice, forgotten):
        try:
            kind()
        except TimeoutError:
            pass
    asyncio.run(tasks())
leases = [leasecap.acquire("p"), leasecap.acquire("p")]
assert leasecap.try_acquire("p") is None
say("BOTH")
hear()
"""
    )
    worker.expect("BOTH")
    worker.kill()
    waiters = [team.start(HOLD, number) for number in range(2)]
    ready(*waiters)
    for waiter in waiters:
        hold(waiter)
    assert leasecap.try_acquire("p") is None
    for waiter in waiters:
        give_back(waiter)
    until(lambda: pool.picture().expiries == {}, "nothing is left")


def test_lease_whose_time_ran_out_unseen_is_kept_by_a_renewal(client: Client) -> None:
    """PrefectHQ/prefect#22983: what was listed as run out has been renewed by the time it is taken."""
    pool = known_pool(client, ttl=0.6)
    lease = place(pool, 1).name
    time.sleep(0.8)
    assert pool.picture().expiries[lease] < pool.picture().seen.now
    assert pool.renew([lease], []) == ("kept",)
    assert place(pool, 2, process=2).state == "queued"
    assert held(pool) == [token(1)]


def test_lease_that_was_handed_on_after_it_was_listed_is_left_alone(client: Client) -> None:
    """The same on one machine: the dead process that was seen isn't the holder's any more."""
    pool, record = known_pool(client, ttl=30), decode_record(RECORD)
    assert record is not None
    lookout = Lookout(Effects(), pool)
    place(pool, 1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as first:
        pool.describe(token(1), record._replace(pid=first.pid, start=start_of(first.pid)))
        lookout._ask()
        assert lookout._seen[token(1)] == ((first.pid, start_of(first.pid)),)
        pool.describe(token(1), record)  # to this process, as `acquire --for-pid` does before it ends
        first.communicate(b"\n")
    lookout._end_if_dead(token(1))
    assert held(pool) == [token(1)]
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as second:
        pool.describe(token(1), record._replace(pid=second.pid, start=start_of(second.pid)))
        second.communicate(b"\n")
    lookout._end_if_dead(token(1))
    assert held(pool) == []


def test_slot_that_a_task_gives_back_goes_at_once_to_another_of_its_process(pool: Pool, team: Team) -> None:
    """PrefectHQ/prefect#23183: it stood idle until the waiter's Retry-After was over."""
    settle(pool, limit=2, ttl=30)
    worker = team.start(
        """
import asyncio
async def short():
    async with leasecap.slot("p"):
        await asyncio.sleep(0.01)
async def main():
    async with leasecap.slot("p"):
        await short()
        began = time.monotonic()
        await asyncio.gather(*(short() for _ in range(30)))
        say("TOOK", time.monotonic() - began)
asyncio.run(main())
"""
    )
    assert float(worker.expect("TOOK")) < 15  # at one poll each it would take longer
    worker.done()


def test_without_the_server_nobody_has_a_slot_of_any_other_kind(server: RedisServer, pool: Pool, team: Team) -> None:
    """BerriAI/litellm#35533: each process fell back to a limit of its own."""
    server.stop()
    with pytest.raises(leasecap.StoreError, match="can't be reached"):
        leasecap.try_acquire("p")
    assert run("run", "-p", "p", "-n", "--", "true").returncode == 125
    assert not (team.root / "pools").exists()


def test_of_fifty_that_wait_one_is_woken_for_one_slot(server: RedisServer, client: Client) -> None:
    """sidekiq#2944: all woke for each slot, and the last to come was as likely to get it."""
    pool = known_pool(client, ttl=60)
    place(pool, 1)
    for number in range(2, 52):
        place(pool, number, process=number)
    with redis.Redis(port=server.port, decode_responses=True) as admin, admin.pubsub() as messages:
        messages.psubscribe("leasecap:0:*")
        messages.get_message(timeout=5)
        for holder in range(1, 6):
            pool.end(token(holder), by_holder=True)
            admin.publish("leasecap:0:end", "")
            heard = []
            while (message := messages.get_message(timeout=10)) and not message["channel"].endswith(":end"):
                heard.append((message["channel"].rpartition(":")[2], message["data"]))
            # Its own message, and one for who comes to be among the first two.
            (process, grant), *others = heard
            assert (process, grant.split()[0]) == (f"{holder + 1:012x}", f"+{token(holder + 1)}")
            assert others == [(f"{holder + 3:012x}", "!")]
            assert pool.look(token(holder + 1)).state == "held"


def test_limit_that_was_set_for_all_never_reverts(server: RedisServer, pool: Pool, team: Team) -> None:
    """sidekiq#4857: whoever had been started before brought the old limit back."""
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 1\n')
    holder, waiter = team.start(HOLD, 0), team.start(HOLD, 1)
    ready(holder, waiter)
    hold(holder)
    waiter.tell()
    team.until_waiting(1)
    assert run("limit", "p", "5").returncode == 0
    time.sleep(3)  # both renew
    assert pool.picture().seen.limit == 5
    give_back(holder)
    waiter.expect("HELD")
    give_back(waiter)
    for one in (holder, waiter):
        one.tell()
        one.done()
    team.configure(f'[pools.p]\nstore = "{server.url()}"\n')
    assert leasecap.status("p").pools[0].limit == 5


# Holds still when it has read its machine's config.toml and is about to ask.
ABOUT_TO_ASK = """
from leasecap._redis_store.ticket import RedisTicket
offer = RedisTicket.offer
def slow(self, **words):
    say("READ")
    hear()
    return (yield from offer(self, **words))
RedisTicket.offer = slow
"""


def test_a_newcomer_declares_the_limit_that_its_machine_has_when_it_asks(
    server: RedisServer, pool: Pool, team: Team
) -> None:
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 2\n')
    holder, newcomer = team.start(HOLD, 0), team.start(ABOUT_TO_ASK + TRY)
    ready(holder, newcomer)
    hold(holder)
    newcomer.tell()
    newcomer.expect("READ")
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 1\n')
    newcomer.tell()
    assert newcomer.expect("GOT") == "False"


def test_limit_that_a_server_has_lost_is_neither_none_nor_nothing(server: RedisServer, pool: Pool, team: Team) -> None:
    """sidekiq#4857, in other words: what isn't known is an error, and not 0, and not "unlimited"."""
    server.command("FLUSHALL")
    settle(pool, limit=None)
    with pytest.raises(leasecap.ConfigError, match="limit"):
        leasecap.try_acquire("p")
    assert held(pool) == []


# A task that was refused, and whose report is slow on its way.
REFUSED = """
import asyncio, gc, threading
from leasecap._redis_store.errands import Errands
from leasecap._redis_store.pool import Pool
take_up, drain, go_on = Pool.take_up, Errands.drain, threading.Event()
def slow(self, *report):
    go_on.wait()
    return take_up(self, *report)
Pool.take_up = slow
Errands.drain = lambda self, within: drain(self, 60)  # the test may take its time
def goes_on():
    say("LEFT")
    hear()
    go_on.set()
def begin():
    threading.Thread(target=goes_on, daemon=True).start()
async def main():
    lease = await leasecap.acquire_async("p")
    say("HELD")
    await asyncio.to_thread(hear)
    lease.report(429, retry_after=600)
    match sys.argv[1]:
        case "in its loop":
            lease.release()
            begin()
        case "in a thread":
            begin()
            await asyncio.to_thread(lease.release)
        case "by dropping it":
            del lease
            gc.collect()
            begin()
        case "at its end":
            begin()
            sys.exit()
    await asyncio.to_thread(go_on.wait)
    await asyncio.to_thread(hear)
asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["in its loop", "in a thread", "by dropping it", "at its end"])
def test_a_slot_that_a_task_gives_back_isnt_free_before_its_report_is_noted(pool: Pool, team: Team, way: str) -> None:
    settle(pool, limit=1)
    task = team.start(REFUSED, way)
    task.expect("HELD")
    newcomer = team.start(HOLD, "newcomer", 0.5)
    ready(newcomer)
    task.tell()
    task.expect("LEFT")
    newcomer.tell()
    newcomer.expect("TIMEOUT")
    task.tell()
    until(lambda: not held(pool), "the slot")
    assert "a 429 reported by" in pool.picture().seen.feedback
    if way != "at its end":
        task.tell()
    task.done()


# A task that was refused and asks for one more slot. Its report takes half a second, in which the question may come.
ASKS_ON = """
import asyncio, threading
from leasecap._redis_store.pool import Pool
take_up, place, placed = Pool.take_up, Pool.place, threading.Event()
def slow(self, *report):
    placed.wait(0.5)
    return take_up(self, *report)
def first(self, **words):
    found = place(self, **words)
    placed.set()
    return found
async def main():
    async with leasecap.slot("p") as lease:
        Pool.take_up, Pool.place = slow, first
        lease.report(429, retry_after=600)
        if sys.argv[1] == "in a thread":
            await asyncio.to_thread(leasecap.acquire, "p", timeout=0, borrow=False)
        else:
            await leasecap.acquire_async("p", timeout=0, borrow=False)
try:
    asyncio.run(main())
except leasecap.AcquireTimeout:
    say("REFUSED")
"""


@pytest.mark.parametrize("way", ["in its loop", "in a thread"])
def test_a_task_asks_for_a_slot_after_what_it_has_reported_is_noted(pool: Pool, team: Team, way: str) -> None:
    settle(pool, limit=2)
    task = team.start(ASKS_ON, way)
    task.expect("REFUSED")
    task.done()


@pytest.mark.parametrize("in_loop", [False, True], ids=["in a thread", "in a loop"])
def test_a_pause_ends_when_the_provider_has_said_though_its_report_was_late(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, in_loop: bool
) -> None:
    """Its process was stopped, or the server away. The pool was closed for as long as it had been, once more."""
    stood, began = [0], Effects.boot_clock
    monkeypatch.setattr(Effects, "boot_clock", lambda effects: began(effects) + stood[0])
    take_up = Pool.take_up

    def late(its: Pool, *report: Any) -> bool:
        stood[0] = 550 * 10**9
        return take_up(its, *report)

    async def report() -> None:
        leasecap.report("p", 429, retry_after=600)

    monkeypatch.setattr(Pool, "take_up", late)
    if in_loop:
        asyncio.run(report())
    else:
        leasecap.report("p", 429, retry_after=600)
    until(lambda: bool(pool.picture().seen.feedback), "it is noted")
    seen = pool.picture().seen
    pause = state_of(seen).pause
    assert pause is not None and pause.until is not None and 40 < pause.until - seen.now < 55


def test_a_report_seems_no_older_than_the_leases_that_were_granted_before_it(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that of another such lease would be news after the cut, and cut once more."""
    settle(pool, limit=4)
    picture = Pool.picture

    def read_late(its: Pool, **within: float) -> Picture:
        found, began = picture(its, **within), time.monotonic()
        until(lambda: time.monotonic() > began + 0.1, "it is read")
        return found

    with leasecap.slot("p") as first, leasecap.slot("p", borrow=False) as second:
        monkeypatch.setattr(Pool, "picture", read_late)
        first.report(429)
        second.report(429)
    assert leasecap.status("p").pools[0].limit == 3


def test_a_report_seems_no_older_since_the_store_counts_whole_milliseconds(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, began = [0], Effects.boot_clock
    stands_at = began(Effects())
    ages: list[float] = []

    def aged(its: Pool, report: Report, ago: Callable[[], float]) -> bool:
        for passed[0] in (0, 900_000, 5_000_000):  # nanoseconds
            ages.append(ago())
        return True

    monkeypatch.setattr(Effects, "boot_clock", lambda effects: stands_at + passed[0])
    monkeypatch.setattr(Pool, "take_up", aged)
    leasecap.report("p", 429)
    assert ages == pytest.approx([0.0, 0.0, 0.004])


def test_a_report_is_noted_though_nobody_could_be_asked_which_lease_it_is_about(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(its: RedisStore) -> Any:
        raise Unreachable("is away", path="", remedy="")

    monkeypatch.setattr(RedisStore, "view", away)
    leasecap.report("p", 429)
    assert "a 429 reported by pid" in pool.picture().seen.feedback


def test_a_report_that_a_program_leaves_behind_at_its_end_is_told(pool: Pool, team: Team) -> None:
    task = team.start(
        """
import asyncio, threading
from leasecap._redis_store.pool import Pool
Pool.take_up = lambda self, *report: threading.Event().wait()
async def main():
    leasecap.report("p", 429)
asyncio.run(main())
"""
    )
    task.done()
    assert f"what was reported to {pool.path} could not be noted: no server has answered in time" in task.errors()


@pytest.mark.parametrize("way", ["released in a loop", "held"])
@pytest.mark.parametrize("takes", [True, False], ids=["taken", "not taken"])
def test_a_lease_that_a_program_cant_give_back_before_its_end_is_told(
    pool: Pool, team: Team, way: str, takes: bool
) -> None:
    task = team.start(
        """
import asyncio, threading
from leasecap._errors import Unreachable
from leasecap._redis_store.pool import Pool
way, takes = sys.argv[1:]
async def main():
    lease = await leasecap.acquire_async("p", timeout=20)
    if takes == "False":
        def away(self, *words, **about):
            if way != "held":
                threading.Event().wait()
            raise Unreachable("is away", path="", remedy="")
        Pool.end = away
    if way != "held":
        lease.release()
    return lease
lease = asyncio.run(main())
""",
        way,
        takes,
    )
    task.done()
    said = f"1 lease(s) of {pool.path} could not be given back: no server has answered in time. The slots come free by"
    assert (said in task.errors()) is not takes
    assert bool(held(pool)) is not takes


def test_a_lease_that_a_program_leaves_behind_is_ended_though_its_connection_breaks(pool: Pool, team: Team) -> None:
    task = team.start("""
from redis.exceptions import ConnectionError
from leasecap._redis_store.client import Client
from leasecap._redis_store.lua.tickets import END
lease = leasecap.acquire("p")
ask, tries = Client._ask, []
def broken(client, one):
    if one.command is None or END.text not in one.command.whole:
        return ask(client, one)
    tries.append(one)
    return ConnectionError("it broke") if len(tries) == 1 else ask(client, one)
Client._ask = broken
""")
    task.done()
    assert "could not be given back" not in task.errors()
    assert not held(pool)


def test_a_report_is_about_the_limit_in_force_when_it_is_noted(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    settle(pool, limit=8)
    commit = Pool._commit

    def later(pool: Pool, decided: Decided, own: str, *, within: float = 0.0) -> Answer:
        monkeypatch.setattr(Pool, "_commit", commit)
        pool.configure(limit="4")
        return commit(pool, decided, own, within=within)

    monkeypatch.setattr(Pool, "_commit", later)
    assert pool.take_up(Report("concurrency", "a 429"))
    state = state_of(pool.picture().seen)
    assert state.cut is not None and state.cut.limit == 3


@pytest.mark.parametrize("lost", ["the call", "its answer"])
def test_what_was_reported_is_noted_once_though_the_connection_breaks_when_it_is_sent(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    def change(state: State, now: float) -> State:
        return state._replace(refusals=state.refusals + 1)

    assert pool.change_feedback(change)  # the server knows the script by now
    ask = Client._ask
    sent: list[Ask] = []

    def broken(client: Client, one: Ask) -> Any:
        if one.command is None or COMMIT.digest.encode() not in one.command.head:
            return ask(client, one)
        sent.append(one)
        answer = ask(client, one) if len(sent) > 1 or lost == "its answer" else None
        return redis.ConnectionError("the connection broke") if len(sent) == 1 else answer

    monkeypatch.setattr(Client, "_ask", broken)
    assert pool.change_feedback(change)
    assert state_of(pool.picture().seen).refusals == 2
    assert len(sent) == (2 if lost == "the call" else 1)
