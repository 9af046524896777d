"""One pool on a server, operation by operation."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from redis_pools import RECORD, TTL, known_pool, place, settle, token
from redis_server import RedisServer, running

from leasecap._config.store_address import parse_address
from leasecap._errors import StoreError
from leasecap._feedback import adaptive
from leasecap._feedback.adaptive import Report
from leasecap._feedback.state import NOTHING
from leasecap._liveness.record import Child, decode_record
from leasecap._redis_store.client import Client
from leasecap._redis_store.keys import PARTS, agent_field
from leasecap._redis_store.lua.tickets import END

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._redis_store.answer import Answer
    from leasecap._redis_store.pool import Pool

pytestmark = pytest.mark.redis


def until(pool: Pool, number: int, state: str) -> Answer:
    """Look until the entry is in that state."""
    end = time.monotonic() + 20
    while True:
        found = pool.look(token(number))
        if found.state == state:
            return found
        assert time.monotonic() < end, found
        time.sleep(0.02)


def held(pool: Pool) -> list[str]:
    seen = pool.picture().seen
    return sorted(name[21:37] for name in (*seen.leases, *seen.granted))


# -- order ---------------------------------------------------------------------------------------------------------


def test_pool_grants_by_priority_and_then_by_arrival(client: Client) -> None:
    pool = known_pool(client)
    assert place(pool, 1).state == "held"
    for number, priority in ((2, 0), (3, 0), (4, 9), (5, -9)):
        assert place(pool, number, process=number, priority=priority).state == "queued"
    order = []
    for holder in (1, 4, 2, 3):
        pool.end(token(holder), by_holder=True)
        [granted] = [
            number for number in (2, 3, 4, 5) if number not in order and pool.look(token(number)).state == "held"
        ]
        order.append(granted)
    assert order == [4, 2, 3, 5]


def test_trying_once_passes_nobody_and_leaves_nothing(client: Client) -> None:
    pool = known_pool(client)
    place(pool, 1)
    assert place(pool, 2, may_queue=False).state == "refused"
    place(pool, 3)
    assert place(pool, 4, priority=-1, may_queue=False).state == "refused"
    assert [name[21:37] for name in pool.picture().seen.queue] == [token(3)]


def test_who_waits_further_back_is_told_when_one_on_duty_looks_no_more(client: Client) -> None:
    pool = known_pool(client, ttl=60)
    for number in (1, 2, 3, 4):
        place(pool, number, process=number)
    assert not pool.look(token(4)).unwatched
    end = time.monotonic() + 20
    while not pool.look(token(4)).unwatched:
        assert time.monotonic() < end
        assert not pool.look(token(2)).unwatched, "it is on duty itself"
        time.sleep(0.1)
    pool.look(token(3))
    assert not pool.look(token(4)).unwatched


def test_call_that_asks_again_stands_in_its_old_place(client: Client) -> None:
    pool = known_pool(client)
    place(pool, 1)
    first = place(pool, 2)
    place(pool, 3, process=2)
    pool.withdraw(token(2))
    again = place(pool, 4, order=int(first.name[4:20], 16))
    assert (again.state, again.position) == ("queued", 1)


def test_withdrawing_what_was_granted_is_a_success(client: Client) -> None:
    pool = known_pool(client)
    place(pool, 1)
    place(pool, 2)
    pool.end(token(1), by_holder=True)
    assert pool.withdraw(token(2)).state == "held"
    assert held(pool) == [token(2)]


def test_grant_that_is_not_taken_up_is_passed_over_and_keeps_its_place(client: Client) -> None:
    pool = known_pool(client, ttl=60)
    place(pool, 1)
    for number in (2, 3):
        place(pool, number, process=number)
    pool.end(token(1), by_holder=True)
    assert held(pool) == [token(2)]
    until(pool, 3, "held")
    assert pool.look(token(2))._replace(now=0, name="")[:1] == ("queued",)
    place(pool, 4, process=4)
    pool.end(token(3), by_holder=True)
    assert pool.look(token(2)).state == "held"


@pytest.mark.parametrize("decides", ["lua", "python"])
def test_grant_stands_for_its_time_where_an_older_one_of_its_process_is_passed_over(
    client: Client, decides: str
) -> None:
    """Another thread of that process may have begun on its message: nobody else may be given its slot meanwhile."""
    pool = known_pool(client, limit=2, ttl=60)
    for number in (1, 2, 3, 4, 5, 6, 7):
        place(pool, number, process=2 if number in (3, 4, 7) else number)
    for number in (1, 2):
        pool.end(token(number), by_holder=True)
    late = next(name for name in pool.picture().seen.granted if name[21:37] == token(3))
    client.command("ZADD", pool._keys[PARTS.index("granted")], 1, late)
    if decides == "lua":
        pool.renew((), ())
    else:
        pool.change_feedback(lambda state, now: state)
    seen = pool.picture().seen
    assert [name[21:37] for name in seen.granted] == [token(4), token(5)]
    assert [name[21:37] for name in seen.passed] == [token(3), token(7)]
    assert pool.look(token(4)).state == "held"


# -- sent twice ----------------------------------------------------------------------------------------------------


def test_placing_twice_takes_one_slot(client: Client) -> None:
    pool = known_pool(client, limit=2)
    assert place(pool, 1).state == place(pool, 1).state == "held"
    assert held(pool) == [token(1)]


def test_ending_twice_says_the_same_twice(client: Client) -> None:
    pool = known_pool(client)
    place(pool, 1)
    assert pool.end(token(1), by_holder=True)
    assert pool.end(token(1), by_holder=True)


def test_token_that_has_ended_never_comes_back(client: Client) -> None:
    pool = known_pool(client)
    place(pool, 1)
    pool.end(token(1), by_holder=True)
    assert place(pool, 1).state == "gone"
    pool.withdraw(token(2))  # before the call that was on its way
    assert place(pool, 2).state == "gone"
    assert held(pool) == []


# -- time ----------------------------------------------------------------------------------------------------------


def test_lease_that_nobody_renews_ends_after_its_ttl(client: Client) -> None:
    pool = known_pool(client)
    began = time.monotonic()
    lease = place(pool, 1).name
    place(pool, 2, process=2)
    until(pool, 2, "held")
    assert time.monotonic() - began > TTL * 0.9
    assert pool.renew([lease], []) == ("lost",)
    assert not pool.end(token(1), by_holder=True)


def test_lease_that_is_renewed_outlives_its_ttl(client: Client) -> None:
    pool = known_pool(client)
    lease = place(pool, 1).name
    end = time.monotonic() + 2 * TTL
    while time.monotonic() < end:
        assert pool.renew([lease], []) == ("kept",)
        time.sleep(0.1)


def test_nobody_is_reaped_right_after_a_stretch_without_calls(client: Client) -> None:
    pool = known_pool(client, ttl=0.6)
    lease = place(pool, 1).name
    time.sleep(2.5)  # it has run out, but so has everybody's time to renew
    assert place(pool, 2, may_queue=False).state == "refused"
    assert pool.renew([lease], []) == ("kept",)


def test_clock_of_the_pool_never_goes_backwards(server: RedisServer, client: Client) -> None:
    pool = known_pool(client)
    before = pool.picture().seen.now
    server.command("HSET", pool._keys[0], "clock", int((before + 1000) * 1000))
    first = place(pool, 1)
    second = place(pool, 2)
    assert first.now >= before + 1000
    assert second.now >= first.now
    assert second.now < first.now + 60


# -- a server that forgot ------------------------------------------------------------------------------------------


def test_holders_are_counted_again_by_a_server_that_has_forgotten_them(server: RedisServer, client: Client) -> None:
    pool = known_pool(client, limit=2)
    leases = [place(pool, number).name for number in (1, 2)]
    server.restart()
    pool.configure(limit="2")
    assert place(pool, 3).state == "queued"
    assert place(pool, 3).closed_for > 0
    assert pool.renew(leases, []) == ("adopted", "adopted")
    record = decode_record(RECORD)
    assert record is not None
    pool.describe(token(1), record)
    settle(pool, limit=2)
    assert held(pool) == [token(1), token(2)]
    assert pool.look(token(3)).state == "queued"


def test_server_asks_whom_a_lease_is_for_until_it_was_told(server: RedisServer, client: Client) -> None:
    pool = known_pool(client, limit=2)
    leases = [place(pool, number).name for number in (1, 2)]
    server.restart()
    pool.renew(leases, [])  # and the answer is lost
    record = decode_record(RECORD)
    assert record is not None
    pool.describe(token(2), record)
    assert pool.renew(leases, []) == ("adopted", "kept")
    pool.describe(token(1), record)
    assert pool.renew(leases, []) == ("kept", "kept")


def test_lease_that_is_given_back_to_a_server_that_has_forgotten_it_was_not_lost(
    server: RedisServer, client: Client
) -> None:
    pool = known_pool(client, limit=2)
    lease = place(pool, 1).name
    place(pool, 2)
    server.restart()
    assert pool.end(token(1), by_holder=True)  # nobody has been given its slot
    assert pool.end(token(1), by_holder=True)
    assert pool.renew([lease], []) == ("lost",)  # one that was on its way
    pool.configure(closed="0")
    assert not pool.end(token(2), by_holder=True)  # it may have been


def test_lease_of_a_long_time_is_renewed_within_the_wait_of_a_server_that_forgot(client: Client) -> None:
    pool = known_pool(client, ttl=600)
    place(pool, 1)
    assert pool.beat == 5
    pool.configure(run="another one's")
    assert pool.look(token(1)).closed_for == pytest.approx(6, abs=1)


def test_who_waits_on_duty_looks_no_sooner_than_the_pool_can_change(server: RedisServer, client: Client) -> None:
    pool = known_pool(client, ttl=600)
    lease = place(pool, 1).name
    now = place(pool, 2, process=2).now * 1000
    server.command("ZADD", pool._keys[12], "1", lease)  # it is long over
    pool.configure(holding='{"reclaim":"force"}', timed="1", quiet=f"{now + 60_000:.0f}")
    assert 50 < pool.look(token(2)).changes_in < 61
    server.command("DEL", pool._keys[12])
    pool.configure(holding="", timed="", quiet="0", feedback="{}", due="1", run="another one's")
    found = pool.look(token(2))
    assert found.on_duty and 5 < found.closed_for <= found.changes_in + 0.5


def test_what_was_released_or_revoked_is_never_adopted(software: str, tmp_path: Path) -> None:
    with running(software, tmp_path / "server", "--appendonly", "yes", "--appendfsync", "always") as server:
        client = Client(parse_address(server.url()))
        pool = known_pool(client, limit=3)
        leases = [place(pool, number).name for number in (1, 2, 3)]
        pool.end(token(1), by_holder=True)
        pool.end(token(2), by_holder=False)
        server.restart()
        assert pool.renew(leases, []) == ("lost", "lost", "kept")
        assert pool.look(token(9)).closed_for > 0
        assert place(pool, 4).state == "queued"  # the last second before the end may be lost
        client.close()


def test_lost_key_closes_the_pool_until_holders_have_spoken(server: RedisServer, client: Client) -> None:
    pool = known_pool(client, limit=2)
    leases = [place(pool, number).name for number in (1, 2)]
    server.command("DEL", pool._keys[4])  # as an eviction would
    assert place(pool, 3).state == "queued"
    assert pool.renew(leases, []) == ("adopted", "adopted")
    settle(pool, limit=2)
    assert held(pool) == [token(1), token(2)]


def test_lost_queue_closes_the_pool_once(server: RedisServer, client: Client) -> None:
    pool = known_pool(client)
    place(pool, 1)
    place(pool, 2, limit=1)
    server.command("DEL", pool._keys[1])
    assert pool.look(token(2)).state == "gone"  # and it asks again
    assert place(pool, 4).closed_for > 0
    settle(pool)
    assert place(pool, 5).closed_for == 0, "nothing else is missing"
    assert pool.end(token(1), by_holder=True)
    assert pool.look(token(4)).state == "held"
    assert pool.end(token(4), by_holder=True) and pool.end(token(5), by_holder=True)
    assert pool.forget() == "forgotten"
    assert server.command("KEYS", "*") in ([], ["leasecap:pools"])


def test_agent_whose_lease_is_adopted_has_one_slot_as_before(server: RedisServer, client: Client) -> None:
    pool = known_pool(client, limit=2)
    record = decode_record(RECORD)
    assert record is not None
    agent = agent_field(record._replace(agent=Child(4711, 5)))
    lease = place(pool, 1, agent=agent).name
    record = record._replace(pid=4711, start=5, proof="pid")  # as its hook leaves it
    server.restart()
    assert pool.renew([lease], []) == ("adopted",)
    pool.configure(limit="2")
    assert place(pool, 4, agent=agent).state == "queued"  # another hook, in between
    assert pool.describe(token(1), record)
    pool.end(token(4), by_holder=True)
    assert place(pool, 2, agent=agent).state == "agent"
    pool.end(token(1), by_holder=True)
    settle(pool, limit=2)
    assert place(pool, 3, agent=agent).state == "held"


def test_server_that_has_forgotten_a_ticket_says_so(server: RedisServer, client: Client) -> None:
    pool = known_pool(client)
    place(pool, 1)
    ticket = place(pool, 2)
    server.command("FLUSHALL")
    assert pool.renew([], [ticket.name]) == ("lost",)
    assert pool.look(token(2)).state == "gone"


def test_pool_of_a_later_format_is_refused_with_both_versions(server: RedisServer, client: Client) -> None:
    pool = known_pool(client)
    server.command("HSET", pool._keys[0], "format", 2)
    with pytest.raises(StoreError, match=r"format 2.*knows format 1"):
        place(pool, 1)


def test_field_of_a_later_version_is_left_alone(server: RedisServer, client: Client) -> None:
    pool = known_pool(client)
    server.command("HSET", pool._keys[0], "from_the_future", "yes")
    assert place(pool, 1).state == "held"
    assert server.command("HGET", pool._keys[0], "from_the_future") == "yes"


# -- silence -------------------------------------------------------------------------------------------------------


def pass_silently(seconds: float) -> None:
    """Let the server's clock go on while nobody calls."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(left)


def test_one_that_died_elsewhere_goes_though_nobody_stays_until_holders_have_spoken(client: Client) -> None:
    """As with `-w 1` in a job of cron: each one comes after a silence, and leaves before the wait for holders ends."""
    pool = known_pool(client)
    place(pool, 1)
    pass_silently(TTL + 0.1)
    assert place(pool, 2).state == "queued", "its holder may have been kept from renewing it"
    pool.withdraw(token(2))
    pass_silently(TTL)
    assert place(pool, 3).state == "held"


def test_wait_of_a_server_that_has_lost_something_counts_for_nothing_after_a_silence(client: Client) -> None:
    pool = known_pool(client)
    place(pool, 1)
    pass_silently(TTL + 0.1)
    pool.configure(run="another one's")  # it has come back with old data, and is out of reach again
    place(pool, 2)
    pass_silently(TTL)
    assert pool.look(token(2)).state == "queued"


def test_holder_that_spoke_in_that_wait_has_its_slot(client: Client) -> None:
    pool = known_pool(client)
    lease = place(pool, 1).name
    pass_silently(TTL + 0.1)
    assert pool.renew([lease], []) == ("kept",)
    pass_silently(TTL + 0.1)
    assert place(pool, 2).state == "queued"
    assert pool.renew([lease], []) == ("kept",)


# -- limits --------------------------------------------------------------------------------------------------------


def test_pool_without_any_limit_gives_nothing(client: Client) -> None:
    pool = known_pool(client, limit=None)
    assert place(pool, 1).state == "nolimit"
    assert pool.picture().seen.queue == ()


def test_declared_limit_only_tightens_and_only_while_it_is_there(client: Client) -> None:
    pool = known_pool(client, limit=2)
    assert place(pool, 1, limit=1).state == "held"
    assert place(pool, 2).state == "queued"
    pool.end(token(1), by_holder=True)
    assert pool.look(token(2)).state == "held"
    assert place(pool, 3, limit=5).state == "held"
    assert place(pool, 4, limit=5).state == "queued"


def test_newcomer_takes_on_the_declared_limit_that_it_finds(client: Client) -> None:
    pool = known_pool(client, limit=None)
    assert place(pool, 1, limit=2).state == "held"
    found = place(pool, 2)
    assert (found.state, found.name.rpartition("-")[2]) == ("held", "2")


def test_unlimited_that_somebody_declares_is_kept_whole(client: Client) -> None:
    from leasecap._decisions.entry import parse_entry
    from leasecap._decisions.limits import UNLIMITED

    pool = known_pool(client, limit=None)
    found = place(pool, 1, limit=UNLIMITED)
    assert (found.state, parse_entry(found.name).limit) == ("held", UNLIMITED)


# -- what Python decides -------------------------------------------------------------------------------------------


def test_nested_call_borrows_the_slot_that_it_runs_under(client: Client) -> None:
    pool = known_pool(client)
    place(pool, 1)
    place(pool, 2, process=2)
    assert place(pool, 3, lenders=(1,)).state == "held"
    assert place(pool, 4, lenders=(3, 1)).state == "held"
    pool.end(token(3), by_holder=True)
    pool.end(token(4), by_holder=True)
    assert pool.look(token(2)).state == "queued"
    pool.end(token(1), by_holder=True)
    assert pool.look(token(2)).state == "held"


def test_lender_that_is_named_alone_brings_its_own_ancestors(client: Client) -> None:
    pool = known_pool(client)
    place(pool, 1)
    place(pool, 2, lenders=(1,))
    assert place(pool, 3, lenders=(2,)).name.split("-")[5:] == [token(2), token(1)]


def test_paused_pool_grants_nothing_until_the_pause_is_over(client: Client) -> None:
    pool = known_pool(client, limit=2, ttl=30)
    began = time.monotonic()
    assert pool.change_feedback(lambda state, now: adaptive.paused(state, now, 2.0, "a test"))
    assert place(pool, 1).state == "queued"
    until(pool, 1, "held")
    assert time.monotonic() - began > 1.9


def test_refusal_cuts_the_limit_for_everybody(client: Client) -> None:
    pool = known_pool(client, limit=4)
    for number in (1, 2, 3, 4):
        place(pool, number)
    assert pool.take_up(Report("concurrency", "a test"))
    for number in (1, 2):
        pool.end(token(number), by_holder=True)
    assert place(pool, 5).state == "held"  # 3 of 3
    assert place(pool, 6).state == "queued"


def test_slot_cools_down_before_it_is_granted_again(server: RedisServer, client: Client) -> None:
    pool = known_pool(client, ttl=30)
    pool.configure(cooldown="2000")
    place(pool, 1)
    began = time.monotonic()
    pool.end(token(1), by_holder=True)
    assert place(pool, 2).state == "queued"
    until(pool, 2, "held")
    assert time.monotonic() - began > 1.95


def test_plan_for_a_pool_that_has_changed_is_not_carried_out(client: Client) -> None:
    from leasecap._redis_store.deciding import decision

    pool = known_pool(client)
    place(pool, 1)
    place(pool, 2, lenders=(1,))
    place(pool, 3, process=3)
    decided = decision(pool.picture().seen)
    pool.end(token(2), by_holder=True)
    assert pool._commit(decided._replace(grant=(pool.picture().seen.queue[0],)), "").state == "changed"
    assert pool.look(token(3)).state == "queued"


def test_hand_off_that_nobody_decided_is_taken_over_by_who_waits(server: RedisServer, client: Client) -> None:
    pool = known_pool(client, ttl=30)
    place(pool, 1)
    place(pool, 2, lenders=(1,))
    place(pool, 3, process=3)
    for number in (2, 1):  # as by a process that is killed before it decides
        pool._run(END, token(number), 1)
    assert pool.look(token(3)).state == "held"


def test_feedback_that_cannot_be_read_grants_nothing(server: RedisServer, client: Client) -> None:
    pool = known_pool(client)
    server.command("HSET", pool._keys[0], "feedback", "{")
    with pytest.raises(StoreError, match="leasecap resume"):
        place(pool, 1)
    assert pool.change_feedback(lambda state, now: adaptive.resumed(state), anew=True)
    assert place(pool, 2, process=2).state == "queued"  # the first one stands before it
    assert held(pool) == [token(1)]


def test_burst_after_a_stretch_without_holders_is_spaced(client: Client) -> None:
    pool = known_pool(client, limit=3, ttl=30)
    pool.configure(rules='{"stagger_after_idle": 3600, "stagger": 2}', decider="python")
    for number in (1, 2, 3):  # the pool is new, and has not been idle
        assert place(pool, number).state == "held"
    for number in (1, 2, 3):
        pool.end(token(number), by_holder=True)
    pool.configure(idle="1")  # since long ago
    began = time.monotonic()
    for number in (4, 5, 6):
        place(pool, number)
    assert held(pool) == [token(4)]
    until(pool, 6, "held")
    assert time.monotonic() - began > 3.9


def test_end_of_a_lease_begins_the_time_for_which_a_pool_is_idle(client: Client) -> None:
    pool = known_pool(client, limit=3, ttl=30)
    pool.configure(rules='{"stagger_after_idle": 3600, "stagger": 60}', decider="python", idle="1")
    assert [place(pool, number).state for number in (1, 2)] == ["held", "queued"]
    for number in (2, 1):
        pool.end(token(number), by_holder=True)
    pool.change_feedback(lambda state, now: NOTHING)
    assert [place(pool, number).state for number in (3, 4, 5)] == ["held"] * 3
