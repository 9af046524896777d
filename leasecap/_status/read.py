"""What `leasecap status` shows: read without any lock, written nowhere, and able to cope with whatever it finds."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from leasecap._config.config import load_config
from leasecap._config.pool_name import pool_name
from leasecap._config.root import check_root, root_path
from leasecap._decisions.entry import Group, parse_entry
from leasecap._decisions.limits import effective_limit, full_limit
from leasecap._decisions.loads import Loads
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE
from leasecap._decisions.snapshot import Snapshot
from leasecap._errors import LeasecapError, StoreError
from leasecap._faults import store_error
from leasecap._feedback.rules import Rules
from leasecap._file_store.description import name_on_disk
from leasecap._file_store.marks import DEAF
from leasecap._file_store.observer import Observer
from leasecap._file_store.opening import open_existing
from leasecap._file_store.self_record import this_host
from leasecap._liveness.stamp import decode_stamp
from leasecap._runtime import runtime
from leasecap._status.feedback import PoolFeedback as PoolFeedback
from leasecap._status.feedback import look, word
from leasecap._status.model import Holder as Holder
from leasecap._status.model import PoolStatus as PoolStatus
from leasecap._status.model import Status as Status
from leasecap._status.model import Waiter as Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.config import Config, PoolConfig
    from leasecap._config.pool_name import PoolName
    from leasecap._decisions.entry import Entry
    from leasecap._file_store.layout import Pool
    from leasecap._file_store.observer import Ask, Look
    from leasecap._liveness.record import Record

SCHEMA_VERSION = 1
_TRIES = 5


def status(pool: str | None = None) -> Status:
    """Who holds and who waits, in ``pool`` or in all pools. Takes no lock, writes nothing, needs no write access.

    :raises ConfigError: for a pool name that can't be one.
    """
    root = root_path()
    config_error = None
    config = None
    try:
        if os.path.lexists(root):
            check_root(root)
        config = load_config(root)
    except LeasecapError as error:
        config_error = str(error)
    named = None if pool is None else config.pool(pool).name if config else pool_name(pool)
    unlisted = None
    try:
        names = [named] if named else _known(root, config)
    except StoreError as trouble:
        names, unlisted = list(config.pools) if config else [], str(trouble)
    presence = lru_cache(maxsize=None)(runtime.own.effects.presence)  # a process may hold many leases, in many pools
    pools = tuple(_pool_status(root, name, config, presence) for name in names)
    return Status(SCHEMA_VERSION, _utc(datetime.now(UTC)), root, pools, config_error, unlisted)


def _known(root: str, config: Config | None) -> list[PoolName]:
    found: dict[str, PoolName] = {}
    if config is not None:
        found.update((name.directory, name) for name in config.pools)
    for name in pools_on_disk(root):
        found.setdefault(name.directory, name)
    return sorted(found.values(), key=lambda name: name.text)


def pools_on_disk(root: str) -> list[PoolName]:
    """The pools that somebody has used.

    :raises StoreError: when that can't be read.
    """
    path = os.path.join(root, "pools")
    try:
        directories = os.listdir(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise store_error(error, path) from error
    return [name_on_disk(runtime.own.effects, root, each) for each in directories if not each.startswith(".")]


def _pool_status(root: str, name: PoolName, config: Config | None, presence: Ask) -> PoolStatus:
    path = os.path.join(root, "pools", name.directory)
    settings = config.pool(name.text) if config is not None else None
    try:
        pool = open_existing(runtime.own.effects, root, name)
    except FileNotFoundError:
        return _without_entries(name, path, settings, None)
    except LeasecapError as error:
        return _without_entries(name, path, settings, str(error))
    try:
        return _View(pool, settings, presence).pool_status()
    except OSError as error:
        return _without_entries(name, path, settings, str(store_error(error, path)))
    finally:
        pool.directory.close()


def _without_entries(name: PoolName, path: str, settings: PoolConfig | None, error: str | None) -> PoolStatus:
    limit = settings.limit if settings else None
    source = settings.limit_source if settings else ""
    return PoolStatus(name.text, path, word(limit), source, 0, 0, (), (), True, None, error, None)


def _utc(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _View:
    """One look at one pool."""

    def __init__(self, pool: Pool, settings: PoolConfig | None, presence: Ask) -> None:
        self._pool = pool
        self._presence = presence
        self._settings = settings
        stale_after, heartbeat = (settings.stale_after, settings.heartbeat) if settings else (30.0, 10.0)
        self._observer = Observer(
            runtime.own.effects, pool, stale_after=stale_after, heartbeat=heartbeat, presence=presence
        )
        self._now, self._wall = runtime.own.effects.boot_clock(), datetime.now(UTC)
        self._here = this_host()

    def pool_status(self) -> PoolStatus:
        places, stable = self._places()
        queue, parked = (sorted(entry for entry in places if places[entry] == where) for where in (QUEUE, PARKED))
        held = [entry for entry in places if places[entry] in (GRANTED, LEASES)]
        held.sort(key=lambda entry: (entry.order, places[entry], entry))
        configured = self._settings.limit if self._settings else None
        snapshot = Snapshot(configured, Group.of(queue), Group.of(parked), leases=Group.of(held))
        feedback, error = None, None
        try:
            rules = self._settings.rules if self._settings else Rules()
            snapshot, feedback = look(self._pool, rules, snapshot)
        except StoreError as trouble:
            error = str(trouble)
        limit = effective_limit(snapshot)
        loads = Loads(snapshot.leases)
        # First all looks, then what is made of them: taking turns, they take 10 of 70 us more for each lease.
        looks = {entry.name: self._observer.look(where, entry.name) for entry, where in places.items()}
        return PoolStatus(
            pool=self._pool.name.text,
            path=self._pool.directory.path,
            limit=word(limit),
            limit_source=self._source(limit, configured, snapshot),
            in_flight=loads.total,
            waiting=len(queue) + len(parked),
            holders=tuple(
                self._holder(entry, places[entry], loads.lender_of(entry), looks[entry.name]) for entry in held
            ),
            waiters=tuple(
                self._waiter(entry, place, position if place == QUEUE else 0, looks[entry.name])
                for place, tickets in ((QUEUE, queue), (PARKED, parked))
                for position, entry in enumerate(tickets, 1)
            ),
            stable=stable,
            lock=self._pool.kind,
            error=error,
            feedback=feedback,
        )

    def _places(self) -> tuple[dict[Entry, str], bool]:
        """Where each entry is, and whether two looks in a row agreed.

        Read in the order in which entries move on, later places winning: one that moves in between is seen at least
        once, and counted once.
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

    def _source(self, limit: int | None, configured: int | None, snapshot: Snapshot) -> str:
        source = self._settings.limit_source if self._settings else ""
        if limit is None or limit == configured:
            return source
        if limit == snapshot.admission.limit:
            return f"reduced, below {word(full_limit(snapshot))} from {source or 'a declaration'}"
        ids = [entry.token for entry in (*snapshot.leases, *snapshot.queue) if entry.limit == limit]
        declared = f"declared by {ids[0]}" if ids else "declared"
        return declared if configured is None else f"{declared}, below {word(configured)} from {source}"

    def _holder(self, entry: Entry, where: str, lender: str | None, look: Look) -> Holder:
        finding, record, content = look
        beat, granted = self._ages(record, content)
        hold = self._observer.hold_by(entry.name, record, content)
        over = runtime.own.effects.monotonic() - hold.over_at if hold else 0.0
        return Holder(
            id=entry.token or entry.name,
            state="held" if where == LEASES else "granted",
            pid=record.pid if record else None,
            child=record.child.pid or None if record and record.child else None,
            host=self._host(record.host) if record else None,
            label=record.label if record else None,
            command=record.command if record else None,
            cwd=record.cwd if record else None,
            granted_at=self._moment(granted),
            held_for=granted,
            heartbeat_age=beat,
            alive=finding.alive,
            evidence=finding.evidence,
            stopped=self._is_stopped(record),
            borrows_from=lender,
            limit=entry.limit,
            max_hold=record.max_hold if record else None,
            over_max_hold=over if over > 0 else None,
        )

    def _waiter(self, entry: Entry, where: str, position: int, look: Look) -> Waiter:
        finding, record, content = look
        stamp = self._stamp(record, content)
        waited = self._age(stamp[3]) if stamp and stamp[3] else None  # an order is no time of this process's
        return Waiter(
            id=entry.token or entry.name,
            state=self._state(entry, record) if where == QUEUE else "parked",
            pid=record.pid if record else None,
            host=self._host(record.host) if record else None,
            label=record.label if record else None,
            command=record.command if record else None,
            cwd=record.cwd if record else None,
            position=position,
            priority=entry.priority,
            asked_at=self._moment(waited),
            waited=waited,
            alive=finding.alive,
            evidence=finding.evidence,
            limit=entry.limit,
        )

    def _is_stopped(self, record: Record | None) -> bool:
        identity = self._observer.visible(record) if record else None
        if record is None or identity is None:
            return False
        command = record.child
        return "stopped" in (self._presence(*identity), command and command.pid and self._presence(*command))

    def _state(self, entry: Entry, record: Record | None) -> str:
        if self._is_stopped(record):
            return "stopped"
        deaf = os.path.lexists(os.path.join(self._pool.root, "wake", entry.process, DEAF))
        return "deaf" if deaf and entry.process else "waiting"

    def _host(self, host: str) -> str | None:
        return None if host == self._here else host

    def _age(self, moment: int) -> float:
        return max((self._now - moment) / 1e9, 0.0)

    def _moment(self, ago: float | None) -> str | None:
        return None if ago is None else _utc(self._wall - timedelta(seconds=ago))

    def _comparable(self, record: Record | None) -> bool:
        """Whether the writer's boot clock is this one."""
        me = runtime.own.effects.me()
        return record is not None and (record.boot, record.time_ns) == (me.boot, me.time_ns) and me.boot is not None

    def _stamp(self, record: Record | None, content: bytes | None) -> tuple[int, int, float, int] | None:
        return decode_stamp(content) if content and self._comparable(record) else None

    def _ages(self, record: Record | None, content: bytes | None) -> tuple[float | None, float | None]:
        """Seconds since the last heartbeat and since the grant, from what ``alive`` says."""
        stamp = self._stamp(record, content)
        if stamp is None:
            return None, None
        return self._age(stamp[0]), self._age(stamp[1]) if stamp[1] else None
