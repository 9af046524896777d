"""The pools of a root as `status` shows them, whatever is found there."""

from __future__ import annotations

import os
from functools import lru_cache

from leasecap._decisions.entry import Group, parse_entry
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE
from leasecap._decisions.snapshot import Snapshot
from leasecap._errors import StoreError
from leasecap._faults import store_error
from leasecap._feedback.rules import Rules
from leasecap._file_store.description import name_on_disk
from leasecap._file_store.feedback import Feedback
from leasecap._file_store.layout import LATENCY
from leasecap._file_store.marks import DEAF
from leasecap._file_store.observer import Observer
from leasecap._file_store.opening import open_existing
from leasecap._host.own_record import this_host
from leasecap._liveness.stamp import HEARTBEAT, STALE_AFTER, decode_stamp
from leasecap._store.picture import EntryPicture, LatencyPicture, PoolPicture
from leasecap._store.view import FeedbackView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from leasecap._config.config import PoolConfig
    from leasecap._config.pool_name import PoolName
    from leasecap._decisions.entry import Entry
    from leasecap._file_store.layout import Pool
    from leasecap._file_store.observer import Ask, Look
    from leasecap._host.effects import Effects
    from leasecap._liveness.record import Record
    from leasecap._store.picture import SilentGate, StandingGate, State

_TRIES = 5


class FilePictures:
    """See `_store.picture.Pictures`. What is found of a process is kept, so use an object for one look and no
    longer."""

    unlisted = ""

    def __init__(self, effects: Effects, importing: AbstractContextManager[object], root: str) -> None:
        """:param importing: entered round an import, since a fork must not copy one that is half done."""
        self._effects = effects
        self._importing = importing
        self._root = root
        self._presence = lru_cache(maxsize=None)(effects.presence)  # a process may hold many leases, in many pools

    def names(self) -> list[PoolName]:
        path = os.path.join(self._root, "pools")
        try:
            directories = os.listdir(path)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise store_error(error, path) from error
        return [name_on_disk(self._effects, self._root, each) for each in directories if not each.startswith(".")]

    def silent_gates(self) -> tuple[SilentGate, ...]:
        with self._importing:
            from leasecap._file_store.silent_gates import SilentGates

        return SilentGates(self._effects, self._root).read()

    def standing_gates(self) -> tuple[StandingGate, ...]:
        with self._importing:
            from leasecap._file_store.standing_gates import StandingGates

        return StandingGates(self._effects, self._root).read()

    def pool(self, name: PoolName, settings: PoolConfig | None, hours: int = 0) -> PoolPicture | None:
        try:
            pool = open_existing(self._effects, self._root, name)
        except FileNotFoundError:
            return None
        try:
            latency = self._latency(pool, hours)
            return _Picture(self._effects, pool, settings, self._presence).taken(self._importing, latency)
        finally:
            pool.directory.close()

    def _latency(self, pool: Pool, hours: int) -> LatencyPicture:
        try:
            pool.directory.stat(LATENCY)
        except OSError:
            hours = 0  # nobody has noted anything, or the pool's picture says what is wrong
        if not hours:
            return LatencyPicture({}, ())
        with self._importing:
            from leasecap._file_store.latency_files import read_tables

        return LatencyPicture(*read_tables(pool, hours, self._effects.wall_clock()))


class _Picture:
    """One look at one pool."""

    def __init__(self, effects: Effects, pool: Pool, settings: PoolConfig | None, presence: Ask) -> None:
        self._effects = effects
        self._pool = pool
        self._presence = presence
        self._settings = settings
        intervals = (settings.stale_after, settings.heartbeat) if settings else (STALE_AFTER, HEARTBEAT)
        self._observer = Observer(effects, pool, stale_after=intervals[0], heartbeat=intervals[1], presence=presence)
        self._now = effects.boot_clock()
        self._here = this_host()

    def taken(self, importing: AbstractContextManager[object], latency: LatencyPicture) -> PoolPicture:
        places, stable = self._places()
        queue, parked = (sorted(entry for entry in places if places[entry] == where) for where in (QUEUE, PARKED))
        held = [entry for entry in places if places[entry] in (GRANTED, LEASES)]
        held.sort(key=lambda entry: (entry.order, places[entry], entry))
        configured = self._settings.limit if self._settings else None
        snapshot = Snapshot(configured, Group.of(queue), Group.of(parked), leases=Group.of(held))
        feedback, error = None, None
        rules = self._settings.rules if self._settings else Rules()
        try:
            view = Feedback(self._effects, importing, self._pool, rules).view()
            if view is not None:
                snapshot = view.seen_in(snapshot)
                feedback = FeedbackView(view.state, rules, view.clock.boot, tuple(view.cooling.values()))
        except StoreError as trouble:
            error = str(trouble)
        # All looks come first and the pictures after them: each is faster when the same steps are done in a row.
        looks = {entry.name: self._observer.look(where, entry.name) for entry, where in places.items()}
        return PoolPicture(
            self._pool.directory.path,
            self._pool.kind,
            stable,
            snapshot,
            tuple([self._lease(entry, places[entry], looks[entry.name]) for entry in held]),
            tuple([self._ticket(entry, QUEUE, looks[entry.name]) for entry in queue]),
            tuple([self._ticket(entry, PARKED, looks[entry.name]) for entry in parked]),
            feedback,
            error,
            latency,
        )

    def _places(self) -> tuple[dict[Entry, str], bool]:
        """Where each entry is, and whether two looks in a row agreed.

        The places are read in the order in which entries move, and the last place in which an entry is seen counts. So
        an entry that moves meanwhile is seen at least once, and counted once.
        """
        before: dict[str, str] | None = None
        for _ in range(_TRIES):
            places = {
                name: where
                for where in (QUEUE, PARKED, GRANTED, LEASES)
                for name in self._pool.directory.list(where)
                if not name.startswith(".")
            }
            stable = places == before
            if stable:
                break
            before = places
        return {parse_entry(name): where for name, where in places.items()}, stable

    def _lease(self, entry: Entry, where: str, look: Look) -> EntryPicture:
        finding, record, content = look
        stamp = self._stamp(record, content)
        since = self._age(stamp[1]) if stamp and stamp[1] else None
        beat = self._age(stamp[0]) if stamp else None
        answered = self._age(stamp[4]) if stamp and stamp[4] else None
        hold = self._observer.hold_by(entry.name, record, content)
        over = self._effects.monotonic() - hold.over_at if hold else 0.0
        state: State = "held" if where == LEASES else "granted"
        stopped = self._is_stopped(record)
        host, alive, evidence = self._host(record), finding.alive, finding.evidence
        return EntryPicture(entry, state, record, host, alive, evidence, stopped, since, beat, over, answered)

    def _ticket(self, entry: Entry, where: str, look: Look) -> EntryPicture:
        finding, record, content = look
        stamp = self._stamp(record, content)
        since = self._age(stamp[3]) if stamp and stamp[3] else None  # the order in the name is no time
        stopped = self._is_stopped(record)
        state: State = "parked" if where == PARKED else "stopped" if stopped else "waiting"
        if state == "waiting" and self._is_deaf(entry):
            state = "deaf"
        return EntryPicture(
            entry, state, record, self._host(record), finding.alive, finding.evidence, stopped, since, None, 0.0
        )

    def _is_stopped(self, record: Record | None) -> bool:
        identity = self._observer.visible(record) if record else None
        if record is None or identity is None:
            return False
        command = record.child
        return "stopped" in (self._presence(*identity), command and command.pid and self._presence(*command))

    def _is_deaf(self, entry: Entry) -> bool:
        return bool(entry.process) and os.path.lexists(os.path.join(self._pool.root, "wake", entry.process, DEAF))

    def _host(self, record: Record | None) -> str | None:
        return None if record is None or record.host == self._here else record.host

    def _age(self, moment: int) -> float:
        return max((self._now - moment) / 1e9, 0.0)

    def _stamp(self, record: Record | None, content: bytes | None) -> tuple[int, int, float, int, int] | None:
        """What ``alive`` says, if its writer went by the same boot clock."""
        me = self._effects.me()
        if not content or record is None or me.boot is None:
            return None
        return decode_stamp(content) if (record.boot, record.time_ns) == (me.boot, me.time_ns) else None
