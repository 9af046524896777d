"""What a process says of itself in the records of a pool on disk."""

from __future__ import annotations

from leasecap._host.own_record import own_record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from leasecap._file_store.layout import Pool
    from leasecap._file_store.observer import Observer
    from leasecap._host.effects import Effects
    from leasecap._liveness.record import Purpose, Record


def describe_self(
    effects: Effects,
    pool: Pool,
    observer: Observer,
    *,
    label: str | None,
    argv: Sequence[str] | None = None,
    purpose: Purpose | None = None,
) -> Record:
    """A record of this process.

    :param observer: this process's view of the pool; it has the intervals of this process's heartbeats.
    :param argv: the command to show, if it isn't this process's own.
    """
    record = own_record(effects.me(), pool.name.text, local=pool.local, label=label, argv=argv, purpose=purpose)
    return record._replace(heartbeat=float(observer.heartbeat), stale_after=float(observer.stale_after))
