"""A lease that nobody refers to any more gives its slot back."""

from __future__ import annotations

from leasecap._log import log_warning_apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar
    from weakref import ref

    from leasecap._ancestry import Reference
    from leasecap._lease_event import LeaseEvent
    from leasecap._store.lease import HeldLease

    T = TypeVar("T")


def weakly(lease: ref[T], do: Callable[[T], None]) -> None:
    """Call ``do`` with the lease, if it is still there: what looks after it in the background must not keep it."""
    found = lease()
    if found is not None:
        do(found)


def take(right: list[HeldLease]) -> HeldLease | None:
    """The slot, if it is for the caller to give back: a finalizer in a collected cycle may release the lease too."""
    try:
        return right.pop()
    except IndexError:
        return None


def end_dropped(right: list[HeldLease], reference: Reference, lost: LeaseEvent) -> None:
    """In the heartbeat thread: nobody refers to the lease any more."""
    held = take(right)
    if held is None:
        return
    reference.ended = True
    held.release()
    lost._set()  # somebody may have kept that without the lease
    log_warning_apart(
        f"lease {held.token} of pool {held.pool!r} was dropped without a release, so its slot was "
        "given back: keep what acquire() returns for as long as the work takes, or use `with leasecap.slot(...)`"
    )
