"""What a test may look at behind the library's face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leasecap._api import pool_store
from leasecap._file_store.file_store import FileStore

if TYPE_CHECKING:
    from leasecap import Lease
    from leasecap._acquire import Acquisition
    from leasecap._file_store.own_entry import Claim
    from leasecap._file_store.store import Store


def file_store(pool: str) -> Store:
    """The parts of the open pool of that name."""
    face: Any = pool_store(pool)
    store: Store = face.store
    return store


def face_of(store: Store) -> FileStore:
    """The face of these parts, for what asks nothing of a root."""
    nothing: Any = None
    return FileStore(nothing, nothing, store)


def claim_of(lease: Lease) -> Claim:
    """Its entry."""
    held: Any = lease._held
    claim: Claim = held._claim
    return claim


def store_of(lease: Lease) -> Store:
    """The parts of its pool."""
    held: Any = lease._held
    store: Store = held._store
    return store


def claim_in(acquisition: Acquisition) -> Claim | None:
    """Its entry, if it has one now."""
    ticket: Any = acquisition._ticket
    claim: Claim | None = ticket._claim
    return claim
