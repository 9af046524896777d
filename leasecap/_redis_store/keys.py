"""Where a pool stands in a server: the names of its keys, and of the channels by which its waiters are woken.

All keys of a pool have one hash tag, so that a cluster keeps them on one node, where one script can use them all.
Members of the sorted sets are entry names (`_decisions.entry`), which sort in queue order: a range *is* the queue.

    pool      hash: format, limit, policy, clock, feedback, version
    queue     tickets that wait
    passed    tickets that have not taken up a grant; they are passed over until their waiter looks
    granted   entries that are granted and not yet acknowledged, by when
    leases    entries that are held, by when they were granted
    expiries  every entry, by when it ends unless its process renews it
    records   what each entry says of its process, by token
    names     the name of each entry, by token
    declared  the limits that entries declare
    nested    entries that run under another lease
    cooling   leases that have ended and count until then
    ended     tokens of entries that have ended, by when they are forgotten: none of them comes back
    over      leases that may be held for so long, by when they are given away where the policy says so
"""

from __future__ import annotations

from leasecap._liveness.record import Child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._config.pool_name import PoolName
    from leasecap._liveness.record import Record

PARTS = (
    "pool",
    "queue",
    "passed",
    "granted",
    "leases",
    "expiries",
    "records",
    "names",
    "declared",
    "nested",
    "cooling",
    "ended",
    "over",
)


def pool_keys(prefix: str, name: PoolName) -> tuple[str, ...]:
    """The keys of a pool, in the order in which the scripts take them."""
    return tuple(f"{prefix}:{{{name.directory}}}:{part}" for part in PARTS)


def latency_key(prefix: str, name: PoolName) -> str:
    """The hash of how long the requests of a pool took; see `lua.latency`."""
    return f"{prefix}:{{{name.directory}}}:latency"


def pools_key(prefix: str) -> str:
    """The set of names of pools that somebody has used. It is a hint, for lists alone."""
    return f"{prefix}:pools"


def agent_field(record: Record) -> str:
    """The field of the records in which the token stands of what an agent holds or waits for; "" if it is for none.

    No process of another machine or boot has the same. A hook that has its slot makes the agent its holder.
    """
    agent = Child(record.pid, record.start or 0) if record.proof == "pid" else record.agent
    return "" if agent is None else f"@{record.machine}/{record.boot}/{record.pid_ns}/{agent.pid}/{agent.start}"
