"""The one entry that an agent has in a pool (`leasecap acquire --for-pid`), however often its hooks ask for a slot.

Hooks don't come in pairs: none runs after Esc, and two prompts can be sent at once. An agent's next request would then
wait for what the agent holds itself. So inside the section, where its slot would be granted, a hook looks whether the
agent has a lease, or whether another of its hooks waits for one. If so, it shares that lease and doesn't queue.
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

_PLACES = (PARKED, QUEUE, PARKED, GRANTED, LEASES)
"""In this order no entry is missed: while this process is inside the section, entries move only between ``parked/`` and
the queue, and from ``granted/`` to ``leases/``."""


FIRST_LOOK, LONGEST_LOOK = 0.02, 0.25
"""Seconds between looks at what became of the other hook's ticket: its grant wakes that hook and not this process."""


class AgentsEntry(NamedTuple):
    """What an agent has in a pool.

    :ivar held: whether the agent holds it; else one of its hooks waits, or is about to hand it over.
    """

    entry: Entry
    record: Record
    held: bool


def entry_of(store: Store, agent: Child) -> AgentsEntry | None:
    """What the agent has in the pool and whose owner lives. Only inside the section it stays true."""
    for where in _PLACES:
        for name in store.directory.list(where):
            if name[0] == ".":
                continue
            record = store.observer.record(where, name)
            if record is not None and is_for(store, record, agent) and store.observer.lives(where, name):
                return AgentsEntry(parse_entry(name), record, where == LEASES and record.proof == "pid")
    return None


def is_for(store: Store, record: Record, agent: Child) -> bool:
    """Whether the record says that the agent holds the entry, or that a hook asks for it in the agent's name."""
    holder = (record.pid, record.start) if record.proof == "pid" else record.agent
    return holder == agent and comparable(record, store.effects.me())


def is_pending(store: Store, found: AgentsEntry) -> bool:
    """Whether the hook that asked for it lives, and the agent doesn't hold it yet."""
    name = found.entry.name
    for where in (*_PLACES, QUEUE):  # once more in the queue: it may have gone back there meanwhile
        record = store.observer.record(where, name)
        if record is not None:
            return record.proof != "pid" and store.observer.lives(where, name)
    return False


def take_place(store: Store, found: AgentsEntry) -> bool:
    """Remove the ticket of a hook that is stopped: nobody would grant it a slot. When it goes on it finds the lease.

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
    """Let the time of the agent's lease begin anew, as if it had just been granted; False if the lease is gone."""
    effects, path = store.effects, f"{LEASES}/{found.entry.name}"
    now = effects.boot_clock()
    record = found.record._replace(max_hold=max_hold, kill_after=kill_after)
    try:
        # The beginning is written first: with the new bound and the old beginning its time could be over.
        store.directory.overwrite(f"{path}/alive", encode_stamp(now, now, effects.monotonic(), now))
        if record != found.record:
            store.directory.replace(f"{path}/info.json", encode_record(record))
    except FileNotFoundError:
        return False
    return True
