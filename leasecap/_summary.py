"""Short lines about holders, for errors and for those who wait."""

from __future__ import annotations

from leasecap import _process
from leasecap._durations import format_duration
from leasecap._observe import BEAT_BYTES, read_beat
from leasecap._pool import LEASES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decide import Snapshot
    from leasecap._record import Record
    from leasecap._store import Store


def holder_lines(store: Store, snapshot: Snapshot) -> tuple[str, ...]:
    """One line for each lease, the one held longest first."""
    lines: list[tuple[float, str]] = []
    for lease in snapshot.leases:
        record = store.observer.record(LEASES, lease.name)
        held = _held_for(store, lease.name, record)
        who = "unreadable record" if record is None else f"pid {record.pid} ({_called(record)})"
        lines.append((held, who if held < 0 else f"{who} for {format_duration(held)}"))
    return tuple(line for _, line in sorted(lines, reverse=True))


def _called(record: Record) -> str:
    called = record.label or record.command
    return called if len(called) <= 40 else called[:39] + "…"


def _held_for(store: Store, name: str, record: Record | None) -> float:
    if record is None or record.boot is None or record.boot != store.effects.me().boot:
        return -1.0
    try:
        stamp = read_beat(store.directory.read(f"{LEASES}/{name}/alive", BEAT_BYTES))
    except OSError:
        return -1.0
    return (store.effects.boot_clock() - stamp[1]) / 1e9 if stamp and stamp[1] else -1.0


def parent_notice(store: Store, snapshot: Snapshot, borrow: bool) -> str | None:
    """Say so when a parent of this process holds what it waits for, though the chain of leases didn't arrive."""
    if not borrow:
        return None
    parents = set(_process.ancestors_of(store.effects.me().pid))
    for lease in snapshot.leases:
        record = store.observer.record(LEASES, lease.name)
        if record is not None and record.pid_ns == store.effects.me().pid_ns and record.pid in parents:
            return (
                f"pid {record.pid} ({_called(record)}) holds a slot of this pool and is a parent of this process, but "
                "LEASECAP_LEASE did not reach it (env -i? sudo?): pass it on, so that its slot can be borrowed"
            )
    return None
