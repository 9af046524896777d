"""`leasecap release`: give a lease back by its id."""

from __future__ import annotations

import os
import sys

import click

from leasecap import _ancestry
from leasecap._decisions.places import LEASES
from leasecap._errors import LeasecapError
from leasecap._faults import faults
from leasecap._host.process import ancestors_of
from leasecap._redact import printable
from leasecap.cli._pools import complete_lease
from leasecap.cli._say import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._status.read import Holder


@click.command("release", cls=Verb)
@click.argument("lease", metavar="LEASE", shell_complete=complete_lease)
@click.option("--yes", is_flag=True, help="Don't ask, even if the lease is somebody else's.")
def command(lease: str, yes: bool) -> None:
    """Release the lease with the id LEASE (its first characters will do).

    One's own is released at once: that of a process one was started by, or one that nobody holds any more. For somebody
    else's it asks: its holder runs on, and its slot is given to the next. The holder is told.
    """
    from leasecap._api import pool_store
    from leasecap._status.read import status

    seen = status()
    found = [(pool, holder) for pool in seen.pools for holder in pool.holders if lease and holder.id.startswith(lease)]
    if not found:
        where = "is held"
        if seen.error or any(pool.error for pool in seen.pools):
            where = "is found, and not all pools can be read"
        raise LeasecapError(f"no lease {printable(lease, 40)!r} {where}; `leasecap status` shows those that are held")
    if len(found) > 1:
        ids = ", ".join(holder.id for _, holder in found)
        raise LeasecapError(f"{printable(lease, 40)!r} could be any of {ids}: give more of it")
    pool, holder = found[0]
    if not (yes or _is_own(holder)):
        who = f"pid {holder.pid} ({printable(holder.label or holder.command or '', 60)})"
        what = f"lease {holder.id} of pool {printable(pool.pool, 60)} is held by {who}, which would run on without it"
        if not sys.stdin.isatty():
            raise LeasecapError(f"{what}: to release it all the same, give --yes")
        if not click.confirm(f"{what}. Release it?", err=True):
            raise LeasecapError("not released")
    store = pool_store(pool.pool)
    with faults(store.directory.full(LEASES)):
        names = [entry.name for entry in store.snapshot().leases if holder.id in (entry.token, entry.name)]
        ended = any(store.end(name) for name in names)
    if not ended:
        raise LeasecapError(f"lease {holder.id} was released meanwhile")
    click.echo(f"released {holder.id} of pool {printable(pool.pool, 60)}")


def _is_own(holder: Holder) -> bool:
    if not holder.alive or any(entry.rpartition("/")[2] == holder.id for entry in _ancestry.current()):
        return True
    return holder.host is None and holder.pid in (os.getpid(), *ancestors_of(os.getpid()))
