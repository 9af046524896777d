"""Calls that arrive twice, late, or whose answers are lost: nobody is granted what another one holds."""

from __future__ import annotations

import random
from typing import Any

import pytest
from redis_pools import known_pool, place, token

from leasecap._errors import Unreachable
from leasecap._redis_store.lua.pools import COMMIT
from leasecap._redis_store.lua.tickets import END, LOOK, PLACE, WITHDRAW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._errors import StoreError
    from leasecap._redis_store.client import Client
    from leasecap._redis_store.script import Script

pytestmark = pytest.mark.redis

LIMIT, STEPS = 2, 250


class BadNetwork:
    """Runs scripts, and now and then loses a call or its answer, sends a call twice, or once more much later."""

    def __init__(self, client: Client, chance: random.Random) -> None:
        self._client = client
        self._chance = chance
        self._on_the_way: list[tuple[Any, ...]] = []
        self.address = client.address

    @property
    def server(self) -> object:
        return self._client.server

    def command(self, *words: Any, within: float = 0.0) -> Any:
        return self._client.command(*words, within=within)

    def run(self, script: Script, keys: Any, args: Any = (), *, within: float = 0.0) -> Any:
        if self._on_the_way and self._chance.random() < 0.2:
            late = self._on_the_way.pop(self._chance.randrange(len(self._on_the_way)))
            self._client.run(*late)
        if script not in (PLACE, LOOK, WITHDRAW, END, COMMIT):
            return self._client.run(script, keys, args)
        what = self._chance.random()
        if what < 0.1:
            raise self._lost()
        answer = self._client.run(script, keys, args)
        if what < 0.2:
            raise self._lost()
        if what < 0.3:
            answer = self._client.run(script, keys, args)
        if what < 0.4:
            self._on_the_way.append((script, keys, args))
        return answer

    def _lost(self) -> StoreError:
        return Unreachable("lost", path="", remedy="")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("nested", [False, True], ids=["plain", "nested"])
def test_calls_that_are_lost_or_repeated_never_exceed_the_cap(client: Client, seed: int, nested: bool) -> None:
    chance = random.Random(seed)
    pool = known_pool(client, limit=LIMIT, ttl=600)
    pool._client = BadNetwork(client, chance)  # type: ignore[assignment]
    # Of each token what its process does next; `held`: the process knows that it holds it.
    asking: set[int] = set()
    waiting: set[int] = set()
    held: set[int] = set()
    ending: set[int] = set()
    lenders: dict[int, int] = {}  # the lease that a call runs under; 0: none
    last = 0

    def borrows(number: int) -> bool:
        while number := lenders[number]:
            if number in held:
                return True
        return False

    for _ in range(STEPS):
        if len(asking) + len(waiting) < 5:
            last += 1
            asking.add(last)
            lenders[last] = chance.choice([*held]) if nested and held and chance.random() < 0.3 else 0
        number = chance.choice([*asking, *waiting, *held, *ending])
        try:
            if number in asking:
                lender = lenders[number]
                state = place(pool, number, process=number % 3, lenders=(lender,) if lender else ()).state
                if state in ("queued", "held"):
                    asking.remove(number)
                    (held if state == "held" else waiting).add(number)
            elif number in waiting and chance.random() < 0.7:
                if pool.look(token(number)).state == "held":
                    waiting.remove(number)
                    held.add(number)
            elif number in waiting:
                state = pool.withdraw(token(number)).state
                waiting.remove(number)
                if state == "held":
                    held.add(number)
            elif number in held:
                held.remove(number)
                ending.add(number)
            else:
                pool.end(token(number), by_holder=True)
                ending.remove(number)
        except Unreachable:
            continue
        assert sum(not borrows(number) for number in held) <= LIMIT, held
    pool._client = client
    for number in {*asking, *waiting, *held, *ending}:
        pool.end(token(number), by_holder=True)
    assert pool.picture().expiries == {}
    for number in range(1, last + 1):
        assert place(pool, number).state == "gone", number  # whatever is on its way still comes to nothing
