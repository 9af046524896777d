"""What this process has open, shared by all its threads, tasks and event loops; a fork's child starts with nothing."""

from __future__ import annotations

import atexit
import os
import threading
from functools import partial

from leasecap import _config, _process
from leasecap._effects import Effects
from leasecap._errors import ConfigError, StoreError
from leasecap._faults import faults
from leasecap._heartbeat import Heartbeats
from leasecap._learning import Learning
from leasecap._marks import QUESTION, Marks
from leasecap._pool import open_pool, pool_path
from leasecap._store import Store
from leasecap._watch import NOTICE, WAKEUP, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from leasecap._config import Config, PoolConfig
    from leasecap._effects import Directory
    from leasecap._entries import Claim
    from leasecap._lookout import Lookout
    from leasecap._names import PoolName


_MOST_REMEMBERED = 256


class Root:
    """One root, as this process uses it.

    :ivar config: the last good configuration.
    """

    def __init__(self, local: Local, path: str) -> None:
        self.path = path
        self._local = local
        self._signature, self.config = self._load()
        self._stores: dict[str, Store] = {}
        self._lookouts: dict[str, Lookout] = {}
        self.marks = Marks(self._opened)
        self._pools: dict[str, PoolConfig] = {}
        self._directory: Directory | None = None
        self._watch: Watch | None = None

    def _load(self) -> tuple[tuple[int, ...], Config]:
        # The signature first: an edit in between is then seen as a change at the next look.
        signature = _config.signature(_config.path_of(self.path))
        return signature, _config.load(self.path)

    def refresh(self) -> bool:
        """Read ``config.toml`` again if it has changed; returns whether it has. The last good one stays on an error.

        :raises ConfigError, StoreError: as `_config.load`.
        """
        if _config.signature(self.config.path) == self._signature:
            return False
        self._signature, self.config = self._load()
        self._pools = {}
        for store in list(self._stores.values()):  # another thread may be opening one
            settings = self.config.pool(store.pool.name.text)
            store.configured = settings.limit or store.configured
            if store.learning is not None:
                store.learning.rules = settings.rules
            store.force = settings.reclaim == "force"
        return True

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
                self._local.heartbeats.prepare()
                learning = Learning(self._local, opened, pool.rules)
                with faults(opened.directory.path):  # the first to write: the root may be read-only
                    store = self._stores[pool.name.directory] = Store(
                        self._local.effects,
                        opened,
                        configured=pool.limit,
                        stale_after=pool.stale_after,
                        heartbeat=pool.heartbeat,
                        waker=self.wake,
                        notify=self.notify,
                        listens=self.listens,
                        marks=self.marks,
                        refresh=self._keep_up,
                        learning=learning,
                    )
                store.ask = partial(_ask, store, learning)
            store.configured = pool.limit
            store.force = pool.reclaim == "force"
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
        line = f"{name}\n".encode("ascii", "replace")
        if process == self._local.process:
            self._local.wake(line)
            return
        try:
            self._opened().ring(f"wake/{process}/{WAKEUP}", line)
        except OSError:
            pass  # it doesn't listen: it looks by itself

    def notify(self, process: str, name: str) -> None:
        """Have the process look who stands ahead of it, in the queue in which ``name`` stands. A hint as well."""
        self.wake(process, NOTICE + name)

    def listens(self, process: str) -> bool:
        """Whether the process surely lives, since it reads from its pipe. Not listening says nothing."""
        return process == self._local.process or self._opened().hears(f"wake/{process}/{WAKEUP}") is True

    def lookout(self, store: Store) -> Lookout:
        """This process's look-out over the store's queue."""
        watch = self.watch()
        with self._local.lock:  # a fork must copy no half-done import; most acquires never wait
            from leasecap._lookout import Lookout

            place = store.pool.name.directory
            lookout = self._lookouts.get(place)
            if lookout is None or lookout.store is not store:
                lookout = self._lookouts[place] = Lookout(self._local, store, watch, self._answer)
        return lookout

    def _answer(self) -> None:
        if self._watch is not None and self._watch.has_changed() and self.marks.answer(self._local.process):
            for lookout in tuple(self._lookouts.values()):
                lookout.come_back()

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
        """Do what these lines say: wake a ticket's waiter, have its process look, or answer a question."""
        for line in names.decode("ascii", "replace").splitlines():
            if line == QUESTION:
                for lookout in set(self.lookouts.values()):
                    lookout.ask()
            elif line.startswith(NOTICE):
                found = self.lookouts.get(line[len(NOTICE) :])
                if found is not None:
                    found.notify()
            else:
                self.wake_tickets([line])

    def wake_tickets(self, names: Iterable[str]) -> None:
        """Wake the waiters of these tickets."""
        for name in names:
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
        self.lock._at_fork_reinit()  # type: ignore[attr-defined]  # the fork hooks go on to take this one
        _process.forget()
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
        # Not in a lambda, where a signal handler that raises could keep the lock from being given back.
        before=local.lock.acquire,
        after_in_parent=local.lock.release,
        after_in_child=local.after_fork_in_child,
    )
