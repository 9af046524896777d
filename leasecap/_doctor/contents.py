"""What stands in the root: the configuration, the pools, and what the dead have left behind."""

from __future__ import annotations

import os
import time

from leasecap._config.config import config_path, load_config
from leasecap._config.pool_name import pool_name
from leasecap._decisions.places import STAGING, STOLEN, TRASH
from leasecap._doctor.check import Check, refused
from leasecap._doctor.place import SCRATCH
from leasecap._errors import LeasecapError
from leasecap._file_store.observer import Observer
from leasecap._file_store.opening import open_existing
from leasecap._file_store.os_lock import OsLock
from leasecap._file_store.wake_places import WAKEUP
from leasecap._host.directory import Directory
from leasecap._liveness.stamp import HEARTBEAT, STALE_AFTER
from leasecap._request import Options, checked
from leasecap._runtime import runtime
from leasecap._status.read import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from leasecap._doctor.check import Site
    from leasecap._status.read import PoolStatus

_OLD = 60.0  # seconds that nothing stays in staging/ or trash/ while its maker lives
_VERY_OLD = 3600.0  # seconds that neither the making of a pool nor a doctor takes


def config(site: Site) -> Check:
    """Whether config.toml and the environment can be used, and what is in it."""
    path = config_path(site.root)
    loaded = load_config(site.root)
    # What the environment says beside the file; they raise what an acquire would.
    checked(Options(), loaded.pool(os.environ.get("LEASECAP_POOL") or "any"))
    if not os.path.lexists(path):
        return Check("config", "ok", "no config.toml: presets hold, and what agents declare with --limit")
    if os.path.islink(path):
        path = f"{path} (a link to {os.path.realpath(path)})"
    return Check("config", "ok", f"{path}, pools: {len(loaded.pools)}, commands: {len(loaded.commands)}")


def kinds_of_lock(root: str) -> list[str]:
    """The values of ``lock`` to prove: what a new pool gets, and what pools have."""
    try:
        loaded = load_config(root)
        kinds = {str(loaded.defaults.get("lock", "auto")), *(loaded.pool(name.text).lock for name in loaded.pools)}
    except LeasecapError:
        kinds = {"auto"}  # the check of the configuration says what is wrong
    try:
        kinds |= {pool.lock for pool in status().pools if pool.lock is not None}
    except (LeasecapError, OSError):
        pass  # so does the check of the pools
    if "auto" in kinds:
        kinds.discard("os")
    return sorted(kinds)


def pools() -> Check:
    """Whether every pool can be opened."""
    seen = status()
    found = seen.pools
    errors = [error for error in (seen.error, *(pool.error for pool in found)) if error is not None]
    if errors:
        first, newline, remedy = errors[0].partition("\n")
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return refused("pools", first + more + newline + remedy)
    used = [pool for pool in found if pool.lock is not None]
    for pool in used:
        _open_lock(pool)
    idle = sum(not (pool.holders or pool.waiters) for pool in used)
    if not used:
        return Check("pools", "ok", "none used yet")
    held, waiting = sum(pool.in_flight for pool in used), sum(pool.waiting for pool in used)
    kinds = " and ".join(sorted({"OS locks" if pool.lock == "os" else "a lock directory" for pool in used}))
    counts = f"{len(used)} with {kinds}, {idle} idle; {held} in flight, {waiting} waiting"
    passed = [one for pool in used for one in pool.waiters if one.state in ("stopped", "deaf")]
    if not passed:
        return Check("pools", "ok", counts)
    processes = ", ".join(sorted({f"pid {one.pid} ({one.state})" for one in passed}))
    remedy = f"they keep their places, and go on when they run (kill -CONT PID, or fg): {processes}"
    return Check("pools", "note", f"{counts}, {len(passed)} of them passed over", remedy)


def _open_lock(pool: PoolStatus) -> None:
    """:raises StoreError: when an acquire couldn't open it."""
    if pool.lock == "os":
        directory = Directory(pool.path)
        try:
            OsLock(runtime.own.effects, directory).close()
        finally:
            directory.close()


def leftovers(site: Site) -> Check:
    """What dead processes have left. Shown, never removed: none of it counts as held."""
    seen = status().pools
    dead = [one for pool in seen for one in pool.holders if not one.alive]
    gone = [one for pool in seen for one in pool.waiters if not one.alive]
    counts = {
        "of dead holders": len(dead),
        "of dead waiters": len(gone),
        "in staging/": sum(_stale(pool, STAGING) for pool in seen),
        "in trash/": sum(_stale(pool, TRASH) for pool in seen),
        "in wake/": _deaf(site.root),
    }
    thefts = sum(len(_names(os.path.join(pool.path, STOLEN))) for pool in seen)
    abandoned = sorted(_abandoned(site.root))
    found = [f"{number} {what}" for what, number in counts.items() if number]
    remedy = ["harmless: whoever next waits for a slot clears that away"] if found else []
    if thefts:
        found.append(f"{thefts} in stolen/")
        remedy.append("harmless: each mark in stolen/ is a lock taken from a dead process; they may stay")
    if abandoned:
        found.append(f"{len(abandoned)} half-made")
        remedy += ["never used by anybody; to remove it:", *(f"  rm -r {path}" for path in abandoned)]
    if not found:
        return Check("leftovers", "ok", "none")
    return Check("leftovers", "note", ", ".join(found), "\n".join(remedy))


def _stale(pool: PoolStatus, where: str) -> int:
    """How many entries in ``where`` have no living maker, or are older than any takes to make or delete."""
    if pool.error is not None or pool.lock is None:
        return 0
    opened = open_existing(runtime.own.effects, os.path.dirname(os.path.dirname(pool.path)), pool_name(pool.pool))
    try:
        observer = Observer(runtime.own.effects, opened, stale_after=STALE_AFTER, heartbeat=HEARTBEAT)
        path = os.path.join(pool.path, where)
        return sum(
            _age(os.path.join(path, name)) > _OLD or not observer.judge(where, name).alive for name in _names(path)
        )
    finally:
        opened.directory.close()


def _deaf(root: str) -> int:
    """How many wake-ups have no process any more."""
    path = os.path.join(root, "wake")
    names = _names(path)
    if not names:
        return 0
    wake = Directory(path)
    try:
        return sum(name[0] != "." and wake.hears(f"{name}/{WAKEUP}") is False for name in names)
    finally:
        wake.close()


def _abandoned(root: str) -> Iterator[str]:
    """Pools half-made, and what a killed doctor has left."""
    for directory, prefix in ((os.path.join(root, "pools"), ".new-"), (root, SCRATCH)):
        for name in _names(directory):
            path = os.path.join(directory, name)
            if name.startswith(prefix) and _age(path) > _VERY_OLD:
                yield path


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def _age(path: str) -> float:
    """Seconds since it was changed; 0 if it has just gone."""
    try:
        return time.time() - os.lstat(path).st_mtime
    except FileNotFoundError:
        return 0.0
