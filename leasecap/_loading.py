"""Imports that forks wait for, since a child must not copy one half done, of what imports ``logging``.

`logging` has a lock that a fork takes. Hooks run in the reverse order of their registration: registered after the lock
that forks of this process take anyway, it would be taken before that, and an import that holds ours would wait for a
fork that waits for ours. So there is a second lock, which is registered after both. A fork that had begun by then does
not take it, and waits for the first one: so an import holds both, in the order in which forks take them.
"""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager, nullcontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_lock: threading.Lock | None = None
_first: list[Callable[[], object]] = []


def first_at_fork(call: Callable[[], object]) -> None:
    """Have the call made at each fork before it takes any lock that a late import needs. It may be made twice."""
    if hasattr(os, "register_at_fork"):
        _first.append(call)
        os.register_at_fork(before=call)


@contextmanager
def loading(fork_lock: AbstractContextManager[object]) -> Iterator[None]:
    """Round such an import.

    :param fork_lock: the lock that forks take anyway; it must not be held.
    """
    with _late(fork_lock), fork_lock:
        yield


def _late(fork_lock: AbstractContextManager[object]) -> AbstractContextManager[object]:
    global _lock
    if not hasattr(os, "register_at_fork"):
        return nullcontext()
    if _lock is None:
        with fork_lock:
            import logging  # noqa: F401  # registers its own
        with fork_lock:  # a fork that waits for it now has begun without the new one: so it is held for a moment only
            if _lock is None:
                new = threading.Lock()
                take, give_back = _at_fork(new)
                reinit = new._at_fork_reinit  # type: ignore[attr-defined]
                os.register_at_fork(before=take, after_in_parent=give_back, after_in_child=reinit)
                for call in _first:
                    os.register_at_fork(before=call)
                _lock = new
    return _lock


def _at_fork(lock: threading.Lock) -> tuple[Callable[[], None], Callable[[], None]]:
    """What takes it before a fork, and gives it back. A fork that has begun by now hasn't taken it: what another thread
    holds isn't its to release."""
    taken = False

    def take() -> None:
        nonlocal taken
        lock.acquire()
        taken = True

    def give_back() -> None:
        nonlocal taken
        if taken:
            taken = False
            lock.release()

    return take, give_back
