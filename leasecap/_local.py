"""What this process has open, shared by all its threads, tasks and event loops; a fork's child starts with nothing."""

from __future__ import annotations

import atexit
import os
import threading
from functools import partial

from leasecap import _config
from leasecap._effects import Effects
from leasecap._errors import ConfigError, StoreError
from leasecap._faults import faults
from leasecap._heartbeat import Heartbeats
from leasecap._learning import Learning
from leasecap._limit import STANDS_STILL, LimitInForce, is_sealed
from leasecap._pool import open_pool, pool_path
from leasecap._store import Store
from leasecap._toml import read_text
from leasecap._watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._config import PoolConfig
    from leasecap._effects import Directory
    from leasecap._entries import Claim
    from leasecap._names import PoolName


_MOST_REMEMBERED = 256


class Root:
    """One root, as this process uses it.

    :ivar config: the last good configuration.
    """

    def __init__(self, local: Local, path: str) -> None:
        self.path = path
        self._local = local
        self._stores: dict[str, Store] = {}
        self._pools: dict[str, PoolConfig] = {}
        self._directory: Directory | None = None
        self._watch: Watch | None = None
        self._broken: tuple[tuple[int, ...], ConfigError] | None = None
        self._load()

    def _load(self) -> None:
        # The signature first: an edit in between is then seen as a change at the next look.
        path = _config.path_of(self.path)
        signature = _config.signature(path)
        if self._broken is not None and self._broken[0] == signature:
            raise self._broken[1].with_traceback(None)  # to parse it at each look would hold up whoever waits
        text = read_text(path)
        try:
            self.config = _config.parse(path, text)
        except ConfigError as error:
            self._broken = signature, error
            raise
        self._broken, self._signature, self._text = None, signature, text
        self._stands_still = False
        self._stands_still_at = self._local.effects.monotonic() + STANDS_STILL

    def _stands_still_in(self) -> float:
        """Seconds until config.toml has been the same for long enough; 0 if it has, or need not."""
        if not self._stands_still and is_sealed(self.path, self._text or ""):
            self._stands_still = True
        if self._stands_still:
            return 0.0
        left = self._stands_still_at - self._local.effects.monotonic()
        return left if left > 0 else STANDS_STILL  # it is broken now, or not looked at yet: nobody is to spin for it

    def refresh(self) -> bool:
        """Read ``config.toml`` again if it has changed; returns whether it has, or has stood still for long enough.

        The last good one stays on an error.

        :raises ConfigError, StoreError: as `_config.load`.
        """
        if not self._is_due():
            return False
        with self._local.lock:  # another thread may be opening a pool, and a fork must copy no half-done import
            if not self._is_due():
                return False
            # By its contents as well: two edits within one tick of the file system's clock have one signature.
            if _config.signature(self.config.path) == self._signature and self._text == read_text(self.config.path):
                self._stands_still = True
                return self._configure_all()
            self._load()
            self._pools = {}
            self._configure_all()
            return True

    def _is_due(self) -> bool:
        """Whether config.toml has changed, or has still to be seen to have stood still."""
        if _config.signature(self.config.path) != self._signature:
            return True
        return not self._stands_still and self._local.effects.monotonic() >= self._stands_still_at

    def _configure_all(self) -> bool:
        """Returns whether a limit that is in force has changed."""
        stores = list(self._stores.values())
        before = [store.configured for store in stores]
        for store in stores:
            store.configure(self.config.pool(store.pool.name.text))
        return before != [store.configured for store in stores]

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
        """The open pool; a pool whose directory was removed meanwhile is made again."""
        with self._local.lock:
            store = self._stores.get(pool.name.directory)
            if store is None or not _is_there(store):
                opened = open_pool(self._local.effects, self.path, pool.name, pool.lock)
                learning = Learning(self._local, opened, pool.rules)
                with faults(opened.directory.path):  # the first to write: the root may be read-only
                    store = self._stores[pool.name.directory] = Store(
                        self._local.effects,
                        opened,
                        configured=pool.limit,
                        stale_after=pool.stale_after,
                        heartbeat=pool.heartbeat,
                        waker=self.wake,
                        listens=self.listens,
                        refresh=self._keep_up,
                        learning=learning,
                    )
                store.ask = partial(_ask, store, learning)
                store.limit = LimitInForce(opened.directory, self._stands_still_in, lambda: self._text is not None)
                store.configure(self.config.pool(pool.name.text))
            return store

    def restore(self, name: PoolName) -> None:
        """Do what the pool's state calls for after a person has set its limit, and forget a reduced one.

        :raises StoreError: when the pool can't be used; those who wait see the change at their next look.
        """
        from leasecap import _reporting

        path = pool_path(self.path, name)
        if os.path.isdir(path):  # somebody has used it
            with faults(path):
                _reporting.restore(self.store(self.config.pool(name.text)))

    def _opened(self) -> Directory:
        with self._local.lock:
            if self._directory is None:
                self._directory = self._local.effects.directory(self.path)
            return self._directory

    def wake(self, process: str, name: str) -> None:
        """Wake the waiter of ``name``, in this process or another one. A hint: failing is no error."""
        if process == self._local.process:
            waiter = self._local.waiters.get(name)
            if waiter is not None:
                waiter()
            return
        try:
            self._opened().ring(f"wake/{process}", f"{name}\n".encode("ascii", "replace"))
        except OSError:
            pass  # it doesn't listen: it looks by itself

    def listens(self, process: str) -> bool:
        """Whether the process surely lives, since it reads from its pipe. Not listening says nothing."""
        return process == self._local.process or self._opened().hears(f"wake/{process}") is True

    def watch(self) -> Watch:
        """This process's watch, not started."""
        directory = self._opened()
        with self._local.lock:
            if self._watch is None:
                self._watch = Watch(directory, self._local.process, self._local.wake)
            return self._watch

    def at_exit(self) -> None:
        for store in self._stores.values():
            store.drop_spares()
        if self._watch is not None:
            self._watch.close()

    def close(self) -> None:
        """Leave nothing behind and nothing open; a lease that is still held is looked after by its path."""
        self.at_exit()
        self._close_pools()

    def forget(self) -> None:
        """In a fork's child."""
        for store in self._stores.values():
            store.forget_spares()
        if self._watch is not None:
            self._watch.forget()
        self._close_pools()

    def _close_pools(self) -> None:
        for store in self._stores.values():
            store.section.forget()
            store.directory.close()
        if self._directory is not None:
            self._directory.close()


class Local:
    """Everything of this process.

    :ivar process: the id under which others wake this process.
    :ivar waiters: for each queued ticket, what wakes its waiter.
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
        self.claims: set[Claim] = set()
        self._roots: dict[str, Root] = {}

    def root(self, path: str) -> Root:
        """The root at ``path``, its configuration up to date.

        :raises ConfigError, StoreError: when the configuration can't be used.
        """
        with self.lock:
            root = self._roots.get(path)
            if root is None:
                root = self._roots[path] = Root(self, path)
            else:
                root.refresh()
            return root

    def close(self, path: str) -> None:
        """Be done with the root at ``path``; a process that uses many would run out of descriptors."""
        with self.lock:
            root = self._roots.pop(path, None)
        if root is not None:
            root.close()

    def wake(self, names: bytes) -> None:
        """Wake the waiters of these tickets, one a line."""
        for name in names.decode("ascii", "replace").splitlines():
            waiter = self.waiters.get(name)
            if waiter is not None:
                waiter()

    def at_exit(self) -> None:
        """Leave nothing behind that somebody would have to sweep."""
        for root in self._roots.values():
            root.at_exit()

    def after_fork_in_child(self) -> None:
        """Let go of all that is the parent's.

        Close, never unlock: an OS lock belongs to the open description, which the parent shares. And do close: a copy
        of ``alive`` left open here would keep a dead parent's lease alive.
        """
        self.lock = threading.RLock()
        for claim in self.claims:
            fd, claim.fd = claim.fd, None
            if fd is not None:
                os.close(fd)
        for root in self._roots.values():
            root.forget()
        self._start()


def _is_there(store: Store) -> bool:
    try:
        here = store.directory.stat()
        there = os.stat(store.directory.path, follow_symlinks=False)
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _ask(store: Store, learning: Learning) -> None:
    with local.lock:  # a fork must copy no half-done import
        from leasecap._usage import ask  # few pools have somebody to ask

    ask(store, learning)


local = Local()
atexit.register(local.at_exit)

if hasattr(os, "register_at_fork"):
    # The lock is held across the fork, so that no descriptor is open and not yet known.
    os.register_at_fork(
        before=lambda: local.lock.acquire(),
        after_in_parent=lambda: local.lock.release(),
        after_in_child=lambda: local.after_fork_in_child(),
    )
