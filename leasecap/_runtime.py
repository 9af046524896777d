"""What this process has open, shared by all its threads, tasks and event loops; a fork's child starts with nothing."""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import contextmanager
from functools import partial

from leasecap._config.config_file import ConfigFile
from leasecap._errors import ConfigError, StoreError
from leasecap._faults import faults
from leasecap._file_store.feedback import Learning
from leasecap._file_store.heartbeats import Heartbeats
from leasecap._file_store.layout import open_pool, pool_path
from leasecap._file_store.limit_in_force import LimitInForce
from leasecap._file_store.lookout import Lookout
from leasecap._file_store.notifier import Notifier, hear
from leasecap._file_store.open_pools import OpenPools, ask, clear_up
from leasecap._file_store.store import Store
from leasecap._host.effects import Effects
from leasecap._host.process import forget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from leasecap._config.config import Config, PoolConfig
    from leasecap._config.pool_name import PoolName
    from leasecap._file_store.own_entry import Claim

    Inode = tuple[int, int]  # device and number


_MOST_REMEMBERED = 256


class Root:
    """One root, as this process uses it.

    :ivar path: the spelling by which it was asked for last; there may be several.
    :ivar inode: which directory it is; None until it is made.
    """

    def __init__(self, local: Local, path: str, inode: Inode | None) -> None:
        self.path = path
        self.inode = inode
        self._local = local
        self._file = ConfigFile(local.effects, path)
        self._open = OpenPools(self._make, local.used_pools)
        self.notifier = Notifier(local, self)
        self._pools: dict[str, PoolConfig] = {}

    def spell(self, path: str) -> None:
        """Use the root by ``path`` from now on, which surely means it."""
        if path != self.path:
            self.path = path
            self._file.spell(path)

    @property
    def config(self) -> Config:
        """The last good configuration."""
        return self._file.config

    def refresh(self) -> bool:
        """Read ``config.toml`` again if it has changed; returns whether it has, or has stood still for long enough.

        The last good one stays on an error.

        :raises ConfigError, StoreError: as `config.load`.
        """
        if not self._file.is_due():
            return False
        with self._local.lock:  # another thread may be opening a pool, and a fork must copy no half-done import
            if not self._file.is_due():
                return False
            changed = self._file.refresh()
            if changed:
                self._pools = {}
            return self._configure_all() or changed

    def _configure_all(self) -> bool:
        """Returns whether a limit that is in force has changed; then the pool's waiters here look."""
        changed = False
        for store in self._open.all():
            before = store.configured
            store.configure(self.config.pool(store.pool.name.text))
            if store.configured != before:
                changed = True
                if store.lookout is not None:
                    store.lookout.wake_all()
        return changed

    def _keep_up(self) -> None:
        try:
            self.refresh()
        except (ConfigError, StoreError):
            pass  # the last good one stays in force; those who wait say so, and newcomers fail

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
        """The open pool; a pool whose directory was removed meanwhile is made again.

        It stays open while this process has a lease or a ticket in it, and in `using`.
        """
        with self._local.lock:
            store = self._open.get(self.path, pool)
            self.inode = self.inode or _inode(self.path, None)
            return store

    def _make(self, pool: PoolConfig) -> Store:
        opened = open_pool(self._local.effects, self.path, pool.name, pool.lock)
        self._local.heartbeats.prepare()
        learning = Learning(self._local, opened, pool.rules)
        with faults(opened.directory.path):  # the first to write: the root may be read-only
            store = Store(
                self._local.effects,
                opened,
                configured=pool.limit,
                stale_after=pool.stale_after,
                heartbeat=pool.heartbeat,
                waker=self.notifier.wake,
                notify=self.notifier.notify,
                listens=self.notifier.listens,
                marks=self.notifier.marks,
                refresh=self._keep_up,
                learning=learning,
            )
        store.ask = partial(ask, self._local, store, learning)
        store.limit = LimitInForce(opened.directory, self._file.stands_still_in, lambda: self._file.is_there)
        store.configure(self.config.pool(pool.name.text))
        store.clear_up = partial(clear_up, self._local, store)
        return store

    @contextmanager
    def using(self, pool: PoolConfig) -> Iterator[Store]:
        """`store`, which stays open during the block."""
        with self._local.lock:
            store = self.store(pool)
            done = self._local.keep_open(store)
        try:
            yield store
        finally:
            done()

    def is_used(self) -> bool:
        """Whether this process has anything in one of the pools."""
        return not self._local.used_pools().isdisjoint(self._open.all())

    def restore(self, name: PoolName) -> None:
        """Do what the pool's state calls for after a person has set its limit, and forget a reduced one.

        :raises StoreError: when the pool can't be used; those who wait see the change at their next look.
        """
        from leasecap import _control

        path = pool_path(self.path, name)
        if os.path.isdir(path):  # somebody has used it
            with faults(path), self.using(self.config.pool(name.text)) as store:
                _control.restore(store)

    def lookout(self, store: Store) -> Lookout:
        """This process's look-out over the store's queue."""
        if store.lookout is None:
            watch = self.notifier.watch()
            with self._local.lock:
                store.lookout = store.lookout or Lookout(self._local, store, watch, self._answer)
        return store.lookout

    def _answer(self) -> None:
        """Remove the marks of this process, if there are any: it runs."""
        if self.notifier.answer():
            for store in self._open.all():
                if store.lookout is not None:
                    store.lookout.come_back()

    def at_exit(self) -> None:
        for store in self._open.all():
            store.drop_spares()
        self.notifier.stop()

    def close(self) -> None:
        """Leave nothing behind and nothing open; a lease that is still held is looked after by its path."""
        self.at_exit()
        self._close_pools()

    def forget(self) -> None:
        """In a fork's child."""
        for store in self._open.all():
            store.forget_spares()
        self.notifier.forget()
        self._close_pools()

    def _close_pools(self) -> None:
        self._open.close()
        self.notifier.close()


class Local:
    """Everything of this process.

    :ivar process: the id under which others wake this process.
    :ivar waiters: for each queued ticket, what wakes its waiter; ``lookouts`` its process's look-out over the queue.
    :ivar claims: entries of this process that hold a descriptor.
    """

    def __init__(self, effects: Effects | None = None) -> None:
        self.effects = effects or Effects()
        self.lock = threading.RLock()
        self._start()

    def _start(self) -> None:
        self.process = os.urandom(6).hex()
        self.heartbeats = Heartbeats()
        self.waiters: dict[str, Callable[[], None]] = {}
        self.lookouts: dict[str, Lookout] = {}
        self.claims: set[Claim] = set()
        self._roots: dict[str, Root] = {}  # by each spelling
        self._removed: list[Root] = []  # another directory stands in their place, or none
        self._users: dict[object, Store] = {}

    def root(self, path: str) -> Root:
        """The root at ``path``, its configuration up to date. One directory is one root, however it is spelled.

        :raises ConfigError, StoreError: when the configuration can't be used.
        """
        with self.lock:
            known = self._roots.get(path)
            inode = _inode(path, known)
            root = known if known is not None and known.inode == inode else self._another(path, inode, known)
            root.spell(path)
            root.refresh()
            if self._removed:
                self._close_removed()
            return root

    def _another(self, path: str, inode: Inode | None, known: Root | None) -> Root:
        """The root at ``path``, where that isn't (or no longer) the one which is ``known``."""
        same = [root for root in self._roots.values() if root.inode == inode is not None]
        if known is not None and known.inode is None and not same:
            known.inode = inode  # it was made since
            return known
        root = self._roots[path] = same[0] if same else Root(self, path, inode)
        if known is not None and known not in self._roots.values():
            self._removed.append(known)
        return root

    def _close_removed(self) -> None:
        for root in [root for root in self._removed if not root.is_used()]:
            self._removed.remove(root)
            root.close()

    def still(self, root: Root) -> Root:
        """``root``, or what stands in its place now; in a fork's child another one than the parent's."""
        with self.lock:
            return root if root in self._roots.values() else self.root(root.path)

    def close(self, path: str) -> None:
        """Be done with the root at ``path``; a process that uses many would run out of descriptors."""
        with self.lock:
            root = self._roots.get(path)
            self._roots = {spelling: other for spelling, other in self._roots.items() if other is not root}
        if root is not None:
            root.close()

    def keep_open(self, store: Store, user: object = None) -> Callable[[], None]:
        """Close the pool no sooner than what this returns is called. Call under `lock`, as `Root.store`."""
        user = user or object()
        users = self._users
        users[user] = store

        def done() -> None:
            users.pop(user, None)

        return done

    def used_pools(self) -> set[object]:
        """The pools in which this process has a lease or a ticket, or which are kept open."""
        # Copies, since other threads go on meanwhile.
        return {*(claim.home for claim in self.claims.copy()), *self._users.copy().values()}

    def wake(self, names: bytes) -> None:
        """Do what these lines say."""
        hear(self, names)

    def wake_tickets(self, names: Iterable[str]) -> None:
        """Wake the waiters of these tickets."""
        for waiter in filter(None, map(self.waiters.get, names)):
            waiter()

    def at_exit(self) -> None:
        """Leave nothing behind that somebody would have to sweep."""
        for root in self._all():
            root.at_exit()

    def _all(self) -> set[Root]:
        return {*self._roots.values(), *self._removed}

    def after_fork_in_child(self) -> None:
        """Let go of all that is the parent's.

        Close, never unlock: an OS lock belongs to the open description, which the parent shares. And do close: a copy
        of ``alive`` left open here would keep a dead parent's lease alive.
        """
        self.lock._at_fork_reinit()  # type: ignore[attr-defined]  # the fork hooks go on to take this one
        forget()
        for claim in self.claims:
            claim.home.close(claim)
        for root in self._all():
            root.forget()
        self._start()


def _inode(path: str, known: Root | None) -> Inode | None:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return None if known is None else known.inode  # what is wrong with it its use will say
    return found.st_dev, found.st_ino


local = Local()
atexit.register(local.at_exit)

if hasattr(os, "register_at_fork"):
    # The lock is held across the fork, so that no descriptor is open and not yet known.
    os.register_at_fork(
        # Not in a lambda, where a signal handler that raises could keep the lock from being given back.
        before=local.lock.acquire,
        after_in_parent=local.lock.release,
        after_in_child=local.after_fork_in_child,
    )
