"""Giving a lease's slot back, for who releases it and for who finds that nobody refers to it any more."""

from __future__ import annotations

from leasecap._log import tell, tell_apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _weakref import ref
    from collections.abc import Callable

    from leasecap._ancestry import Reference
    from leasecap._file_store.own_entry import Claim
    from leasecap._file_store.own_process import OwnProcess
    from leasecap._file_store.store import Store
    from leasecap._lease import Lease
    from leasecap._lease_event import Sign


def weakly(lease: ref[Lease], do: Callable[[Lease], None]) -> None:
    """For who looks after a lease in the background, and must not keep it."""
    found = lease()
    if found is not None:
        do(found)


def take(right: list[Claim]) -> bool:
    """Whether the slot is the caller's to give back. In a cycle that is collected the lease may be released as well."""
    try:
        right.pop()
    except IndexError:
        return False
    return True


def end(own: OwnProcess, store: Store, claim: Claim, *, hand_off: bool = True) -> bool:
    """Give the slot of ``claim`` back; False: it had been taken already."""
    own.heartbeats.remove(claim)
    try:
        was_held = store.release(claim, hand_off=hand_off)
    except OSError as error:
        where, token = store.directory.full(claim.name), claim.entry.token
        tell(f"lease {token} of pool {store.pool.name.text!r} could not be released ({where}: {error}); trying on")
        claims = own.claims
        own.heartbeats.add(store, claim, lambda: claims.discard(claim), ending=True)
        return True
    own.claims.discard(claim)
    return was_held


def end_dropped(
    own: OwnProcess, store: Store, claim: Claim, right: list[Claim], reference: Reference, lost: Sign
) -> None:
    """In the heartbeat thread: nobody refers to the lease any more."""
    if not take(right):
        return
    reference.ended = True
    end(own, store, claim)
    lost._set()  # for who kept that alone
    tell_apart(
        f"lease {claim.entry.token} of pool {store.pool.name.text!r} was dropped without a release, so its slot was "
        "given back: keep what acquire() returns for as long as the work takes, or use `with leasecap.slot(...)`"
    )
