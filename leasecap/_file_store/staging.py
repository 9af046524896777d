"""What dead processes left in ``staging/``."""

from __future__ import annotations

import math

from leasecap._decisions.places import STAGING
from leasecap._file_store.lock_directory import STAGED_LOCK
from leasecap._file_store.observer import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.layout import Pool
    from leasecap._host.effects import Effects

_PROBED = 8
"""Entries that whoever needs a new one looks at, if there are many. More than one, so that they get fewer while there
are dead ones."""


def dead_in_staging(effects: Effects, pool: Pool) -> list[str]:
    """The names of a few entries whose processes are dead."""
    # An observer for this look alone, which proves no death by heartbeats: the next look is for others.
    observer = Observer(effects, pool, stale_after=math.inf, heartbeat=0.0)
    try:
        names = [name for name in pool.directory.list(STAGING) if not name.startswith(STAGED_LOCK)]
        return [name for name in some_of(names, _PROBED, effects.token()) if not observer.lives(STAGING, name)]
    except OSError:
        return []  # what can't be looked at fails nobody's request


def some_of(names: list[str], number: int, token: str) -> list[str]:
    """So many of them, others each time."""
    first = int(token, 16) % max(len(names), 1)
    return (names[first:] + names[:first])[:number]
