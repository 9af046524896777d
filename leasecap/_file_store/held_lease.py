"""A lease on disk, for the process that holds it."""

from __future__ import annotations

from functools import partial

from leasecap._liveness.max_hold import hold_of
from leasecap._log import log_warning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._file_store.own_process import OwnProcess
    from leasecap._file_store.store import Store
    from leasecap._liveness.record import Record


class HeldLease:
    """See `_store.lease.HeldLease`."""

    def __init__(self, own: OwnProcess, root: str, store: Store, own_entry: OwnEntry) -> None:
        self.pool = store.pool.name.text
        self.token = own_entry.entry.token
        self.place = root, store.pool.name.directory
        self.hold = hold_of(own_entry.record, own_entry.since)
        self._own = own
        self._store = store
        self._own_entry = own_entry

    @property
    def record(self) -> Record:
        return self._own_entry.record

    @property
    def granted(self) -> float:
        return self._own_entry.granted / 1e9

    def now(self) -> float:
        return self._store.effects.monotonic()

    def keep(self, lease: object, on_gone: Callable[[], None], on_dropped: Callable[[], None]) -> None:
        self._own.heartbeats.add(self._store, self._own_entry, on_gone)
        self._own.heartbeats.follow(self._own_entry, lease, on_dropped)

    def set_alarm(self, when: float, on_alarm: Callable[[], None]) -> None:
        self._own.heartbeats.set_alarm(self._own_entry, when, on_alarm)

    def release(self, *, hand_off: bool = True) -> bool:
        own, store, own_entry = self._own, self._store, self._own_entry
        own.heartbeats.remove(own_entry)
        try:
            was_held = store.release(own_entry, hand_off=hand_off)
        except OSError as error:
            where = store.directory.full(own_entry.name)
            log_warning(f"lease {self.token} of pool {self.pool!r} could not be released ({where}: {error}); trying on")
            own.heartbeats.add(store, own_entry, partial(own.own_entries.discard, own_entry), ending=True)
            return True
        own.own_entries.discard(own_entry)
        return was_held

    @property
    def owes(self) -> bool:
        return self._store.owes

    def hand_off(self) -> None:
        self._store.hand_off()

    def describe(self, **fields: Any) -> bool:
        try:
            self._store.entries.amend(self._own_entry, **fields)
        except FileNotFoundError:
            return False
        return True

    def note_answer(self) -> None:
        self._store.entries.note_answer(self._own_entry)

    def let_go(self) -> None:
        self._own.heartbeats.remove(self._own_entry)
        self._own.own_entries.discard(self._own_entry)
        self._store.entries.close(self._own_entry)

    def watch_doubt(self, on_doubt: Callable[[], None]) -> None:
        pass  # who holds here is never in doubt of it

    def ends_in(self) -> float | None:
        return None

    def give_away(self) -> bool | None:
        self._store.refresh()
        if not self._store.policy.force:
            return False
        try:
            self._store.end(self._own_entry.name)
        except OSError:
            return None  # the lease goes on to count
        return True

    def removed(self) -> str:
        return self._store.removed()

    def inheritable(self) -> int | None:
        self._own_entry.lent = True
        return self._own_entry.fd
