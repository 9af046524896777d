"""The pools of one root that this process has open, no more than it has descriptors for.

Each pool takes two descriptors, and one for each spare. A pool is unused when this process has no lease and no ticket
in it, and owes it no slot. When the unused ones take too many descriptors, the least recently used are closed first; a
pool that is used again is opened again. All of this is done under the lock that forks wait for.
"""

from __future__ import annotations

import errno
import os

from leasecap._errors import StoreError
from leasecap._file_store.entries import MOST_SPARES
from leasecap._file_store.layout import pool_path, stands_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._config.config import PoolConfig
    from leasecap._file_store.store import Store

_MOST_DESCRIPTORS = 128
"""Descriptors for pools that are not in use, or an eighth of what the process may have, if that is less: it needs the
others for its work. Spares may take half of them, but each pool may have one."""


class OpenPools:
    """The pools that are open, and those that were replaced and are not closed yet."""

    def __init__(self, make: Callable[[PoolConfig], Store], used: Callable[[], set[object]]) -> None:
        """
        :param make: opens a pool.
        :param used: the pools in which this process has anything.
        """
        self._make = make
        self._used = used
        self._stores: dict[str, Store] = {}
        self._replaced: list[Store] = []  # their directories were removed, or moved away
        self._counts: dict[str, Callable[[], int]] = {}  # what `set_usage` was given for those that were closed
        self._uses = 0

    def get(self, root: str, pool: PoolConfig) -> Store:
        """The open pool; if its directory was removed meanwhile, the pool is made again."""
        directory = pool.name.directory
        store = self._stores.get(directory)
        if store is not None and not _is_there(root, store):
            self._forget(store)
            self._replaced.append(store)
            store = None
        if store is None:
            store = self._stores[directory] = self._open(pool)
            most = _most_descriptors() // 2 // len(self._stores)
            for each in self._stores.values():
                each.entries.most_spares = max(1, min(MOST_SPARES, most))
        self._uses = store.used = self._uses + 1
        return store

    def _open(self, pool: PoolConfig) -> Store:
        self._close_unused(_most_descriptors())
        try:
            store = self._make(pool)
        except StoreError as error:
            full = isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.EMFILE, errno.ENFILE)
            if not (full and self._close_unused(0)):
                raise
            store = self._make(pool)
        if store.feedback is not None:
            store.feedback.terms.count = self._counts.pop(pool.name.directory, None)
        return store

    def _close_unused(self, most: int) -> bool:
        """Close what was replaced, and unused pools until those left take ``most`` descriptors at most.

        Returns whether anything was closed.
        """
        if not self._replaced and sum(store.entries.descriptors for store in self._stores.values()) <= most:
            return False
        used = self._used()
        unused = [store for store in self.all() if store.entries not in used and not store.owes]
        closed = [store for store in unused if store in self._replaced]
        unused = sorted((store for store in unused if store not in closed), key=lambda store: store.used)
        taken = sum(store.entries.descriptors for store in unused)
        for store in unused:
            if taken <= most:
                break
            taken -= store.entries.descriptors
            closed.append(store)
        done = [self._close(store) for store in closed]
        return any(done)

    def _close(self, store: Store) -> bool:
        """Returns False if a thread is inside its section, as may be after the last of its entries has left."""
        if not store.section.retire():
            return False
        if store in self._replaced:
            self._replaced.remove(store)
        else:
            self._forget(store)
        store.entries.drop_spares()
        store.directory.close()
        return True

    def _forget(self, store: Store) -> None:
        directory = store.pool.name.directory
        del self._stores[directory]
        if store.feedback is not None and store.feedback.terms.count is not None:
            self._counts[directory] = store.feedback.terms.count

    def all(self) -> list[Store]:
        """All open pools, including those that were replaced and are not closed yet."""
        return [*self._stores.values(), *self._replaced]

    def close(self) -> None:
        """Close all pools, used or not."""
        for store in self.all():
            store.section.forget()
            if store.latency is not None:
                store.latency.forget()
            store.directory.close()


def _is_there(root: str, store: Store) -> bool:
    path = store.directory.path if root == store.pool.root else pool_path(root, store.pool.name)
    try:
        store.directory.renew()
        return stands_at(store.directory, path)
    except OSError:
        return False


def _most_descriptors() -> int:
    may_have = os.sysconf("SC_OPEN_MAX") if hasattr(os, "sysconf") else -1
    return _MOST_DESCRIPTORS if may_have < 0 else min(_MOST_DESCRIPTORS, may_have // 8)
