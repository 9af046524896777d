"""The roots that this process uses, by each spelling of their paths."""

from __future__ import annotations

from leasecap._file_store.open_root import OpenRoot, inode_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._file_store.open_root import Inode
    from leasecap._file_store.own_process import OwnProcess
    from leasecap._file_store.store import Store


class OpenRoots:
    """The roots that this process uses. One directory is one root, however it is spelled."""

    def __init__(self, own: OwnProcess, ask: Callable[[OpenRoot, Store], None]) -> None:
        """:param ask: asks a pool's provider how many requests it counts, in the background."""
        self._own = own
        self._ask = ask
        self.forget()

    def forget(self) -> None:
        """Let go of all of them."""
        self._roots: dict[str, OpenRoot] = {}
        self._removed: list[OpenRoot] = []  # whose path has another directory now, or none

    def at(self, path: str) -> OpenRoot:
        """The root at ``path``, its configuration up to date.

        :raises ConfigError, StoreError: when the configuration can't be used.
        """
        with self._own.lock:
            known = self._roots.get(path)
            inode = inode_of(path, known)
            root = known if known is not None and known.inode == inode else self._another(path, inode, known)
            root.spell(path)
            root.refresh()
            if self._removed:
                self._close_removed()
            return root

    def _another(self, path: str, inode: Inode | None, known: OpenRoot | None) -> OpenRoot:
        """The root at ``path``, which isn't the ``known`` one, or isn't any more."""
        same = [root for root in self._roots.values() if root.inode == inode is not None]
        if known is not None and known.inode is None and not same:
            known.inode = inode  # the root was made since
            return known
        root = self._roots[path] = same[0] if same else OpenRoot(self._own, path, inode, self._ask)
        if known is not None and known not in self._roots.values():
            self._removed.append(known)
        return root

    def _close_removed(self) -> None:
        for root in [root for root in self._removed if not root.is_used()]:
            self._removed.remove(root)
            root.close()

    def still(self, root: OpenRoot) -> OpenRoot:
        """``root``, or the root that stands in its place now. A fork's child gets one of its own."""
        with self._own.lock:
            return root if root in self._roots.values() else self.at(root.path)

    def close(self, path: str) -> None:
        """Close the root at ``path``: a process that uses many would run out of descriptors."""
        with self._own.lock:
            root = self._roots.get(path)
            self._roots = {spelling: other for spelling, other in self._roots.items() if other is not root}
        if root is not None:
            root.close()

    def all(self) -> set[OpenRoot]:
        """Each one, once, with those that were removed while they were in use."""
        return {*self._roots.values(), *self._removed}
