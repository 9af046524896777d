"""Which leases this code runs under: a context variable inside a process, ``LEASECAP_LEASE`` across processes.

``LEASECAP_LEASE`` is a list like ``PATH``, innermost first, of ``root/pool/lease``; in place of a root there may be the
URL of a server. Entries of other roots and pools
are kept: a slot of pool A, under one of B, under one of A, must find the outer one.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    About: TypeAlias = Callable[[], tuple[str, float | None]]

ENVIRONMENT = "LEASECAP_LEASE"


class Reference(str):
    """An entry of the chain, which stands for a lease.

    :ivar ended: whether the lease has ended, or isn't this process's any more. Such an entry is passed over: a signal
        handler that raises between `enter` and the block, or a copied context, may keep it in the chain for ever.
    :ivar about: where this process holds the lease: says who that is, for people, and since when (boot clock; None if
        that isn't known).
    """

    ended = False
    about: About | None = None


_within: ContextVar[tuple[str, ...]] = ContextVar("leasecap_within", default=())


@lru_cache(maxsize=64)  # an acquire feels it; a root's own symlinks don't move under a process that has it open
def place(root: str, pool_directory: str) -> str:
    """The word for a pool.

    :param root: the path of the root, or the URL of a server, without a password.
    """
    if os.path.isabs(root) or "://" not in root:
        root = os.path.realpath(root)
    root = root.replace("%", "%25").replace(os.pathsep, "%3A")
    return f"{root}/{pool_directory}"


def reference(root: str, pool_directory: str, token: str) -> Reference:
    """The entry of the chain for a lease."""
    return Reference(f"{place(root, pool_directory)}/{token}")


def _entered() -> tuple[str, ...]:
    return tuple(entry for entry in _within.get() if not (isinstance(entry, Reference) and entry.ended))


def current() -> tuple[str, ...]:
    """All leases that this code runs under, innermost first."""
    return _entered() + tuple(filter(None, os.environ.get(ENVIRONMENT, "").split(os.pathsep)))


def tokens(root: str, pool_directory: str) -> tuple[str, ...]:
    """The tokens of the leases in one pool that this code runs under, innermost first."""
    chain = current()
    if not chain:
        return ()
    here = place(root, pool_directory)
    found = (entry.rpartition("/") for entry in chain)
    return tuple(dict.fromkeys(token for where, _, token in found if is_same_pool(where, here)))


def about(root: str, pool_directory: str) -> About | None:
    """See `Reference`: of the innermost lease in one pool that this code runs under, if this process holds one."""
    here = place(root, pool_directory)
    for entry in _entered():
        if isinstance(entry, Reference) and entry.about is not None and is_same_pool(entry.rpartition("/")[0], here):
            return entry.about
    return None


def is_same_pool(one: str, other: str) -> bool:
    """Whether two words for pools mean one, perhaps by different paths, as a bind mount makes them."""
    if one == other:
        return True
    root, _, pool_directory = one.rpartition("/")
    other_root, _, other_directory = other.rpartition("/")
    if pool_directory != other_directory:
        return False
    try:
        return os.path.samefile(_unquoted(root), _unquoted(other_root))
    except (OSError, ValueError):
        return False


def _unquoted(root: str) -> str:
    return root.replace("%3A", os.pathsep).replace("%25", "%")


def enter(entry: str) -> None:
    """From here on the code in this context runs under the lease."""
    _within.set((entry, *_entered()))


def leave(entry: str) -> None:
    """End `enter`. There is no reset token: a generator may be closed in another context than the one it began in."""
    _within.set(tuple(other for other in _entered() if other != entry))


@contextmanager
def running(entry: str) -> Iterator[None]:
    """The block runs under the lease."""
    try:
        enter(entry)
        yield
    finally:
        leave(entry)


def environment(entry: str) -> str:
    """``LEASECAP_LEASE`` for a subprocess that runs under the lease."""
    return os.pathsep.join(dict.fromkeys((entry, *current())))
