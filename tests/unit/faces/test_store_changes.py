"""Who asks a server whether a pool is still used there, and for how long the answer counts."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leasecap import ConfigError, StoreError
from leasecap._config.config import parse_config
from leasecap._store_changes import StoreChanges

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from leasecap._config.config import PoolConfig

USER = SimpleNamespace(alive=True, host=None, record=None, entry=SimpleNamespace(token="a"))


class World:
    """A pool in files that was on a server before.

    :ivar users: those that the server shows; an error: what it raises.
    :ivar looks: how often it was asked.
    """

    def __init__(self, root: Path) -> None:
        self.now, self.looks = 100.0, 0
        self.users: tuple[Any, ...] | Exception = ()
        self.pool = parse_config("[pools.p]\nlimit = 1\n", "").pool("p")
        self.noted = root / "stores" / self.pool.name.directory
        self.noted.parent.mkdir(parents=True)
        self.noted.write_text("redis://127.0.0.1:1/0\n")
        effects = SimpleNamespace(monotonic=lambda: self.now)
        self.changes = StoreChanges(cast("Any", effects), threading.Lock())
        self._root = str(root)

    def picture(self, pool: PoolConfig) -> Any:
        self.looks += 1
        if isinstance(self.users, Exception):
            raise copy.copy(self.users)
        return SimpleNamespace(leases=self.users, queue=(), parked=(), lock="server", path="there")

    def begin(self, since: float | None = None) -> Generator[float, None, None] | None:
        """What a call that began then has to do first; it begins now."""
        since = self.now if since is None else since
        return self.changes.check_in_steps(self._root, self.pool, self.picture, asked, since)


def asked(former: object, look: Callable[[], Any]) -> Generator[float, None, Any]:
    """An answer that takes a while."""
    yield 1.0
    return look()


def answer(steps: Generator[float, None, None] | None) -> None:
    assert steps is not None
    assert list(steps) == [1.0]


@pytest.fixture
def world(root: Path) -> World:
    return World(root)


def test_server_is_asked_in_steps_and_once_for_all_who_ask_at_once(world: World) -> None:
    calls = [world.begin() for _ in range(3)]
    assert world.looks == 0
    for steps in calls:
        answer(steps)
    assert world.looks == 1 and world.begin() is None
    assert not world.noted.exists()


def test_call_has_its_answer_however_late_it_goes_on(world: World) -> None:
    world.users = StoreError("is silent", path="", remedy="")
    began = world.now
    with pytest.raises(StoreError, match="can't be told: is silent"):
        answer(world.begin())
    world.now += 60
    assert world.begin() is not None, "another call asks anew"
    with pytest.raises(StoreError, match="can't be told: is silent"):
        world.begin(began)
    assert world.looks == 1


def test_kept_error_keeps_nothing_of_those_who_were_told(world: World) -> None:
    world.users = StoreError("is silent", path="", remedy="")

    class Lease:
        """What a caller has in a variable."""

    def call() -> tuple[StoreError, weakref.ref[Lease]]:
        lease = Lease()
        with pytest.raises(StoreError, match="can't be told: is silent") as raised:
            list(world.begin() or ())
        return raised.value, weakref.ref(lease)

    (first, one), (again, another), (once_more, third) = call(), call(), call()
    assert world.looks == 1 and len({id(first), id(again), id(once_more)}) == 3
    assert (str(again), again.args) == (str(first), first.args) and again.path == first.path
    del first, again, once_more
    gc.collect()
    assert (one(), another(), third()) == (None, None, None)


def test_call_that_goes_on_late_asks_anew_where_another_store_was_noted_meanwhile(world: World) -> None:
    """In files nobody looks again: the slot that it takes would be one too many."""
    began = world.now
    answer(world.begin())
    world.now += 60
    assert world.begin(began) is None
    world.noted.write_text("redis://127.0.0.1:1/0\n")
    world.users = (USER,)
    with pytest.raises(ConfigError, match="in use by somebody"):
        answer(world.begin(began))


def test_server_that_is_silent_is_asked_once_a_second(world: World) -> None:
    world.users = StoreError("is silent", path="", remedy="")
    for moment in (0.0, 0.9):
        world.now = 100 + moment
        with pytest.raises(StoreError, match="can't be told: is silent"):
            list(world.begin() or ())
    assert world.looks == 1
    world.now = 101.1
    assert world.begin() is not None and world.noted.exists()


def test_pool_that_is_used_there_is_asked_for_at_each_call(world: World) -> None:
    world.users = (USER,)
    for _ in range(2):
        with pytest.raises(ConfigError, match="in use by somebody"):
            answer(world.begin())
    assert world.looks == 2 and world.noted.exists()
    world.users = ()
    answer(world.begin())
    assert world.begin() is None


def test_error_of_who_cannot_ask_says_what_to_remove(world: World) -> None:
    def never(former: object, look: object) -> Generator[float, None, Any]:
        raise ConfigError("redis-py isn't installed")
        yield 0.0

    steps = world.changes.check_in_steps(world._root, world.pool, world.picture, never, world.now)
    assert steps is not None
    with pytest.raises(StoreError, match=f"redis-py isn't installed(.|\n)*rm {world.noted}"):
        next(steps)
