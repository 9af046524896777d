"""A pool's entries, who holds them, and its critical section; and what a section that was stolen has granted.

Only a lock directory can be stolen. What is granted inside one carries the section's token, so that grants which the
robbed holder makes later, not knowing, are told from those that count.
"""

from __future__ import annotations

from leasecap._decisions.places import GRANTED, LEASES, STOLEN
from leasecap._file_store.entries import Entries
from leasecap._file_store.layout import inode_of
from leasecap._file_store.lock_directory import LockDirectory
from leasecap._file_store.observer import Observer
from leasecap._file_store.os_lock import OsLock
from leasecap._file_store.self_record import describe_self
from leasecap._liveness.record import encode_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._file_store.layout import Pool
    from leasecap._host.effects import Effects

HELD = (GRANTED, LEASES)


class Guarded(Entries):
    """The entries of one pool with its critical section.

    :ivar section: what is entered for a while, by one process at a time.
    :ivar observer: who of the others lives, as this process sees it.
    """

    def __init__(self, effects: Effects, pool: Pool, *, stale_after: float, heartbeat: float) -> None:
        super().__init__(effects, pool)
        self.observer = Observer(effects, pool, stale_after=stale_after, heartbeat=heartbeat)
        if pool.kind == "os":
            self.section: OsLock | LockDirectory = OsLock(effects, pool.directory, self._assure)
        else:
            self.section = LockDirectory(
                effects, pool.directory, self._section_record, self._is_dead, self._adopt, self._assure
            )

    def _assure(self, lock: tuple[int, int] | None = None) -> bool:
        """`repair.assure`."""
        pool = self.pool
        if pool.description is None:
            return True
        described = pool.description == inode_of(pool.directory, "pool.json")
        if described and (lock is None or lock == inode_of(pool.directory, "lock")):
            return True
        from leasecap._file_store.repair import assure

        return assure(pool, lock)

    def _section_record(self) -> bytes:
        return encode_record(describe_self(self.effects, self.pool, self.observer, label="pool lock"))

    def _is_dead(self, path: str) -> bool:
        return not self.observer.judge_record(path).alive

    def _sign(self, path: str) -> None:
        """Write into the entry which section granted it; only a section that can be stolen has a token."""
        if self.section.token:
            self.directory.replace(f"{path}/by", self.section.token.encode())

    def _suspects(self, snapshot: Snapshot, stuck: set[str]) -> frozenset[str]:
        stolen = {name.partition(".")[0] for name in self.directory.list(STOLEN)}
        if not stolen:
            return frozenset()
        held = [(GRANTED, entry) for entry in snapshot.granted if entry.name not in stuck] + [
            (LEASES, entry) for entry in snapshot.leases
        ]
        return frozenset(entry.name for where, entry in held if self._signed_by(where, entry.name) in stolen)

    def _signed_by(self, where: str, name: str) -> str:
        try:
            return self.directory.read(f"{where}/{name}/by", 64).decode("ascii", "replace")
        except OSError:
            return ""

    def _adopt(self) -> None:
        """Inside a section entered after a theft: vouch for what the robbed section has granted until now."""
        for where in HELD:
            for name in self.directory.list(where):
                if self._signed_by(where, name):
                    try:
                        self._sign(f"{where}/{name}")
                    except FileNotFoundError:
                        continue  # acknowledged or released meanwhile

    def _robbed_grants_beside(self, counted: set[str]) -> bool:
        """Whether, after a theft, something is held that we didn't count: the robbed holder granted it beside us.

        It finds out, but its attempt to enter failed while we were inside.
        """
        if self.pool.kind == "os" or not self.directory.list(STOLEN):
            return False
        return not {name for where in HELD for name in self.directory.list(where)} <= counted
