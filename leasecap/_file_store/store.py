"""A pool on disk, as its holders and waiters use it.

An entry is a directory, and where it stands is its state::

    staging/ ──publish──▶ queue/ ──grant──▶ granted/ ──acknowledge──▶ leases/
       │                    ▲                  │                        ▲
       │                 unpark ── parked/ ◀─ take back                 │
       └──────────── granted at once ───────────────────────────────────┘

and from anywhere to ``trash/``: to release, withdraw, reap or revoke an entry is that one rename. It succeeds for
exactly one process, and can't hit a successor, since the name holds a token. Grants, publications and take-backs are
made inside the critical section (`reconcile`). A release, an acknowledgement and a reap don't need it: they never raise
the load.
"""

from __future__ import annotations

import os
from functools import partial

from leasecap._decisions.entry import parse_entry
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE
from leasecap._decisions.polling import SWEEP_EVERY
from leasecap._errors import StoreError
from leasecap._file_store.entries import Entries
from leasecap._file_store.layout import inode_of, stands_at
from leasecap._file_store.observer import Observer
from leasecap._file_store.order import Order
from leasecap._file_store.peers import Peers
from leasecap._file_store.policy import Policy
from leasecap._file_store.pool_lock import pool_lock
from leasecap._file_store.reconcile import Reconciler
from leasecap._file_store.removal import notify_behind
from leasecap._file_store.snapshots import Snapshots
from leasecap._file_store.sweep import Sweeper
from leasecap._file_store.thefts import Thefts
from leasecap._log import log_warning_apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._config.config import PoolConfig
    from leasecap._decisions.entry import Entry
    from leasecap._feedback.state import State
    from leasecap._file_store.entries import InBackground
    from leasecap._file_store.feedback import Feedback
    from leasecap._file_store.latency_files import LatencyFiles
    from leasecap._file_store.layout import Pool
    from leasecap._file_store.limit_in_force import LimitInForce
    from leasecap._file_store.marks import Marks
    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._host.effects import Effects


def _nothing(*_: object) -> None:
    pass


def _never(_call: Callable[[], object]) -> bool:
    return False


class Store:
    """One open pool. The threads of a process share it.

    :ivar entries, observer, peers, section, snapshots, reconciler, sweeper, policy, order: its parts.
    :ivar ask: asks the provider how many requests it counts, in the background.
    :ivar owes: whether slots were released and not yet handed off.
    :ivar used: a number that rises with each use of the pool.
    :ivar latency: how long requests took, once that was noted here.
    """

    owes = False
    used = 0
    latency: LatencyFiles | None = None
    _warned_of_lock = "auto"

    def __init__(
        self,
        effects: Effects,
        pool: Pool,
        *,
        configured: int | None,
        stale_after: float,
        heartbeat: float,
        waker: Callable[[str, str], None],
        notify: Callable[[str, str], None] | None = None,
        listens: Callable[[str], bool] = lambda process: False,
        marks: Marks | None = None,
        refresh: Callable[[], None] = _nothing,
        limit: LimitInForce | None = None,
        feedback: Feedback | None = None,
        ask: Callable[[Store], None] = _nothing,
        clear_up: Callable[[Store], None] = _nothing,
        in_background: InBackground = _never,
    ) -> None:
        """
        :param waker, notify: see `Reconciler`.
        :param listens: whether a process has its wake-up open, and so surely lives.
        :param marks: the marks of processes that don't answer.
        :param refresh: has the pool follow the configuration if that has changed; never raises.
        :param feedback: what the provider has answered; None leaves feedback out.
        :param ask: asks the provider how many requests it counts, in the background.
        :param clear_up: removes what killed processes have left half-made; called now and then while somebody waits.
        :param in_background: see `Entries`.
        """
        self.effects = effects
        self.pool = pool
        self.directory = pool.directory
        self.refresh = refresh
        self.ask = partial(ask, self)
        self.feedback = feedback
        self.entries = Entries(effects, pool, in_background)
        self.observer = Observer(effects, pool, stale_after=stale_after, heartbeat=heartbeat)
        self.order = Order(effects, pool)
        self.policy = Policy(configured, limit)
        self.peers = Peers(effects, self.observer, listens, marks.is_deaf if marks else lambda process: False)
        self.snapshots = Snapshots(self.entries, self.peers, self.policy, feedback)
        thefts = Thefts(pool.directory)
        self.section = pool_lock(effects, pool, self.observer, thefts)
        self.reconciler = Reconciler(
            self.entries,
            self.section,
            thefts,
            self.peers,
            self.snapshots,
            self.policy,
            waker=waker,
            notify=notify or waker,
            refresh=refresh,
        )
        self.sweeper = Sweeper(
            self.entries,
            self.observer,
            self.peers,
            self.snapshots,
            self.reconciler,
            self.policy,
            marks=marks,
            ask=self.ask,
            clear_up=lambda: clear_up(self),
        )

    def configure(self, settings: PoolConfig) -> None:
        """Follow the configuration in all that it says of the pool; every change of config.toml calls this.

        A lease or ticket keeps the ``max_hold`` and ``kill_after`` that it was asked for with. The kind of lock stays
        what the pool was made with, and a warning says that.
        """
        self.observer.stale_after, self.observer.heartbeat = settings.stale_after, settings.heartbeat
        self.policy.configure(settings)
        if self.feedback is not None:
            self.feedback.terms.rules = settings.rules
        if settings.lock not in ("auto", self.pool.kind, self._warned_of_lock):
            log_warning_apart(
                f'config.toml says lock = "{settings.lock}", but the pool {self.pool.name.text!r} was made with '
                f'"{self.pool.kind}" and keeps it. To change it: when no agent uses the pool (`leasecap status`), '
                f"remove {self.directory.path}"
            )
        self._warned_of_lock = settings.lock

    # -- entries of this process ------------------------------------------------------------------------------------

    def removed(self) -> str:
        """Which of the directories of entries was removed while the pool was open, for people; "" if none was."""
        root, path = self.pool.root, self.directory.path
        try:
            if not os.path.isdir(root):
                return f"the root {root} was removed"
            if not stands_at(self.directory, path):
                return f"the pool's directory {path} was removed"
            if inode_of(self.directory, LEASES) is None:
                return f"the directory {self.directory.full(LEASES)} was removed"
        except OSError:
            pass  # that can't be told
        return ""

    def repair(self) -> bool:
        """Make parts of the pool again that were removed; False: none is missing.

        :raises StoreError: when that would harm those who live in it.
        """
        from leasecap._file_store.repair import repair_open

        return repair_open(self.effects, self.pool)

    def can_begin_again(self, own_entry: OwnEntry, error: OSError) -> bool:
        """Put right what made a step fail with ``error``; returns whether it is worth a try with another entry.

        :raises OSError, StoreError: when it can't be put right.
        """
        if self.directory.renew():
            return True  # the program has closed all descriptors, in another thread
        return isinstance(error, FileNotFoundError) and (not self.entries.stands(own_entry) or self.repair())

    def beat(self, own_entry: OwnEntry) -> bool:
        """Write a heartbeat. If the intervals have changed they are written first, since others go by the record's.

        Returns False if the entry is gone.

        :raises OSError: when it can't be written.
        """
        self.directory.renew()
        observer, record = self.observer, own_entry.record
        if (record.heartbeat, record.stale_after) != (observer.heartbeat, observer.stale_after):
            for where in (LEASES, QUEUE, GRANTED, PARKED):
                try:
                    self.entries.amend(own_entry, where, heartbeat=observer.heartbeat, stale_after=observer.stale_after)
                except OSError:
                    continue  # the entry isn't there, or nothing can be written: then the old intervals go on to hold
                break
        return self.entries.beat(own_entry)

    def release(self, own_entry: OwnEntry, *, hand_off: bool = True) -> bool:
        """End a lease and hand its slot off; False if it had been taken already.

        :param hand_off: if False, `owes` is set and the caller hands off later.
        :raises OSError: when the lease can't be removed; it is still held then.
        """
        self.directory.renew()
        self._cool(own_entry.entry)
        kept = self.entries.retire(own_entry)
        if kept is not None:
            self.owes = True
            if hand_off:
                self.hand_off()
        if not kept:
            self.entries.close(own_entry)
            self.entries.delete(own_entry.name)
        return kept is not None

    def _cool(self, entry: Entry) -> None:
        if self.feedback is None:
            return
        self.refresh()  # what this holder has read may be a heartbeat old
        if self.feedback.terms.rules.cooldown:
            try:
                self.feedback.files.cool(entry)
            except OSError:
                pass  # a full disk must not keep a slot for ever

    def hand_off(self, *, undeclared: bool = False) -> None:
        """Grant what was released to those who wait, if any; never raises.

        :param undeclared: one that waited has gone, which declared a limit. More may be allowed now, or another one's
            declaration hold from now on, whose process the first two have to watch.
        """
        self.owes = False  # set first: a slot that is released from now on may come too late for this hand-off
        try:
            # A process that queues after this look was inside the section after the rename, or looks again on its way
            # out. If somebody waited when this process was last inside, the queue isn't looked at here: inside it will
            # be.
            waits = self.reconciler.others_wait or bool(self.entries.names(QUEUE))
            if waits and (not self.reconciler.transact() or undeclared):
                # Whoever is inside is relied on, and may be killed there; or they have to watch another process.
                self._have_the_first_look()
        except (OSError, StoreError):
            pass  # the slot is free all the same; the first in the queue sweeps and grants it, or raises what is wrong

    def _have_the_first_look(self) -> None:
        """Notify the first two processes that run, unless they were notified within a sweep's period: neither of them
        rests before it has swept once more after that (`Lookout`).
        """
        now = self.effects.monotonic()
        if not self.effects.others_see_exits or now < self.reconciler.noticed_at + SWEEP_EVERY:
            return
        looked: set[str] = set()
        running = 0
        for ticket in map(parse_entry, sorted(self.entries.names(QUEUE))):
            if not ticket.token or ticket.process in looked:
                continue
            seen = self.peers.look(ticket)
            if seen != "dead":
                looked.add(ticket.process)
            if seen == "runs":
                self.reconciler.notify(ticket.process, ticket.name)
                self.reconciler.noticed_at = now
                running += 1
                if running == 2:
                    break

    def withdraw(self, own_entry: OwnEntry) -> bool:
        """Leave the queue; False if the ticket was granted meanwhile, and then it is a lease now."""
        entries = self.entries
        if not entries.remove(QUEUE, own_entry.name):
            if entries.acknowledge(own_entry):
                return False
            # If it isn't there either, somebody took this process for dead, and it is out all the same.
            entries.remove(PARKED, own_entry.name)
        else:
            self.notify_behind(own_entry.name)
        entries.close(own_entry)
        entries.delete(own_entry.name)
        if own_entry.entry.limit is not None:
            self.hand_off(undeclared=True)
        return True

    def finish(self, own_entry: OwnEntry) -> None:
        """End the entry wherever it stands, and hand off what it kept from others.

        :raises OSError: when it can't be removed. Try again then: while this process lives nobody else may remove it.
        """
        self.directory.renew()
        where = self.entries.drop(own_entry)
        if where == QUEUE:
            self.notify_behind(own_entry.name)
        if where is not None:
            self.hand_off(undeclared=own_entry.entry.limit is not None)

    def update_feedback(self, change: Callable[[State, float], State], *, anew: bool = False) -> bool:
        """Try once to enter, change the feedback's state, and reconcile; False: another process is inside.

        :param change: is given the state and the time (boot clock, seconds).
        :param anew: a state that can't be read is forgotten.
        :raises StoreError: when it can't be read or written.
        """
        done = False
        if self.feedback is None:
            return False

        def act() -> None:
            nonlocal done
            done = self.reconciler.update_feedback(change, anew=anew)

        self.reconciler.transact(act)
        return done

    # -- anybody's --------------------------------------------------------------------------------------------------

    def end(self, name: str) -> bool:
        """End the lease of that name, whoever holds it, and hand its slot off; False if it is no more.

        :raises OSError: when it can't be removed.
        """
        if not self.entries.remove(LEASES, name):
            return False
        self.hand_off()  # before the clean-up, since somebody may wait
        self.entries.delete(name)
        return True

    def notify_behind(self, *left: str) -> None:
        """Notify the processes that stood behind these tickets, which are gone."""
        notify_behind(self.directory, self.reconciler.notify, left)
