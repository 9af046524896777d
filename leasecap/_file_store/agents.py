"""The one entry that an agent has in a pool (`leasecap acquire --for-pid`), however often its hooks ask for a slot.

Hooks don't come in pairs: none runs after Esc, and two prompts can be sent at once. An agent's next request would then
wait for what the agent holds itself. So a hook looks, inside the section in which its slot would be granted, whether
the agent has a lease, or another of its hooks waits for one. Then it shares that lease, and never queues beside it.
"""

from __future__ import annotations

from leasecap._decisions.entry import parse_entry
from leasecap._decisions.places import GRANTED, LEASES, PARKED, QUEUE
from leasecap._liveness.record import encode_record
from leasecap._liveness.stamp import encode_stamp
from leasecap._liveness.verdict import comparable
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry
    from leasecap._file_store.store import Store
    from leasecap._liveness.record import Child, Record

_PLACES = (PARKED, QUEUE, GRANTED, LEASES)
"""Inside the section a waiter can go back from ``parked/`` to the queue, or take up its grant, and nothing else moves:
who reads the places in this order misses no entry."""


FIRST_LOOK, LONGEST_LOOK = 0.02, 0.25
"""Seconds between looks at what became of the other hook's ticket: it is not this process that will be woken."""


class AgentsEntry(NamedTuple):
    """What an agent has in a pool.

    :ivar held: whether the agent holds it; else one of its hooks waits, or is about to hand it over.
    """

    where: str
    entry: Entry
    record: Record
    held: bool


def entry_of(store: Store, agent: Child) -> AgentsEntry | None:
    """What the agent has in the pool, as far as that lives. To be relied on inside the section alone."""
    for where in _PLACES:
        for name in store.directory.list(where):
            if name[0] == ".":
                continue
            record = store.observer.record(where, name)
            if record is not None and is_for(store, record, agent) and store.observer.lives(where, name):
                return AgentsEntry(where, parse_entry(name), record, where == LEASES and record.proof == "pid")
    return None


def is_for(store: Store, record: Record, agent: Child) -> bool:
    """Whether the record says that the agent has the entry, or that it is asked for in its name."""
    holder = (record.pid, record.start) if record.proof == "pid" else record.agent
    return holder == agent and comparable(record, store.effects.me())


def is_pending(store: Store, found: AgentsEntry) -> bool:
    """Whether the hook that asked for it lives, and the agent doesn't hold it yet."""
    name = found.entry.name
    for where in (*_PLACES, QUEUE):  # it may go back to the queue meanwhile
        record = store.observer.record(where, name)
        if record is not None:
            return record.proof != "pid" and store.observer.lives(where, name)
    return False


def take_place(store: Store, found: AgentsEntry) -> bool:
    """Remove the ticket of a hook that is stopped, which nobody grants a slot; it finds the lease when it goes on.

    :raises OSError: when it can't be removed.
    """
    visible = store.observer.visible(found.record)
    if visible is None or store.effects.presence(*visible) != "stopped":
        return False
    name = found.entry.name
    for where in (PARKED, QUEUE):
        if store.entries.remove(where, name):
            store.notify_behind(name)
            store.entries.delete(name)
            return True
    return False


def renew(store: Store, found: AgentsEntry, max_hold: float | None, kill_after: float | None) -> bool:
    """Let the time of the agent's lease begin anew, as that of a lease just granted; False if it is no more."""
    effects, path = store.effects, f"{LEASES}/{found.entry.name}"
    now = effects.boot_clock()
    record = found.record._replace(max_hold=max_hold, kill_after=kill_after)
    try:
        # In this order: by the new bound and the old beginning it could be over.
        store.directory.overwrite(f"{path}/alive", encode_stamp(now, now, effects.monotonic(), now))
        if record != found.record:
            store.directory.replace(f"{path}/info.json", encode_record(record))
    except FileNotFoundError:
        return False
    return True
