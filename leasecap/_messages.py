"""Short lines about holders, for errors and for those who wait."""

from __future__ import annotations

from leasecap._decisions.limits import full_limit
from leasecap._decisions.places import LEASES
from leasecap._durations import format_duration
from leasecap._errors import ConfigError
from leasecap._host.process import ancestors_of
from leasecap._liveness.record import called
from leasecap._liveness.stamp import decode_stamp
from leasecap._liveness.verdict import LOCK_HELD, NOT_VISIBLE, UNREADABLE, comparable, same_clocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.config import Config
    from leasecap._config.pool_name import PoolName
    from leasecap._decisions.entry import Entry
    from leasecap._decisions.snapshot import Snapshot
    from leasecap._file_store.store import Store
    from leasecap._liveness.record import Record


def holder_lines(store: Store, snapshot: Snapshot) -> tuple[str, ...]:
    """One line for each lease, the one held longest first."""
    lines: list[tuple[float, str]] = []
    for lease in snapshot.leases:
        record = store.observer.record(LEASES, lease.name)
        held = _held_for(store, lease.name, record)
        who = "unreadable record" if record is None else called(record)
        if held >= 0:
            who += f" for {format_duration(held)}"
        lines.append((held, who + _doubt(store, lease, record)))
    return tuple(line for _, line in sorted(lines, reverse=True))


def _doubt(store: Store, lease: Entry, record: Record | None) -> str:
    """What to add where nobody can tell from here whether the holder lives: only a person can end that."""
    if record is not None and comparable(record, store.effects.me()):
        return ""
    finding, record, content = store.observer.look(LEASES, lease.name)
    doubt = finding.evidence in (NOT_VISIBLE, UNREADABLE)
    if finding.evidence == LOCK_HELD and record is not None and same_clocks(record, store.effects.me()):
        # It may be stopped; or gone, and a daemon that it left behind keeps the lock.
        stamp = decode_stamp(content or b"")
        doubt = stamp is not None and store.effects.boot_clock() - stamp[0] > record.stale_after * 1e9
    release = f"leasecap release {lease.token or lease.name}"
    return f" ({finding.evidence}; if it is gone: {release})" if doubt else ""


def feedback_lines(store: Store, snapshot: Snapshot) -> tuple[str, ...]:
    """What the provider's answers keep back, one line each."""
    lessons = store.lessons()
    if lessons is None or store.learning is None:
        return ()
    from leasecap._feedback.messages import explain

    lessons.seen_in(snapshot)
    full = full_limit(snapshot)
    now = lessons.clock.boot
    return explain(lessons.state, store.learning.rules, now, store.pool.name.text, full, lessons.cooling.values())


def no_limit(name: PoolName, config: Config) -> ConfigError:
    """What to say where nothing gives the pool a limit: the name may be misspelt."""
    import shlex

    from leasecap._config.nearest import nearest

    known = config.names()
    meant = None if name.identity in known else nearest(name.identity, known)
    return ConfigError(
        f"pool {name.text!r} has no limit" + (f"; did you mean {known[meant]}?" if meant else ""),
        file=config.path,
        allowed=f"set one: leasecap limit {shlex.quote(name.text)} 4     "
        "(for one call only: `leasecap run --limit N`, or limit=N in Python)",
    )


def _held_for(store: Store, name: str, record: Record | None) -> float:
    if record is None or record.boot is None or record.boot != store.effects.me().boot:
        return -1.0
    granted = store.observer.granted_at(LEASES, name)
    return -1.0 if granted is None else store.effects.boot_clock() / 1e9 - granted


def parent_notice(store: Store, snapshot: Snapshot, borrow: bool) -> str | None:
    """Say so when a parent of this process holds what it waits for, though the chain of leases didn't arrive."""
    if not borrow:
        return None
    parents = set(ancestors_of(store.effects.me().pid))
    for lease in snapshot.leases:
        record = store.observer.record(LEASES, lease.name)
        if record is not None and record.pid_ns == store.effects.me().pid_ns and record.pid in parents:
            return (
                f"{called(record)} holds a slot of this pool and is a parent of this process, but "
                "LEASECAP_LEASE did not reach it (env -i? sudo?): pass it on, so that its slot can be borrowed"
            )
    return None
