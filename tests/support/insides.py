"""What a test may look at behind the library's face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leasecap._api import pool_store
from leasecap._file_store.file_store import FileStore

if TYPE_CHECKING:
    from leasecap import Lease
    from leasecap._acquire import Acquisition
    from leasecap._file_store.own_entry import OwnEntry
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


def own_entry_of(lease: Lease) -> OwnEntry:
    """Its entry."""
    held: Any = lease._held
    own_entry: OwnEntry = held._own_entry
    return own_entry


def store_of(lease: Lease) -> Store:
    """The parts of its pool."""
    held: Any = lease._held
    store: Store = held._store
    return store


def own_entry_in(acquisition: Acquisition) -> OwnEntry | None:
    """Its entry, if it has one now."""
    ticket: Any = acquisition._ticket
    own_entry: OwnEntry | None = ticket._own_entry
    return own_entry
