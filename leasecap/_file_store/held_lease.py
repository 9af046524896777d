"""A lease on disk, for the process that holds it."""

from __future__ import annotations

from functools import partial

from leasecap._liveness.max_hold import hold_of
from leasecap._log import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from leasecap._file_store.own_entry import Claim
    from leasecap._file_store.own_process import OwnProcess
    from leasecap._file_store.store import Store
    from leasecap._liveness.record import Record


class HeldLease:
    """See `_store.lease.HeldLease`."""

    def __init__(self, own: OwnProcess, root: str, store: Store, claim: Claim) -> None:
        self.pool = store.pool.name.text
        self.token = claim.entry.token
        self.place = root, store.pool.name.directory
        self.hold = hold_of(claim.record, claim.since)
        self._own = own
        self._store = store
        self._claim = claim

    @property
    def record(self) -> Record:
        return self._claim.record

    @property
    def granted(self) -> float:
        return self._claim.granted / 1e9

    def now(self) -> float:
        return self._store.effects.monotonic()

    def keep(self, lease: object, on_gone: Callable[[], None], on_dropped: Callable[[], None]) -> None:
        self._own.heartbeats.add(self._store, self._claim, on_gone)
        self._own.heartbeats.follow(self._claim, lease, on_dropped)

    def set_alarm(self, when: float, on_alarm: Callable[[], None]) -> None:
        self._own.heartbeats.set_alarm(self._claim, when, on_alarm)

    def release(self, *, hand_off: bool = True) -> bool:
        own, store, claim = self._own, self._store, self._claim
        own.heartbeats.remove(claim)
        try:
            was_held = store.release(claim, hand_off=hand_off)
        except OSError as error:
            where = store.directory.full(claim.name)
            tell(f"lease {self.token} of pool {self.pool!r} could not be released ({where}: {error}); trying on")
            own.heartbeats.add(store, claim, partial(own.claims.discard, claim), ending=True)
            return True
        own.claims.discard(claim)
        return was_held

    @property
    def owes(self) -> bool:
        return self._store.owes

    def hand_off(self) -> None:
        self._store.hand_off()

    def describe(self, **fields: Any) -> bool:
        try:
            self._store.entries.amend(self._claim, **fields)
        except FileNotFoundError:
            return False
        return True

    def let_go(self) -> None:
        self._own.heartbeats.remove(self._claim)
        self._own.claims.discard(self._claim)
        self._store.entries.close(self._claim)

    def give_away(self) -> bool | None:
        self._store.refresh()
        if not self._store.policy.force:
            return False
        try:
            self._store.end(self._claim.name)
        except OSError:
            return None  # it goes on to count
        return True

    def removed(self) -> str:
        return self._store.removed()

    def inheritable(self) -> int | None:
        self._claim.lent = True
        return self._claim.fd
