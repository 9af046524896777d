"""What is in the root: the configuration, the pools, and what dead processes have left."""

from __future__ import annotations

import os
import shlex
import time

from leasecap._config.config import config_path, load_config
from leasecap._config.pool_name import pool_name
from leasecap._doctor.check import Check, refused
from leasecap._doctor.place import SCRATCH
from leasecap._errors import LeasecapError
from leasecap._request import Options, checked
from leasecap._runtime import runtime
from leasecap._status.read import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from leasecap._doctor.check import Site

_ON_DISK = ("os", "directory")
_KINDS = {"os": "OS locks", "server": "a server"}
_VERY_OLD = 3600.0  # seconds; no doctor takes so long


def config(site: Site) -> Check:
    """Whether config.toml and the environment can be used, and what config.toml says."""
    path = config_path(site.root)
    loaded = load_config(site.root)
    # The environment has a say beside the file. These raise what an acquire would raise.
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
        kinds |= {pool.lock for pool in status().pools if pool.lock in _ON_DISK}
    except (LeasecapError, OSError):
        pass  # the check of the pools says what is wrong
    if "auto" in kinds:
        kinds.discard("os")
    return sorted(kinds)


def pools(site: Site) -> Check:
    """Whether every pool can be opened."""
    seen = status()
    found = seen.pools
    errors = [error for error in (seen.error, *(pool.error for pool in found)) if error is not None]
    if errors:
        first, newline, remedy = errors[0].partition("\n")
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return refused("pools", first + more + newline + remedy)
    used = [pool for pool in found if pool.lock is not None]
    health = runtime.health(site.root)
    for pool in used:
        if pool.lock in _ON_DISK:
            health.check_pool(pool_name(pool.pool))
    idle = sum(not (pool.holders or pool.waiters) for pool in used)
    if not used:
        return Check("pools", "ok", "none used yet")
    held, waiting = sum(pool.in_flight for pool in used), sum(pool.waiting for pool in used)
    kinds = " and ".join(sorted({_KINDS.get(pool.lock or "", "a lock directory") for pool in used}))
    counts = f"{len(used)} with {kinds}, {idle} idle; {held} in flight, {waiting} waiting"
    passed = [one for pool in used for one in pool.waiters if one.state in ("stopped", "deaf")]
    if not passed:
        return Check("pools", "ok", counts)
    processes = ", ".join(sorted({f"pid {one.pid} ({one.state})" for one in passed}))
    remedy = f"they keep their places, and go on when they run (kill -CONT PID, or fg): {processes}"
    return Check("pools", "note", f"{counts}, {len(passed)} of them passed over", remedy)


def leftovers(site: Site) -> Check:
    """What dead processes have left. It is shown and never removed: none of it counts as held."""
    seen = status().pools
    dead = [one for pool in seen for one in pool.holders if not one.alive]
    gone = [one for pool in seen for one in pool.waiters if not one.alive]
    names = [pool_name(pool.pool) for pool in seen if pool.error is None and pool.lock in _ON_DISK]
    left = runtime.health(site.root).leftovers(names)
    abandoned = sorted([*left.half_made, *_scratch(site.root)])
    counts = {"of dead holders": len(dead), "of dead waiters": len(gone), **left.counts}
    found = [f"{number} {what}" for what, number in counts.items() if number]
    remedy = ["harmless: whoever next waits for a slot clears that away"] if found else []
    if left.thefts:
        found.append(f"{left.thefts} in stolen/")
        remedy.append("harmless: each mark in stolen/ is a lock taken from a dead process; they may stay")
    if abandoned:
        found.append(f"{len(abandoned)} half-made")
        remedy += ["never used by anybody; to remove it:", *(f"  rm -r {shlex.quote(path)}" for path in abandoned)]
    if not found:
        return Check("leftovers", "ok", "none")
    return Check("leftovers", "note", ", ".join(found), "\n".join(remedy))


def _scratch(root: str) -> Iterator[str]:
    """The directories that a killed doctor has left."""
    for name in os.listdir(root):
        path = os.path.join(root, name)
        try:
            if name.startswith(SCRATCH) and time.time() - os.lstat(path).st_mtime > _VERY_OLD:
                yield path
        except FileNotFoundError:
            pass  # somebody has just removed it
