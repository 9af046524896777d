"""One root, as this process uses it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial

from leasecap._config.config_file import ConfigFile
from leasecap._errors import ConfigError, StoreError
from leasecap._faults import faults
from leasecap._file_store.feedback import Feedback
from leasecap._file_store.limit_in_force import LimitInForce
from leasecap._file_store.lookout import Lookout
from leasecap._file_store.notifier import Notifier
from leasecap._file_store.open_pools import OpenPools
from leasecap._file_store.opening import open_pool
from leasecap._file_store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from leasecap._config.config import Config, PoolConfig
    from leasecap._file_store.own_process import OwnProcess

    Inode = tuple[int, int]  # device and number

_MOST_REMEMBERED = 256

_CLEAR_UP_IN = 90
"""Leftovers are looked for in one second of this many: they are rare, and harm nobody soon."""

_SOON = 0.2
"""Seconds. What is done in the background waits for so long: those who were granted a slot meanwhile take it up."""


def _nothing(_root: OpenRoot, _store: Store) -> None:
    pass


class OpenRoot:
    """One root, as this process uses it.

    :ivar path: the spelling by which it was asked for last; there may be several.
    :ivar inode: which directory it is; None until it is made.
    """

    def __init__(
        self, own: OwnProcess, path: str, inode: Inode | None, ask: Callable[[OpenRoot, Store], None] = _nothing
    ) -> None:
        """:param ask: asks a pool's provider how many requests it counts, in the background."""
        self.path = path
        self.inode = inode
        self._own = own
        self._ask = ask
        self._file = ConfigFile(own.effects.monotonic, path)
        self._open = OpenPools(self._make, own.used_pools)
        self.notifier = Notifier(own, lambda: self.path)
        self._pools: dict[str, PoolConfig] = {}
        self._follows = False  # a thread has begun to read the file, and not yet told each open pool of it
        self._lookouts: dict[Store, Lookout] = {}

    def spell(self, path: str) -> None:
        """Use the root by ``path`` from now on; the caller has checked that it is this root."""
        if path != self.path:
            self.path = path
            self._file.spell(path)

    @property
    def config(self) -> Config:
        """The last good configuration."""
        return self._file.config

    def refresh(self) -> bool:
        """Read ``config.toml`` again if it has changed; on an error the last good configuration stays.

        Returns whether the file or a limit in force has changed; a limit rises once the file has stood still.

        :raises ConfigError, StoreError: as `config.load`.
        """
        # Who finds another thread at it waits: what that has read doesn't hold for the pools yet. In this order, since
        # the thread says that it follows, then reads, and says that it is done at last.
        if not self._file.is_due() and not self._follows:
            return False
        with self._own.lock:  # another thread may be opening a pool, and a fork must not copy an import half done
            if not self._file.is_due():
                return False
            self._follows = True
            try:
                changed = self._file.refresh()
                if changed:
                    self._pools = {}
                return self._configure_all() or changed
            finally:
                self._follows = False

    def _configure_all(self) -> bool:
        """Configure each open pool; returns whether a limit in force has changed. Then its waiters in this process
        look."""
        changed = False
        for store in self._open.all():
            before = store.policy.configured
            store.configure(self.config.pool(store.pool.name.text))
            if store.policy.configured != before:
                changed = True
                if store in self._lookouts:
                    self._lookouts[store].wake_all()
        return changed

    def _keep_up(self) -> None:
        try:
            self.refresh()
        except (ConfigError, StoreError):
            pass  # the last good one stays in force: waiters say so in their notice, and new calls raise the error

    def pool(self, text: str) -> PoolConfig:
        """`Config.pool` of the configuration, worked out once.

        :raises ConfigError: if ``text`` can't name a pool.
        """
        known = self._pools
        found = known.get(text)
        if found is None:
            found = self.config.pool(text)
            if len(known) < _MOST_REMEMBERED:
                known[text] = found
        return found

    def store(self, pool: PoolConfig) -> Store:
        """The open pool; if its directory was removed meanwhile, the pool is made again.

        It stays open while this process has a lease or a ticket in it, and in `using`.
        """
        with self._own.lock:
            store = self._open.get(self.path, pool)
            self.inode = self.inode or inode_of(self.path, None)
            return store

    def standing(self, store: Store) -> Store:
        """The pool that stands at this one's path now; another one if this one was forgotten meanwhile."""
        return self.store(self.pool(store.pool.name.text))

    def _make(self, pool: PoolConfig) -> Store:
        opened = open_pool(self._own.effects, self.path, pool.name, pool.lock)
        self._own.heartbeats.prepare()
        feedback = Feedback(self._own.effects, self._own.lock, opened, pool.rules)
        with faults(opened.directory.path):  # this is the first write, and the root may be read-only
            store = Store(
                self._own.effects,
                opened,
                configured=pool.limit,
                stale_after=pool.stale_after,
                heartbeat=pool.heartbeat,
                waker=self.notifier.wake,
                notify=self.notifier.notify,
                listens=self.notifier.listens,
                marks=self.notifier.marks,
                refresh=self._keep_up,
                limit=LimitInForce(opened.directory, self._file.stands_still_in, lambda: self._file.is_there),
                feedback=feedback,
                ask=partial(self._ask, self),
                clear_up=self._clear_up,
                in_background=lambda call: self._own.heartbeats.call_later(_SOON, call),
            )
        store.configure(self.config.pool(pool.name.text))
        return store

    def _clear_up(self, store: Store) -> None:
        """Call `sweep_leftovers`, in one second of `_CLEAR_UP_IN`."""
        if int(store.effects.monotonic()) % _CLEAR_UP_IN:
            return
        with self._own.lock:  # a fork must not copy an import half done
            from leasecap._file_store.leftovers import sweep_leftovers

        sweep_leftovers(store.entries)

    @contextmanager
    def using(self, pool: PoolConfig) -> Iterator[Store]:
        """`store`, which stays open during the block."""
        with self._own.lock:
            store = self.store(pool)
            done = self._own.keep_open(store)
        try:
            yield store
        finally:
            done()

    def is_used(self) -> bool:
        """Whether this process has anything in one of the pools."""
        used = self._own.used_pools()
        return any(store.entries in used for store in self._open.all())

    def is_used_in(self, directory: str) -> bool:
        """Whether this process has anything in the pool of that directory."""
        used = self._own.used_pools()
        return any(store.entries in used for store in self._open.all() if store.pool.name.directory == directory)

    def lookout(self, store: Store) -> Lookout:
        """This process's look-out over the store's queue."""
        found = self._lookouts.get(store)
        if found is None:
            watch = self.notifier.watch()
            with self._own.lock:
                open_ones = self._open.all()
                self._lookouts = {store: lookout for store, lookout in self._lookouts.items() if store in open_ones}
                found = self._lookouts.setdefault(store, Lookout(self._own, store, watch, self._answer))
        return found

    def _answer(self) -> None:
        """Remove the marks of this process, if there are any, since it runs."""
        if self.notifier.answer():
            for lookout in self._lookouts.copy().values():
                lookout.come_back()

    def at_exit(self) -> None:
        for store in self._open.all():
            store.entries.drop_spares()
        self.notifier.stop()

    def close(self) -> None:
        """Leave nothing behind and nothing open. A lease that is still held is looked after by its path from then
        on."""
        self.at_exit()
        self._close_pools()

    def forget(self) -> None:
        """In a fork's child."""
        for store in self._open.all():
            store.entries.forget_spares()
        self.notifier.forget()
        self._close_pools()

    def _close_pools(self) -> None:
        self._open.close()
        self.notifier.close()


def inode_of(path: str, known: OpenRoot | None) -> Inode | None:
    """Device and number of the directory there; None if there is none."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return None if known is None else known.inode  # the root's next use will say what is wrong with it
    return found.st_dev, found.st_ino
