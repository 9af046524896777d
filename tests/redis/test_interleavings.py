"""All small interleavings of calls on a real server hold, and the exploration notices what guards them.

`scripts/redis-faults interleavings` goes further.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha1

import pytest
from redis_server import RedisServer, running

from _redis_faults import interleavings
from _redis_faults.caller import Caller
from _redis_faults.interleavings import Explorer, Left, Scenario, Violation
from leasecap._redis_store.lua import leases, pools, tickets
from leasecap._redis_store.script import Script

pytestmark = pytest.mark.redis

TWO, THREE = (Caller(1), Caller(2)), (Caller(1), Caller(2), Caller(3))

LOST = Scenario("lost and repeated", TWO, 1, Left(losses=1))
KILLED = Scenario("killed", TWO, 1, Left(kills=1, renewals=1))
FORGETFUL = Scenario("a server that forgets", TWO, 1, Left(whiles=1, renewals=1, restarts=1))
CROWDED = Scenario("three for one slot", THREE, 1, Left())
SLOW = Scenario("three, and time passes", THREE, 1, Left(whiles=1))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that nobody else uses: its pool's clock is put back."""
    with running("redis", tmp_path_factory.mktemp("alone")) as server:
        yield server


def explore(server: RedisServer, scenario: Scenario) -> Explorer:
    explorer = Explorer(server, scenario)
    try:
        explorer.explore()
    finally:
        explorer.close()
    return explorer


@pytest.mark.parametrize("scenario", [LOST, KILLED, FORGETFUL, CROWDED, SLOW], ids=lambda scenario: scenario.name)
def test_small_interleavings_keep_the_cap_and_leave_nothing(alone: RedisServer, scenario: Scenario) -> None:
    explored = explore(alone, scenario)
    assert explored.ends > 0
    assert explored.states > 20


GUARDS = {
    "a token that has ended never comes back": (
        LOST,
        {"return taken or given_back": "return false"},
        "something is left",
    ),
    "a token that is placed twice has one entry": (
        LOST,
        {"local is_new = not name": "local is_new = true"},
        "a slot is free",
    ),
    "a slot that comes free is granted": (
        CROWDED,
        {"if room > 0 then": "if room > 0 and own then"},
        "a slot is free beside somebody who waits",
    ),
    "one slot is one slot": (CROWDED, {"local room = limit and limit -": "local room = limit and limit + 1 -"}, "work"),
    "the wait for holders": (FORGETFUL, {"set('closed', now + settling)": "set('closed', 0)"}, "work"),
    "leases that a server has forgotten are adopted": (
        FORGETFUL,
        {"elseif is_known or (now <": "elseif is_known or (false and now <"},
        "is called lost",
    ),
}  # fmt: skip


@pytest.mark.parametrize("guard", GUARDS)
def test_without_the_guard_the_exploration_finds_a_violation(
    alone: RedisServer, guard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario, changes, found = GUARDS[guard]
    changed = set()
    found_in = [value for room in (leases, pools, tickets) for value in vars(room).values()]
    for script in [script for script in found_in if isinstance(script, Script)]:
        text = script.text
        for old, new in changes.items():
            if old in text:
                changed.add(old)
                text = text.replace(old, new)
        monkeypatch.setattr(script, "text", text)
        monkeypatch.setattr(script, "digest", sha1(text.encode(), usedforsecurity=False).hexdigest())
    assert changed == set(changes)
    with pytest.raises(Violation, match=found):
        explore(alone, scenario)


def test_without_its_end_in_time_the_exploration_finds_who_began_by_a_message(
    alone: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interleavings, "STANDS_FOR", 30.0)
    with pytest.raises(Violation, match="work"):
        explore(alone, SLOW)
