"""Sweeping: remove what dead processes left, and do what nobody has done meanwhile."""

from __future__ import annotations

import math

from leasecap._decisions import grants
from leasecap._decisions.entry import parse_entry, process_of
from leasecap._decisions.limits import declarers
from leasecap._decisions.places import GRANTED, LEASES, PARKED, STAGING, STOLEN, TRASH
from leasecap._decisions.snapshot import first_processes
from leasecap._durations import format_duration
from leasecap._file_store.lock_directory import STAGED_LOCK
from leasecap._file_store.marks import ASKED, DEAF, QUESTION
from leasecap._file_store.peers import Looks
from leasecap._file_store.removal import bury, delete_all
from leasecap._liveness.record import called
from leasecap._log import log_warning
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from leasecap._decisions.entry import Entry
    from leasecap._decisions.grants import Plan
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._file_store.entries import Entries
    from leasecap._file_store.marks import Marks
    from leasecap._file_store.observer import Observer
    from leasecap._file_store.peers import Peers
    from leasecap._file_store.policy import Policy
    from leasecap._file_store.reconcile import Reconciler
    from leasecap._file_store.snapshots import Snapshots

_PROBED_HOLDERS = 200
"""Holders that one sweep looks at, in turns, so that a sweep stays short. If there are more, a killed one's slot comes
free some sweeps later."""

_PROBED_PROCESSES = 16
"""Waiting processes that a thorough sweep looks at, in turns. It needs no more: a process is looked at again before it
is granted anything, and the one behind watches it. Until then a dead one only shows in `status`."""

ASK_AFTER = 1.0
"""Seconds. If a grant isn't taken up for so long, all processes in the queue are asked whether they run."""

ANSWERS_WITHIN = 0.5
"""Seconds. When a grant is to be taken back, processes that were asked so long ago and haven't answered are marked.
That is a second after the question, less what the sweeps at both ends may be late. Without a mark such a process would
be granted the slot again."""

_THOROUGH_EVERY = 1.0
"""Seconds between sweeps that also look at what holds no slot. An idle queue is swept ten times a second, which is
mostly in vain. They must not come more seldom than `LONGEST_PAUSE`, or an observer's count would start again."""


class Swept(NamedTuple):
    """What a sweep has found out.

    :ivar changes_in: seconds until more can be granted without anybody's doing, as far as that is known.
    :ivar in_vain: something was, or may be, called for, and is left to somebody who is inside, who does it or is killed
        before.
    :ivar declarer: pid and start of a waiting process whose declared limit holds, if there is one and it can be seen.
    """

    changes_in: float
    in_vain: bool = False
    declarer: tuple[int, int] | None = None


class Sweeper:
    """The sweeps of one process in one pool; its threads share it.

    :ivar own_stamp: the stamp that it wrote at its last sweep.
    """

    def __init__(
        self,
        entries: Entries,
        observer: Observer,
        peers: Peers,
        snapshots: Snapshots,
        reconciler: Reconciler,
        policy: Policy,
        *,
        marks: Marks | None,
        ask: Callable[[], None],
        clear_up: Callable[[], None],
    ) -> None:
        """
        :param ask: asks the provider how many requests it counts, in the background.
        :param clear_up: removes what killed processes have left half-made; called now and then.
        """
        self._effects = entries.effects
        self._directory = entries.directory
        self._entries = entries
        self._observer = observer
        self._peers = peers
        self._snapshots = snapshots
        self._reconciler = reconciler
        self._policy = policy
        self._marks = marks
        self._ask = ask
        self._clear_up = clear_up
        self._thorough_at = -math.inf  # a machine's clock may stand below zero
        self._next = self._next_waiting = 0
        self._asked: dict[str, float] = {}
        self.own_stamp = b""

    def sweep(self) -> Swept:
        """Reap what dead processes left, take back what isn't acknowledged, and grant.

        An entry that can't be removed is left where it is and goes on to count; no request fails for it.
        """
        self._directory.renew()
        self._stamp()
        now = self._effects.monotonic()
        thorough = now >= self._thorough_at
        if thorough:
            self._thorough_at = now + _THOROUGH_EVERY
        changes_in, in_vain = math.inf, False
        snapshot, view = self._snapshots.take_all()
        places = ((LEASES, snapshot.leases), (GRANTED, snapshot.granted), (PARKED, snapshot.parked))
        holders = self._some_of([(where, entry) for where, entries in places for entry in entries])
        reaped = self._reap(holders)
        overdue = [entry for _, entry in holders if self._late_by(entry) is not None] if self._policy.force else []
        snapshot, declarer = self._look_at_the_queue(snapshot, thorough)
        snapshot = Looks(self._peers).at_the_slow(snapshot, now)
        plan = grants.decide(snapshot, now)  # outside: to enter costs more, and mostly there is nothing to do
        self._ask_the_silent(plan, snapshot, now)
        died = bool(self._peers.gone or self._peers.dead)
        called_for = bool(reaped or overdue or died or plan.grant or plan.take_back or plan.over)
        called_for = called_for or self._reconciler.has_to_wake(snapshot)
        if view is not None:
            called_for = called_for or view.has_news(plan, snapshot)
            changes_in = snapshot.admission.changes_in
            if plan.ask and view.may_ask():
                self._ask()
        if called_for or thorough:
            told: list[str] = []
            in_vain = not self._reconciler.transact(self._giving_away(overdue, reaped, told) if overdue else None)
            for message in told:
                log_warning(message)
            if self._peers.gone or self._peers.dead:
                bury(self._entries, self._peers, self._reconciler.notify)
        if thorough:  # after the grants: much may have been left
            self._sweep_corners(snapshot)
            reaped = self._directory.list(TRASH)
        delete_all(self._entries, reaped)
        return Swept(
            changes_in=min(changes_in, self._policy.rises_in),
            in_vain=in_vain,
            declarer=None if declarer is None else self._peers.identity(declarer),
        )

    def _look_at_the_queue(self, snapshot: Snapshot, thorough: bool) -> tuple[Snapshot, Entry | None]:
        """Look at one waiting process whose declared limit holds, and in a thorough sweep at some of the others.

        Returns what is known then, and a ticket of that process.
        """
        peers = self._peers
        queue = sorted(snapshot.queue.names)
        first = {process_of(name): parse_entry(name) for name in reversed(queue)}
        some = self._in_turns(list(first)) if thorough else first_processes(queue)
        found = {first[process]: peers.look(first[process]) for process in some if first[process].token}
        living: Entry | None = None
        for declarer in declarers(snapshot):
            seen = found[declarer] = peers.look(declarer)
            if seen in ("runs", "away"):
                living = declarer
                break  # the limit holds while one of them lives
        return peers.seen_in(snapshot, found), living

    def _in_turns(self, processes: list[str]) -> list[str]:
        if len(processes) <= _PROBED_PROCESSES:
            return processes
        begin = self._next_waiting % len(processes)
        self._next_waiting = begin + _PROBED_PROCESSES
        return (processes + processes)[begin : self._next_waiting]

    def _ask_the_silent(self, plan: Plan, snapshot: Snapshot, now: float) -> None:
        """Ask all that wait whether they run, if a grant isn't taken up; mark those that don't answer in time.

        They are asked all at once: so several that are frozen cost two seconds together, and not two seconds each.
        """
        marks = self._marks
        silent = {process_of(name) for name in snapshot.granted.names if self._is_late(snapshot, name, now)}
        if not silent or marks is None:
            self._asked.clear()
            return
        if plan.take_back:
            # Any thread may sweep beside another: both tables are copied in one step, and nothing is taken out twice.
            for process, asked in self._asked.copy().items():
                is_due = now - asked >= ANSWERS_WITHIN and self._asked.pop(process, None) is not None
                if is_due and not marks.mark(process) and process in silent:
                    marks.leave(DEAF, process)  # without a mark each of its tickets would cost two seconds
            return
        ahead = {process_of(name): name for name in sorted(snapshot.queue.names, reverse=True)}
        for process in {*silent, *ahead} - self._asked.keys() - snapshot.away:
            if marks.ask(process) or (process in silent and marks.leave(ASKED, process)):
                self._asked[process] = now
                self._reconciler.waker(process, QUESTION)

    def _is_late(self, snapshot: Snapshot, name: str, now: float) -> bool:
        return now - snapshot.granted_since.get(name, now) >= ASK_AFTER

    def _some_of(self, held: list[tuple[str, Entry]]) -> list[tuple[str, Entry]]:
        if len(held) <= _PROBED_HOLDERS:
            return held
        first = self._next % len(held)
        self._next = first + _PROBED_HOLDERS
        return (held + held)[first : self._next]

    def _reap(self, entries: Iterable[tuple[str, Entry]]) -> list[str]:
        """Move entries whose owner is dead to ``trash/``; returns their names, to be deleted when there is time."""
        dead = [(where, entry.name) for where, entry in entries if not self._observer.lives(where, entry.name)]
        return [name for where, name in dead if self._entries.discard(where, name)]

    def _late_by(self, lease: Entry) -> str | None:
        """For people: for how long the lease ought to have been given away; None: it need not be, or not yet."""
        hold = self._observer.hold(lease.name)
        now = self._effects.monotonic()
        if hold is None or now < hold.give_away_at:
            return None
        return f"{format_duration(now - hold.over_at)} over its max_hold of {format_duration(hold.max_hold)}"

    def _giving_away(self, overdue: list[Entry], given: list[str], told: list[str]) -> Callable[[], None]:
        """What, inside the section, moves leases that are held for too long to ``trash/``, unless their holders have
        given them away, and reconciles.

        It looks once more, since the agent may have asked again meanwhile (`agents.renew`), which happens inside as
        well; or a person may have taken ``reclaim = "force"`` out of config.toml before the time was over.

        :param given: the names are added to it; ``told``: messages for the log.
        """

        def settle() -> None:
            self._reconciler.follow()
            for lease in overdue if self._policy.force else ():
                late, record = self._late_by(lease), self._observer.record(LEASES, lease.name)
                if late is not None and self._entries.discard(LEASES, lease.name):
                    given.append(lease.name)
                    who = "" if record is None else f" {called(record)},"
                    pool = self._entries.pool.name.text
                    told.append(f"the slot of{who} lease {lease.token} of pool {pool!r}, {late}, was given away")
            self._reconciler.reconcile()

        return settle

    def _sweep_corners(self, snapshot: Snapshot) -> None:
        """Reap what holds no slot."""
        staging = self._directory.list(STAGING)
        staged = tuple(parse_entry(name) for name in staging if not name.startswith(STAGED_LOCK))
        self._reap((STAGING, entry) for entry in staged)
        for name in staging:
            if name.startswith(STAGED_LOCK):
                record = f"{STAGING}/{name}/{name.removeprefix(STAGED_LOCK)}"
                if not self._observer.judge_record(record).alive:
                    self._entries.discard(STAGING, name)
        places = (snapshot.queue, snapshot.parked, snapshot.granted, snapshot.leases)
        everything = {name for place in places for name in place.names} | {entry.name for entry in staged}
        self._observer.forget_all_but(everything)
        self._peers.forget_all_but({process_of(name) for place in places[:3] for name in place.names})
        self._forget_thefts()
        self._clear_up()

    def _forget_thefts(self) -> None:
        """Remove the marks of stolen sections whose holder can't come back, once nothing is above the limit.

        Until then the grants of such a holder have to be known by its token.
        """
        stolen = self._directory.list(STOLEN)
        if not stolen or grants.decide(self._snapshots.take(), self._effects.monotonic()).over:
            return
        for name in stolen:
            robbed = self._observer.judge_record(f"{STOLEN}/{name}")
            if not robbed.alive and robbed.certain:
                self._entries.unlink(f"{STOLEN}/{name}")

    def stamp(self) -> bytes:
        """The stamp of the last sweep. It has no clock in it; a process compares it with the one it saw before."""
        try:
            return self._directory.read("sweep", 16)
        except OSError:
            return b""

    def _stamp(self) -> None:
        self.own_stamp = self._effects.token().encode()
        try:
            try:
                self._directory.overwrite("sweep", self.own_stamp)
            except FileNotFoundError:
                self._directory.write("sweep", self.own_stamp)  # somebody has removed the file
        except OSError:
            pass  # without a new stamp others sweep as well
