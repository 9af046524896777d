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
"""Entries that a process looks at before it makes a new one, if there are many. It is more than one, so that they
become fewer while there are dead ones."""


def dead_in_staging(effects: Effects, pool: Pool) -> list[str]:
    """The names of a few entries whose processes are dead."""
    # The observer serves for this look alone, so it can't see a heartbeat stand still.
    observer = Observer(effects, pool, stale_after=math.inf, heartbeat=0.0)
    try:
        names = [name for name in pool.directory.list(STAGING) if not name.startswith(STAGED_LOCK)]
        return [name for name in some_of(names, _PROBED, effects.token()) if not observer.lives(STAGING, name)]
    except OSError:
        return []  # what can't be looked at stays, and no request fails


def some_of(names: list[str], number: int, token: str) -> list[str]:
    """``number`` of the names, others each time."""
    first = int(token, 16) % max(len(names), 1)
    return (names[first:] + names[:first])[:number]
