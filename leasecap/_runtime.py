"""The roots and servers that this process uses, and what it has in their pools. A fork's child starts with nothing.

This is the one file that knows which store a pool is kept in.
"""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import closing, contextmanager
from functools import partial

from leasecap._errors import ConfigError, StoreError
from leasecap._faults import faults
from leasecap._file_store.description import name_on_disk
from leasecap._file_store.file_store import FileStore
from leasecap._file_store.layout import is_made, pool_path
from leasecap._file_store.open_roots import OpenRoots
from leasecap._file_store.own_process import OwnProcess
from leasecap._host import process
from leasecap._host.deferred_signals import surely
from leasecap._loading import first_at_fork, loading
from leasecap._store_changes import StoreChanges, moved
from leasecap._threads import end_before_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager
    from typing import TypeVar

    from leasecap._all_pictures import AllPictures
    from leasecap._config.config import Config, PoolConfig
    from leasecap._config.pool_name import PoolName
    from leasecap._config.store_address import StoreAddress
    from leasecap._file_store.gate_token import GateToken
    from leasecap._file_store.open_root import OpenRoot
    from leasecap._file_store.silent_gates import SilentGates
    from leasecap._file_store.standing_gates import StandingGates
    from leasecap._file_store.store import Store as OpenPool
    from leasecap._host.effects import Effects
    from leasecap._redis_store.own_stores import OwnStores
    from leasecap._redis_store.store import RedisStore
    from leasecap._store.health import Finding, Health
    from leasecap._store.picture import PoolPicture
    from leasecap._store.store import Store

    T = TypeVar("T")


class Runtime:
    """All that this process has open.

    :ivar own: what it has in its pools.
    """

    def __init__(self, effects: Effects | None = None) -> None:
        self.own = OwnProcess(effects)
        self._roots = OpenRoots(self.own, self._ask)
        self._servers: OwnStores | None = None
        self._changes = StoreChanges(self.own.effects, self.own.lock)

    def root(self, path: str) -> OpenRoot:
        """The root at ``path``, its configuration up to date.

        :raises ConfigError, StoreError: when the configuration can't be used.
        """
        return self._roots.at(path)

    def close(self, path: str) -> None:
        """Close the root at ``path``: a process that uses many would run out of descriptors."""
        self._roots.close(path)

    def store(self, root: OpenRoot, pool: PoolConfig) -> FileStore | RedisStore:
        """The open pool, which stays open while this process has a lease or a ticket in it.

        :raises ConfigError: when a server keeps it, and what talks to servers isn't installed.
        """
        if pool.store is not None:
            refresh = partial(self._settings_now, root, pool.name.text)
            enter = partial(self._changes.enter, root.path, pool, partial(self._picture, root))
            return self.servers().pool(pool, refresh, enter)
        return FileStore(self.own, root, root.store(pool))

    def _settings_now(self, root: OpenRoot, name: str) -> PoolConfig:
        try:
            root.refresh()
        except (ConfigError, StoreError):
            pass  # the last good one stays in force; new calls raise the error
        return root.pool(name)

    def refuse_move(
        self, root: OpenRoot, pool: PoolConfig, wake: Callable[[], None], since: float, until: float
    ) -> Generator[float, None, None] | None:
        """Refuse a pool of which anybody here has something in another store. None, or steps: see `check_in_steps`.
        They load what talks to servers, too: the caller may hold a lock now that must not be held then (`loading`).

        :param since, until: when the call began that this is for, and when its time is over.
        :raises ConfigError, StoreError: if somebody has, or when that can't be told.
        """
        if pool.store is not None and self._servers is None:
            return self._load()
        if elsewhere := self._used_elsewhere(root, pool):
            raise moved(pool, ["this process"], elsewhere)
        ask = partial(self._look_at, root, wake, until)
        return self._changes.check_in_steps(root.path, pool, partial(self._picture, root), ask, since)

    def _load(self) -> Generator[float, None, None]:
        self.servers()
        yield from ()

    def _look_at(
        self, root: OpenRoot, wake: Callable[[], None], until: float, pool: PoolConfig, look: Callable[[], T]
    ) -> Generator[float, None, T]:
        return self.servers().until_done(root.config.with_password(pool), look, wake, until)

    def _used_elsewhere(self, root: OpenRoot, pool: PoolConfig) -> str:
        """Another store in which this process has anything in the pool, for people; "": there is none."""
        if pool.store is not None and root.is_used_in(pool.name.directory):
            return root.path
        return "" if self._servers is None else self._servers.used_elsewhere(pool)

    def _picture(self, root: OpenRoot, pool: PoolConfig) -> PoolPicture | None:
        """The pool where it was used before; the configuration may still know the password to that."""
        return self.pictures(root.path).in_its_store(pool.name, root.config.with_password(pool))

    def servers(self) -> OwnStores:
        """The servers that this process uses, which are loaded when the first one is named.

        :raises ConfigError: when what talks to them isn't installed.
        """
        if self._servers is None:
            with loading(self.own.lock):
                try:
                    from leasecap._redis_store.own_stores import OwnStores
                except ModuleNotFoundError as error:
                    if (error.name or "").partition(".")[0] != "redis":
                        raise
                    from leasecap._extras import to_install

                    what = "a pool on a server needs redis-py, which isn't installed"
                    raise ConfigError(what, allowed=to_install("redis")) from None
            with self.own.lock:
                self._servers = self._servers or OwnStores(self.own, self.own.effects, self._ask_at)
        return self._servers

    def by_task(self, pool: PoolConfig) -> bool:
        """Whether calls of earlier tasks may go first in the pool. A server's policy says that for all machines.

        :raises ConfigError: as `store`.
        """
        return pool.order == "task" if pool.store is None else self.on_server(pool).by_task

    def keep_open(self, store: Store, user: object) -> Callable[[], None]:
        """Keep the pool open until the function is called that this returns."""
        if isinstance(store, FileStore):
            return self.own.keep_open(store.store, user)
        return _nothing  # a server's pool is never closed

    @contextmanager
    def using(self, root: OpenRoot, pool: str) -> Iterator[FileStore | RedisStore]:
        """`store`, which stays open during the block."""
        settings = root.config.pool(pool)
        if settings.store is not None:
            yield self.on_server(settings)
            return
        with root.using(settings) as store:
            yield FileStore(self.own, root, store)

    def using_again(self, root: OpenRoot, pool: str) -> AbstractContextManager[FileStore | RedisStore]:
        """`using` for a root that may be closed by now, or that is the parent's in a fork's child."""
        return self.using(self._roots.still(root), pool)

    def is_used(self, root: str, name: PoolName) -> bool:
        """Whether somebody has used the pool.

        :raises StoreError: when its server can't say. It isn't asked again then, since that takes seconds each time.
        """
        settings = self.root(root).config.pool(name.text)
        return is_made(root, name) if settings.store is None else self.on_server(settings).pool.picture().is_used

    def name_on_disk(self, root: str, directory: str) -> PoolName:
        """The name of the pool in that directory, as its description has it."""
        return name_on_disk(self.own.effects, root, directory)

    def pictures(self, root: str, config: Config | None = None, apart: StoreAddress | None = None) -> AllPictures:
        """The pools of a root as people are shown them, and those of servers in ``config``, without one of these."""
        with self.own.lock:
            from leasecap._all_pictures import AllPictures
            from leasecap._file_store.pictures import FilePictures

        addresses = [] if config is None else [store for store in config.stores() if store != apart]
        files = FilePictures(self.own.effects, self.own.lock, root)
        former = partial(self._changes.former, root)
        return AllPictures(files, lambda at: self.servers().pictures(at), addresses, former)

    def on_server(self, pool: PoolConfig) -> RedisStore:
        """A pool that a server keeps.

        :raises ConfigError: when what talks to servers isn't installed.
        """
        return self.servers().pool(pool)

    def has_limit(self, pool: PoolConfig) -> bool:
        """Whether anything gives the pool a limit: this machine's file, or else a server that keeps it, and is asked.

        :raises ConfigError, StoreError: when it can't be asked.
        """
        if pool.limit is not None or pool.store is None:
            return pool.limit is not None
        return self.on_server(pool).has_limit()

    def silent_gates(self, root: str) -> SilentGates:
        """Where a gate says that nothing comes through it."""
        from leasecap._file_store.silent_gates import SilentGates

        return SilentGates(self.own.effects, root)

    def gate_token(self, root: str) -> GateToken:
        """The secret in the addresses of `leasecap gate`."""
        from leasecap._file_store.gate_token import GateToken

        return GateToken(self.own.effects, root)

    def standing_gates(self, root: str) -> StandingGates:
        """Where a `leasecap gate` says that it runs."""
        from leasecap._file_store.standing_gates import StandingGates

        return StandingGates(self.own.effects, root)

    def health(self, root: str) -> Health:
        """What only the store can know of a root's health."""
        from leasecap._file_store.health import FileHealth

        return FileHealth(self.own.effects, root)

    def server_checks(self, address: StoreAddress, kept: list[PoolName]) -> Iterator[tuple[str, Callable[[], Finding]]]:
        """What can be looked at in a server with the pools ``kept``, each with its name. To look changes nothing."""
        with loading(self.own.lock):
            from leasecap._redis_store.examination import Examination

        with closing(Examination(address, kept)) as examination:
            yield from examination.checks()

    def server_trial(self, address: StoreAddress, name: str, limit: int) -> AbstractContextManager[None]:
        """A pool in a server, during a block; nobody else may know its name.

        :raises StoreError: when it can't be made.
        """
        with loading(self.own.lock):
            from leasecap._redis_store.trial import trial

        return trial(address, name, limit)

    def forget(self, root: str, name: PoolName) -> bool:
        """Remove a pool that nobody uses; False: there is none.

        :raises StoreError: when somebody holds a slot in it or waits; nothing is changed then.
        """
        settings = self.root(root).config.pool(name.text)
        if settings.store is not None:
            found = self.on_server(settings).forget()
            self._changes.forget(root, settings)
            return found
        from leasecap._file_store.forget import forget_pool

        return forget_pool(self.own.effects, root, name)

    def _ask(self, root: OpenRoot, store: OpenPool) -> None:
        """Ask the provider for its own count, in the background."""
        self._ask_at(FileStore(self.own, root, store), partial(self.own.keep_open, store))

    def _ask_at(self, store: Store, keep_open: Callable[[], Callable[[], None]] = lambda: _nothing) -> None:
        with self.own.lock:  # a fork must not copy an import half done
            from leasecap._usage.asking import ask  # imported here, since few pools have a provider that can be asked

        ask(store, keep_open)

    def restore(self, root: OpenRoot, name: PoolName) -> None:
        """Forget a reduced limit and reconcile the pool, after a person has set its limit.

        :raises StoreError: when the pool can't be used; waiters see the change at their next look.
        """
        from leasecap._control import restore

        settings = root.config.pool(name.text)
        if settings.store is not None:
            restore(self.on_server(settings))
            return
        path = pool_path(root.path, name)
        if os.path.isdir(path):  # somebody has used it
            with faults(path), self.using(root, name.text) as store:
                restore(store)

    def at_exit(self) -> None:
        """Leave nothing behind that others would have to sweep."""
        for root in self._roots.all():
            root.at_exit()
        if self._servers is not None:
            self._servers.at_exit()

    def before_fork(self) -> None:
        """End the threads that have nothing to do, or Python would warn of a fork beside threads.

        Threads that look after a lease or a wait go on.
        """
        if not self.own.own_entries:
            end_before_fork(self._rest)

    def _rest(self) -> None:
        self.own.heartbeats.rest()
        for root in self._roots.all():
            root.notifier.rest()
        if self._servers is not None:
            self._servers.rest()

    def after_fork_in_child(self) -> None:
        """Let go of what is the parent's."""
        self.own.lock._at_fork_reinit()  # type: ignore[attr-defined]  # the fork hooks go on to take this one
        process.forget()
        self.own.forget_entries()
        for root in self._roots.all():
            root.forget()
        if self._servers is not None:
            self._servers.forget()
            self._servers = None
        self.own.start()
        self._roots.forget()


def _nothing() -> None:
    pass


runtime = Runtime()
atexit.register(runtime.at_exit)

if hasattr(os, "register_at_fork"):
    # The lock is held across the fork, so that the child copies no descriptor that isn't noted yet.
    os.register_at_fork(
        # The methods themselves are registered: in a lambda a signal handler could raise before the lock is given back.
        before=runtime.own.lock.acquire,
        after_in_parent=runtime.own.lock.release,
        after_in_child=runtime.after_fork_in_child,
    )
    if sys.version_info >= (3, 12):
        # A thread that ends may need the lock above, or be in the middle of a late import.
        first_at_fork(partial(surely, runtime.before_fork))
