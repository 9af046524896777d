"""The stores that this process uses."""

from __future__ import annotations

from leasecap._errors import LeasecapError
from leasecap._redis_store.open_pool import OpenPool
from leasecap._redis_store.own_store import OwnStore
from leasecap._redis_store.pictures import RedisPictures
from leasecap._redis_store.store import RedisStore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import TypeVar

    from leasecap._config.config import PoolConfig
    from leasecap._config.store_address import StoreAddress
    from leasecap._host.effects import Effects
    from leasecap._redis_store.own_store import Process

    T = TypeVar("T")


class OwnStores:
    """The stores that this process uses. A fork's child makes its own."""

    def __init__(self, process: Process, effects: Effects, ask: Callable[[RedisStore], object]) -> None:
        """:param ask: asks the provider for its count, in the background."""
        self._ask = ask
        self._process = process
        self._effects = effects
        self._stores: dict[StoreAddress, OwnStore] = {}

    def at(self, address: StoreAddress) -> OwnStore:
        """The store at that address."""
        found = self._stores.get(address)
        if found is None:
            found = self._stores.setdefault(address, OwnStore(address, self._process, self._effects, self._ask_for))
        return found

    def _ask_for(self, settings: PoolConfig) -> None:
        self._ask(self.pool(settings))

    def pool(
        self,
        settings: PoolConfig,
        refresh: Callable[[], PoolConfig] | None = None,
        enter: Callable[[], None] | None = None,
    ) -> RedisStore:
        """A pool whose configuration names a store. For the other parameters see `OpenPool`."""
        assert settings.store is not None
        return RedisStore(OpenPool(self.at(settings.store), settings, refresh, enter))

    def until_done(
        self, settings: PoolConfig, call: Callable[[], T], wake: Callable[[], None], until: float
    ) -> Generator[float, None, T]:
        """`OpenPool.until_done`, with a call that asks the pool's store."""
        assert settings.store is not None
        return OpenPool(self.at(settings.store), settings).until_done(call, wake, until)

    def used_elsewhere(self, settings: PoolConfig) -> str:
        """Another store in which this process has anything in the pool, for people; "" if there is none."""
        name = None if settings.store is None else settings.store.name  # not its password, which may be a new one
        others = (store for store in self._stores.copy().values() if store.name != name)
        return next((store.address.shown for store in others if store.is_used_in(settings.name)), "")

    def pictures(self, addresses: Iterable[StoreAddress]) -> RedisPictures:
        """The pools in these stores as people are shown them."""
        return RedisPictures(self.at, addresses)

    def rest(self) -> None:
        """End the threads that have nothing to do."""
        for store in self._stores.copy().values():
            store.rest()

    def forget(self) -> None:
        """In a fork's child: let go of what is the parent's."""
        for store in self._stores.values():
            store.forget()

    def at_exit(self) -> None:
        """Let what is on its way come through."""
        for store in self._stores.copy().values():
            try:
                store.at_exit()
            except LeasecapError:
                pass  # nobody renews it, so it ends after its ttl
