"""`leasecap release`: give a lease back, by its id or by who holds it."""

from __future__ import annotations

import os
import sys

import click

from leasecap import _ancestry
from leasecap._errors import LeasecapError, StoreError
from leasecap._faults import faults
from leasecap._host.process import ancestors_of
from leasecap._redact import printable
from leasecap.cli._agents import agent_options, find_agent
from leasecap.cli._picture import called
from leasecap.cli._pools import complete_lease
from leasecap.cli._say import Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._liveness.record import Child
    from leasecap._status.read import Holder, PoolStatus, Status
    from leasecap._store.store import Store
    from leasecap._store.view import LeaseView


@click.command("release", cls=Verb)
@click.argument("lease", metavar="[LEASE]", required=False, shell_complete=complete_lease)
@agent_options
@click.option("--yes", is_flag=True, help="Don't ask, even if the lease is somebody else's.")
def command(lease: str | None, pid: int | None, parent: str | None, yes: bool) -> None:
    """Release the lease with the id LEASE (its first characters will do), or what an agent holds.

    With --for-pid or --for-parent: all that `leasecap acquire` has taken for that process. That it holds nothing is no
    failure: an agent's hooks don't come in pairs. That a pool can't be read is one, once all others are done.

    One's own is released at once: that of a process one was started by, or one that nobody holds any more. For somebody
    else's it asks: its holder runs on, and its slot is given to the next. The holder is told.
    """
    if (lease is None) == (pid is None and parent is None):
        raise click.UsageError("say what to release: LEASE, --for-pid PID or --for-parent [NAME], and one of these")
    if lease is None:
        _release_agents(pid, parent, yes)
        return
    from leasecap._status.read import status

    seen = status()
    found = [(pool, holder) for pool in seen.pools for holder in pool.holders if lease and holder.id.startswith(lease)]
    if not found:
        if trouble := _unread(seen):
            raise LeasecapError(f"no lease {printable(lease, 40)!r} is found, and not all pools can be read: {trouble}")
        raise LeasecapError(f"no lease {printable(lease, 40)!r} is held; `leasecap status` shows those that are")
    if len(found) > 1:
        ids = ", ".join(holder.id for _, holder in found)
        raise LeasecapError(f"{printable(lease, 40)!r} could be any of {ids}: give more of it")
    if not _release(*found[0], yes):
        raise LeasecapError(f"lease {found[0][1].id} was released meanwhile")


def _release_agents(pid: int | None, parent: str | None, yes: bool) -> None:
    from leasecap._status.read import status

    agent = find_agent(pid, parent)
    assert agent is not None
    released, failed = False, ""
    seen = status()
    for pool in seen.pools:
        mine = [holder for holder in pool.holders if holder.pid == agent.process.pid and holder.host is None]
        try:
            leases = _pool(pool).view().leases if mine else ()
            taken = {lease.entry.token for lease in leases if _is_for(lease, agent.process)}
            for holder in mine:
                if holder.id in taken:
                    released |= _release(pool, holder, yes)
        except StoreError as error:  # a server may go away at any time
            failed = failed or str(error)
    if trouble := failed or _unread(seen):
        what = "anything else" if released else "anything"
        raise LeasecapError(
            f"whether pid {agent.process.pid} holds {what} that was taken for it can't be told: {trouble}"
        )
    if not released:
        click.echo(f"pid {agent.process.pid} holds nothing that was taken for it")


def _unread(seen: Status) -> str | None:
    """Why there may be leases that can't be seen. Which servers have pools stands in the configuration."""
    unread = (pool.error for pool in seen.pools if pool.lock is None)
    return next(filter(None, (seen.config_error, *unread, seen.error)), None)


def _is_for(lease: LeaseView, agent: Child) -> bool:
    """Whether `leasecap acquire` has taken it for the agent."""
    record = lease.record
    return record is not None and record.proof == "pid" and (record.pid, record.start) == agent


def _release(pool: PoolStatus, holder: Holder, yes: bool) -> bool:
    """Release one lease; False: it is no more."""
    if not (yes or _is_own(holder)):
        name = printable(called(holder), 60)
        who = f"pid {holder.pid} ({name})" if name else f"pid {holder.pid}"
        what = f"lease {holder.id} of pool {printable(pool.pool, 60)} is held by {who}, which would run on without it"
        if not sys.stdin.isatty():
            raise LeasecapError(f"{what}: to release it all the same, give --yes")
        if not click.confirm(f"{what}. Release it?", err=True):
            raise LeasecapError("not released")
    store = _pool(pool)
    with faults(store.path):
        names = [entry.name for entry in store.view().snapshot.leases if holder.id in (entry.token, entry.name)]
        if not any(store.end(name) for name in names):
            return False
    click.echo(f"released {holder.id} of pool {printable(pool.pool, 60)}")
    return True


def _pool(pool: PoolStatus) -> Store:
    from leasecap._api import pool_store

    return pool_store(pool.pool)


def _is_own(holder: Holder) -> bool:
    if not holder.alive or any(entry.rpartition("/")[2] == holder.id for entry in _ancestry.current()):
        return True
    return holder.host is None and holder.pid in (os.getpid(), *ancestors_of(os.getpid()))
