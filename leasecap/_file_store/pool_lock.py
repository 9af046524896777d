"""Which of the two locks a pool has."""

from __future__ import annotations

from leasecap._file_store.layout import inode_of
from leasecap._file_store.lock_directory import LockDirectory
from leasecap._file_store.os_lock import OsLock
from leasecap._file_store.self_record import describe_self
from leasecap._liveness.record import encode_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.layout import Pool
    from leasecap._file_store.observer import Observer
    from leasecap._file_store.section import Section
    from leasecap._file_store.thefts import Thefts
    from leasecap._host.effects import Effects

    Inode = tuple[int, int]  # device and number


def pool_lock(effects: Effects, pool: Pool, observer: Observer, thefts: Thefts) -> Section:
    """The lock of this pool; it isn't taken."""

    def assure(lock: Inode | None = None) -> bool:
        if pool.description is None:
            return True
        described = pool.description == inode_of(pool.directory, "pool.json")
        if described and (lock is None or lock == inode_of(pool.directory, "lock")):
            return True
        from leasecap._file_store.repair import assure as assure_all

        return assure_all(pool, lock)

    if pool.kind == "os":
        return OsLock(effects, pool.directory, assure)

    def record() -> bytes:
        return encode_record(describe_self(effects, pool, observer, label="pool lock"))

    def is_dead(path: str) -> bool:
        return not observer.judge_record(path).alive

    return LockDirectory(effects, pool.directory, record, is_dead, thefts.adopt, assure)
