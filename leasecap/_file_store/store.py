"""A pool on disk, as its holders and waiters use it.

An entry is a directory, and where it stands is its state::

    staging/ ──publish──▶ queue/ ──grant──▶ granted/ ──acknowledge──▶ leases/
       │                    ▲                  │                        ▲
       │                 unpark ── parked/ ◀─ take back                 │
       └──────────── granted at once ───────────────────────────────────┘

and from anywhere to ``trash/``: release, withdraw, reap and revoke are all that one rename. It succeeds for exactly one
process, and can't hit a successor since the name holds a token. Grants, publications and take-backs are done inside the
critical section (`reconcile`); a release, an acknowledgement and a reap need none, since they never raise what is held.
"""

from __future__ import annotations

import math
import os
from functools import cached_property

from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE
from leasecap._errors import StoreError
from leasecap._file_store.layout import inode_of, stands_at
from leasecap._file_store.order import Order
from leasecap._file_store.reconcile import Settled
from leasecap._file_store.removal import tell_behind
from leasecap._file_store.sweep import Sweeper
from leasecap._log import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._config.config import PoolConfig
    from leasecap._decisions.entry import Entry
    from leasecap._file_store.lookout import Lookout
    from leasecap._file_store.own_entry import Claim


class Store(Settled):
    """One open pool, as one process uses it; its threads share it.

    :ivar lookout: what this process does about the queue while it waits there, once it has.
    :ivar owes: slots were released and not yet handed on.
    :ivar used: the higher, the later this process has asked for it.
    :ivar clear_up: removes what killed processes have left half-made; called now and then while somebody waits.
    :ivar force: whether the slots of those who hold them for too long are given away.
    """

    owes = False
    lookout: Lookout | None = None
    used = 0
    clear_up: Callable[[], None] | None = None
    force = False
    _told_lock = "auto"

    def configure(self, settings: PoolConfig) -> None:
        """Follow the configuration in all that it says of the pool; every change of config.toml calls this.

        Who holds or waits goes on by the ``max_hold`` and ``kill_after`` that it asked with. The kind of lock stays
        what the pool was made with, and that is told.
        """
        self.observer.stale_after, self.observer.heartbeat = settings.stale_after, settings.heartbeat
        self.force = settings.reclaim == "force"
        if self.learning is not None:
            self.learning.rules = settings.rules
        if self.limit is not None:
            self.configured = self.limit.configure(settings.limit)
        if settings.lock not in ("auto", self.pool.kind, self._told_lock):
            tell(
                f'config.toml says lock = "{settings.lock}", but the pool {self.pool.name.text!r} was made with '
                f'"{self.pool.kind}" and keeps it. To change it: when no agent uses the pool (`leasecap status`), '
                f"remove {self.directory.path}"
            )
        self._told_lock = settings.lock

    @property
    def is_limited(self) -> bool:
        """Whether the configuration gives the pool a limit; else declared ones alone do."""
        return self.configured is not None and not (self.limit is not None and self.limit.is_assumed)

    @property
    def rises_in(self) -> float:
        """Seconds until a higher limit is in force without anybody's doing; infinite if none is to come."""
        return math.inf if self.limit is None else self.limit.rises_in

    def removed(self) -> str:
        """Which directory of those that entries stand in was removed while this was open, for people; "" for none."""
        root, path = self.pool.root, self.directory.path
        try:
            if not os.path.isdir(root):
                return f"the root {root} was removed"
            if not stands_at(self.directory, path):
                return f"the pool's directory {path} was removed"
            if inode_of(self.directory, LEASES) is None:
                return f"the directory {self.directory.full(LEASES)} was removed"
        except OSError:
            pass  # can't be told
        return ""

    def repair(self) -> bool:
        """Make parts of the pool again that were removed; False: none was.

        :raises StoreError: when that would harm those who live in it.
        """
        from leasecap._file_store.repair import repair_open

        return repair_open(self.effects, self.pool)

    def can_begin_again(self, claim: Claim, error: OSError) -> bool:
        """Whether what failed with ``error`` is worth a try with another entry: what was in the way is put right.

        :raises OSError, StoreError: when it can't be.
        """
        if self.directory.renew():
            return True  # the program has closed all descriptors, in another thread
        return isinstance(error, FileNotFoundError) and (not self.stands(claim) or self.repair())

    def beat(self, claim: Claim) -> bool:
        """Write a heartbeat, and first the intervals if they have changed: others go by those in the record.

        Returns False if the entry is gone.

        :raises OSError: when it can't be written.
        """
        self.directory.renew()
        observer, record = self.observer, claim.record
        if (record.heartbeat, record.stale_after) != (observer.heartbeat, observer.stale_after):
            for where in (LEASES, QUEUE, GRANTED, PARKED):
                try:
                    self.amend(claim, where, heartbeat=observer.heartbeat, stale_after=observer.stale_after)
                except OSError:
                    continue  # it isn't there, or nothing can be written: then the old ones go on to hold
                break
        return super().beat(claim)

    @cached_property
    def _sweeper(self) -> Sweeper:
        return Sweeper(self)

    @cached_property
    def order(self) -> Order:
        """Gives calls their places in the queue."""
        return Order(self.effects, self.pool)

    def release(self, claim: Claim, *, hand_on: bool = True) -> bool:
        """End a lease and hand its slot on; False if it had been taken already.

        :param hand_on: else `owes` is set, and the caller sees to it.
        :raises OSError: when the lease can't be removed; it is still held then.
        """
        self.directory.renew()
        self._cool(claim.entry)
        kept = self.retire(claim)
        if kept is not None:
            self.owes = True
            if hand_on:
                self.hand_on()
        if not kept:
            self.close(claim)
            self.delete(claim.name)
        return kept is not None

    def finish(self, claim: Claim) -> None:
        """End the claim wherever it stands, and hand on what it kept from others.

        :raises OSError: when it can't be removed. To be tried again: while its process lives nobody else may.
        """
        self.directory.renew()
        where = self.drop(claim)
        if where == QUEUE:
            tell_behind(self, [claim.name])
        if where is not None:
            self.hand_on()

    def end(self, name: str) -> bool:
        """End the lease of that name, whoever holds it, and hand its slot on; False if it is no more.

        :raises OSError: when it can't be removed.
        """
        if not self.remove(LEASES, name):
            return False
        self.hand_on()  # before the clean-up: somebody waits
        self.delete(name)
        return True

    def _cool(self, entry: Entry) -> None:
        if self.learning is not None and self.learning.rules.cooldown:
            try:
                self.learning.files.cool(entry)
            except OSError:
                pass  # a full disk must not keep a slot for ever

    def hand_on(self) -> None:
        """Grant what was released to those who wait, if any; never raises."""
        self.owes = False  # first: what is released from now on may come too late for this
        try:
            # Who queues after this look was inside the section after our rename, or looks once more on its way out.
            # Where somebody waited when this process was last inside, the look would only be made twice.
            if self.others_wait or self.names(QUEUE):
                self.enter_and_settle()
        except (OSError, StoreError):
            pass  # the slot is free all the same; the first in the queue sweeps and grants it, or says what is wrong

    def withdraw(self, claim: Claim) -> bool:
        """Leave the queue; False if the ticket was granted meanwhile, and then it is a lease now."""
        if not self.remove(QUEUE, claim.name):
            if self.acknowledge(claim):
                return False
            self.remove(PARKED, claim.name)  # not there either: somebody took us for dead, and we're out all the same
        else:
            tell_behind(self, [claim.name])
        self.close(claim)
        self.delete(claim.name)
        if claim.entry.limit is not None:
            self.hand_on()  # the limit that it declared no longer holds
        return True

    def sweep(self, *, everything: bool = False) -> float:
        """`Sweeper.sweep`."""
        self.directory.renew()
        return self._sweeper.sweep(everything=everything)

    def declarer(self) -> tuple[int, int] | None:
        """`Sweeper.declarer`."""
        return self._sweeper.declarer()

    def stamp(self) -> bytes:
        """`Sweeper.stamp`."""
        return self._sweeper.stamp()

    def own_stamp(self) -> bytes:
        """`Sweeper.own_stamp`."""
        return self._sweeper.own_stamp
