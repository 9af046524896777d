"""What `leasecap status` shows. To read it takes no lock and writes nothing, and whatever it finds is shown."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from leasecap._config.config import load_config
from leasecap._config.pool_name import pool_name
from leasecap._config.root import check_root, root_path
from leasecap._decisions.entry import Group
from leasecap._decisions.limits import effective_limit, full_limit
from leasecap._decisions.loads import Loads
from leasecap._errors import LeasecapError, StoreError
from leasecap._faults import store_error
from leasecap._runtime import runtime
from leasecap._status.feedback import PoolFeedback as PoolFeedback
from leasecap._status.feedback import described, word
from leasecap._status.model import Holder as Holder
from leasecap._status.model import HttpRequest as HttpRequest
from leasecap._status.model import ModelLatency as ModelLatency
from leasecap._status.model import Percentiles as Percentiles
from leasecap._status.model import PoolStatus as PoolStatus
from leasecap._status.model import SilentGate as SilentGate
from leasecap._status.model import StandingGate as StandingGate
from leasecap._status.model import Status as Status
from leasecap._status.model import Waiter as Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.config import Config, PoolConfig
    from leasecap._config.pool_name import PoolName
    from leasecap._config.store_address import StoreAddress
    from leasecap._store.picture import EntryPicture, LatencyPicture, Pictures, PoolPicture

SCHEMA_VERSION = 1

RECENT, KEPT = 2, 48
"""Hours of which it is told how long requests took, the one that has just begun included: for a warning, and in all."""


def status(pool: str | None = None, *, latency: bool = False) -> Status:
    """Who holds and who waits, in ``pool`` or in all pools. It takes no lock, writes nothing and needs no write access.

    :param latency: tell how long requests took as well.
    :raises ConfigError: for a pool name that can't be one, or a LEASECAP_HOME that can't be the root.
    """
    return _read(pool, latency, None)


def status_apart_from(silent: StoreAddress) -> Status:
    """`status` of all pools but those of one server, which isn't asked."""
    return _read(None, False, silent)


def _read(pool: str | None, latency: bool, apart: StoreAddress | None) -> Status:
    root = root_path()
    config_error = None
    config = None
    try:
        if os.path.lexists(root):
            check_root(root)
        config = load_config(root)
        config.stores()  # the environment has a say beside the file
    except LeasecapError as error:
        config, config_error = None, str(error)
    named = None if pool is None else config.pool(pool).name if config else pool_name(pool)
    unlisted = None
    pictures = runtime.pictures(root, config, apart)
    try:
        names = [named] if named else _known(pictures, config)
    except StoreError as trouble:
        names = list(config.pools) if config else []
        if config is not None or _is_open(root):
            unlisted = str(trouble)
    unlisted = unlisted or pictures.unlisted or None
    if config is not None and apart is not None:
        names = [name for name in names if config.pool(name.text).store != apart]
    pools = tuple(_pool_status(root, pictures, name, config, latency) for name in names)
    if config_error is not None and not _is_open(root):
        pools = tuple(replace(pool, error=config_error) if pool.error else pool for pool in pools)
    now = _utc(datetime.now(UTC))
    silent, standing = _silent_gates(pictures), _standing_gates(pictures)
    return Status(SCHEMA_VERSION, now, root, pools, config_error, unlisted, silent, standing)


def _is_open(root: str) -> bool:
    """Whether the root is a directory that this user may search. Else that is said already, and explains all else."""
    return os.path.isdir(root) and os.access(root, os.X_OK)


def _silent_gates(pictures: Pictures) -> tuple[SilentGate, ...]:
    try:
        return tuple(SilentGate(pid, command) for pid, command in pictures.silent_gates())
    except OSError:
        return ()  # they are a hint; what is wrong with the root is told of its pools


def _standing_gates(pictures: Pictures) -> tuple[StandingGate, ...]:
    try:
        return tuple(StandingGate(gate.pid, gate.address) for gate in pictures.standing_gates())
    except OSError:
        return ()  # as above


def _known(pictures: Pictures, config: Config | None) -> list[PoolName]:
    found: dict[str, PoolName] = {}
    if config is not None:
        found.update((name.directory, name) for name in config.pools)
    for name in pictures.names():
        found.setdefault(name.directory, name)
    return sorted(found.values(), key=lambda name: name.text)


def _pool_status(root: str, pictures: Pictures, name: PoolName, config: Config | None, latency: bool) -> PoolStatus:
    settings = config.pool(name.text) if config is not None else None
    path = os.path.join(root, "pools", name.directory)
    if settings is not None and settings.store is not None:
        path = f"{settings.store.shown} pool {name.text}"
    wall = datetime.now(UTC)
    try:
        picture = pictures.pool(name, settings, KEPT if latency else RECENT)
    except LeasecapError as error:
        return _without_entries(name, path, settings, str(error))
    except OSError as error:
        return _without_entries(name, path, settings, str(store_error(error, path)))
    if picture is None:
        return _without_entries(name, path, settings, None)
    return _with_latency(_pool(name, picture, settings, wall), picture.latency, settings, wall, latency)


def _without_entries(name: PoolName, path: str, settings: PoolConfig | None, error: str | None) -> PoolStatus:
    limit = settings.limit if settings else None
    source = settings.limit_source if settings else ""
    return PoolStatus(name.text, path, word(limit), source, 0, 0, (), (), True, None, error, None)


def _utc(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _pool(name: PoolName, picture: PoolPicture, settings: PoolConfig | None, wall: datetime) -> PoolStatus:
    """:param wall: when the picture was taken."""
    snapshot = picture.snapshot
    loads = Loads(snapshot.leases)
    living = Loads(Group.of(lease.entry for lease in picture.leases if lease.alive))
    feedback = None if picture.error is not None else described(name.text, snapshot, picture.feedback)
    if feedback is not None and picture.notes:
        feedback = replace(feedback, lines=(*feedback.lines, *picture.notes))
    return PoolStatus(
        pool=name.text,
        path=picture.path,
        limit=word(effective_limit(snapshot)),
        limit_source=_source(picture, settings),
        in_flight=loads.total,
        waiting=len(picture.queue) + len(picture.parked),
        holders=tuple(_holder(lease, loads.lender_of(lease.entry), wall) for lease in picture.leases),
        waiters=(
            *(_waiter(ticket, position, wall) for position, ticket in enumerate(picture.queue, 1)),
            *(_waiter(ticket, 0, wall) for ticket in picture.parked),
        ),
        stable=picture.stable,
        lock=picture.lock,
        error=picture.error,
        feedback=feedback,
        dead_slots=loads.total - living.total,
    )


def _with_latency(
    found: PoolStatus, seen: LatencyPicture, settings: PoolConfig | None, wall: datetime, rows_too: bool
) -> PoolStatus:
    if not (rows_too or seen.hours or seen.troubles):
        return found
    from leasecap._status.latency import rows, warnings  # most pools have none

    begin = wall.timestamp() // 3600 - RECENT
    recent = [table for hour, table in seen.hours.items() if hour > begin]
    return replace(
        found,
        latency_warnings=warnings(recent, settings.requests) if settings else (),
        latency=rows(seen.hours) if rows_too else None,
        latency_error="\n".join(seen.troubles) or None,
    )


def _source(picture: PoolPicture, settings: PoolConfig | None) -> str:
    """Where the effective limit comes from."""
    source, configured = (settings.limit_source, settings.limit) if settings else ("", None)
    snapshot = picture.snapshot
    if picture.lock == "server":
        configured = snapshot.configured
        source = "" if configured is None else "the server"
    limit = effective_limit(snapshot)
    if limit is None or limit == configured:
        return source
    if limit == snapshot.admission.own_limit:
        return f"the provider's own, below {word(full_limit(snapshot))} from {source or 'a declaration'}"
    if limit == snapshot.admission.limit:
        return f"reduced, below {word(full_limit(snapshot))} from {source or 'a declaration'}"
    ids = [entry.token for entry in (*snapshot.leases, *snapshot.queue) if entry.limit == limit]
    declared = f"declared by {ids[0]}" if ids else "declared"
    return declared if configured is None else f"{declared}, below {word(configured)} from {source}"


def _holder(lease: EntryPicture, lender: str | None, wall: datetime) -> Holder:
    entry, record = lease.entry, lease.record
    return Holder(
        id=entry.token or entry.name,
        state=lease.state,
        pid=record.pid if record else None,
        child=record.child.pid or None if record and record.child else None,
        host=lease.host,
        label=record.label if record else None,
        command=record.command or None if record else None,
        cwd=record.cwd or None if record else None,
        granted_at=_moment(wall, lease.since),
        held_for=lease.since,
        heartbeat_age=lease.heartbeat_age,
        alive=lease.alive,
        evidence=lease.evidence,
        stopped=lease.stopped,
        borrows_from=lender,
        limit=entry.limit,
        max_hold=record.max_hold if record else None,
        over_max_hold=lease.over_max_hold if lease.over_max_hold > 0 else None,
        request=_request(lease),
    )


def _waiter(ticket: EntryPicture, position: int, wall: datetime) -> Waiter:
    entry, record = ticket.entry, ticket.record
    return Waiter(
        id=entry.token or entry.name,
        state=ticket.state,
        pid=record.pid if record else None,
        host=ticket.host,
        label=record.label if record else None,
        command=record.command or None if record else None,
        cwd=record.cwd or None if record else None,
        position=position,
        priority=entry.priority,
        asked_at=_moment(wall, ticket.since),
        waited=ticket.since,
        alive=ticket.alive,
        evidence=ticket.evidence,
        limit=entry.limit,
        request=_request(ticket),
    )


def _request(entry: EntryPicture) -> HttpRequest | None:
    purpose = entry.record.purpose if entry.record else None
    if purpose is None:
        return None
    if entry.state != "held":
        return HttpRequest(*purpose, "queued", None)
    if entry.since is None:
        return HttpRequest(*purpose, None, None)
    if entry.answered is None:
        return HttpRequest(*purpose, "sent", None)
    return HttpRequest(*purpose, "streaming", max(entry.since - entry.answered, 0.0))


def _moment(wall: datetime, ago: float | None) -> str | None:
    return None if ago is None else _utc(wall - timedelta(seconds=ago))
