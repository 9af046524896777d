"""Limits that change under load: raising grants at once, lowering drains, and a broken file is no limit's end."""

from __future__ import annotations

import time

import pytest
from holders import HOLD, can_be_had, configure, give_back, hold, queue, ready

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from referee import Team

# Waits for a slot and passes on what it is told meanwhile; the first argument is the limit that it declares.
TOLD = """
limit = int(sys.argv[1]) if len(sys.argv) > 1 else None
def on_wait(waiting):
    say("TOLD", waiting.limit, " ".join((waiting.notice or "nothing").split()))
lease = leasecap.acquire("p", limit=limit, on_wait=on_wait)
say("HELD")
hear()
lease.release()
say("RELEASED")
"""

# The same, declaring a limit of 1, and not told anything.
CAREFUL = TOLD.replace(", on_wait=on_wait", "").replace("limit=limit", "limit=1")


def by_command(team: Team, limit: int) -> None:
    team.leasecap("limit", "p", str(limit)).done()


def by_hand(team: Team, limit: int) -> None:
    configure(team, limit=limit)


@pytest.mark.parametrize("change", [by_command, by_hand])
def test_a_raised_limit_is_granted_to_those_who_wait(team: Team, change: Callable[[Team, int], None]) -> None:
    configure(team, limit=1)
    workers = [team.start(HOLD, name) for name in range(5)]
    ready(*workers)
    hold(workers[0])
    queue(team, *workers[1:])
    change(team, 3)
    before = time.monotonic()
    for worker in workers[1:3]:
        worker.expect("HELD")
    assert time.monotonic() - before < 5
    assert (team.pool().in_flight, team.pool().waiting) == (3, 2)
    for worker in workers[:3]:
        give_back(worker)
    for worker in workers[3:]:
        worker.expect("HELD")
        give_back(worker)
    assert team.referee.peak() == 3
    team.assert_idle()


@pytest.mark.parametrize("change", [by_command, by_hand])
def test_a_lowered_limit_revokes_nothing_and_drains(team: Team, change: Callable[[Team, int], None]) -> None:
    configure(team, limit=3)
    holders = [team.start(HOLD, name) for name in range(3)]
    waiter = team.start(HOLD, "waiter")
    ready(*holders, waiter)
    for holder in holders:
        hold(holder)
    change(team, 1)
    queue(team, waiter)
    # Their processes have read the old limit, and it is they who hand the slots on.
    for left, holder in zip((2, 1), holders, strict=False):
        give_back(holder)
        assert (team.pool().in_flight, team.pool().waiting) == (left, 1)
    give_back(holders[2])
    waiter.expect("HELD")
    give_back(waiter)
    team.assert_idle()


def test_a_file_that_breaks_leaves_those_who_wait_the_last_good_limit_and_tells_them(team: Team) -> None:
    configure(team, limit=1)
    holder = team.start(HOLD, "holder")
    ready(holder)
    hold(holder)
    waiter = team.start(TOLD)
    team.until_waiting(1)
    team.configure('[pools.p]\nlimit = "two"\n')
    while (told := waiter.expect("TOLD")).endswith(" nothing"):
        pass  # it was told before the file broke
    assert told.startswith("1 the last good configuration stays in force: ")
    assert str(team.root / "config.toml") in told
    assert "pools.p.limit" in told
    with pytest.raises(leasecap.ConfigError):
        leasecap.try_acquire("p")
    assert team.pool().waiting == 1
    give_back(holder)
    while waiter.line().startswith("TOLD"):
        pass
    waiter.tell()
    waiter.done()
    configure(team, limit=1)
    assert can_be_had(team)


def test_a_file_put_right_again_counts_for_those_who_wait(team: Team) -> None:
    configure(team, limit=1)
    holder, waiter = (team.start(HOLD, name) for name in ("holder", "waiter"))
    ready(holder, waiter)
    hold(holder)
    queue(team, waiter)
    team.configure("[pools.p]\nlimit = \n")
    with pytest.raises(leasecap.ConfigError):
        leasecap.try_acquire("p")
    configure(team, limit=2)
    waiter.expect("HELD")
    give_back(holder)
    give_back(waiter)
    assert team.referee.peak() == 2


def test_a_declared_limit_tightens_the_pool_while_its_owner_waits_and_while_it_holds(team: Team) -> None:
    configure(team, limit=3)
    holders = [team.start(HOLD, name) for name in range(2)]
    ready(*holders)
    for holder in holders:
        hold(holder)
    careful = team.start(CAREFUL)
    team.until_waiting(1)
    assert team.pool().limit == 1
    assert not can_be_had(team)
    for holder in holders:
        assert team.pool().waiting == 1
        give_back(holder)
    careful.expect("HELD")
    assert not can_be_had(team)
    careful.tell()
    careful.expect("RELEASED")
    assert team.pool().limit == 3
    assert can_be_had(team)


def test_a_declared_limit_that_is_withdrawn_lets_the_others_go_on_at_once(team: Team) -> None:
    configure(team, limit=2)
    holder, waiter = (team.start(HOLD, name) for name in ("holder", "waiter"))
    careful = team.start(
        """
say("READY")
hear()
try:
    leasecap.acquire("p", limit=1, timeout=3)
except leasecap.AcquireTimeout as error:
    say("TIMEOUT", error.limit)
"""
    )
    ready(holder, waiter, careful)
    hold(holder)
    queue(team, careful)
    waiter.tell()
    assert careful.expect("TIMEOUT") == "1"
    waiter.expect("HELD")
    assert team.pool().limit == 2


def test_a_declaration_never_raises_the_limit(team: Team) -> None:
    configure(team, limit=1)
    with leasecap.slot("p"):
        assert leasecap.try_acquire("p", limit=5, borrow=False) is None
    team.assert_idle()


def test_without_any_limit_there_is_no_slot(team: Team) -> None:
    with pytest.raises(leasecap.ConfigError, match="leasecap limit p 4"):
        leasecap.acquire("p")
    assert not (team.root / "pools").exists()


def test_where_only_declarations_give_a_limit_it_stays_until_the_last_of_them_is_gone(team: Team) -> None:
    first = leasecap.acquire("p", limit=2)
    second = leasecap.acquire("p")
    first.release()
    assert team.pool().limit == 2
    third = leasecap.acquire("p")
    assert leasecap.try_acquire("p") is None
    second.release()
    third.release()
    with pytest.raises(leasecap.ConfigError):
        leasecap.try_acquire("p")
    team.assert_idle()


def test_unlimited_is_a_word_that_a_person_writes(team: Team) -> None:
    team.configure('[pools.p]\nlimit = "unlimited"\n')
    leases = [leasecap.acquire("p") for _ in range(30)]
    assert team.pool().limit == "unlimited"
    for lease in leases:
        lease.release()
    team.assert_idle()
