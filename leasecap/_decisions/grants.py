"""Who gets a slot, and what goes back to the queue: pure decisions.

A snapshot and the time come in, a plan goes out. The plan is always computed from the whole snapshot, and never "one
came free, so grant one". So any process can make it at any time, and make it again.
"""

from __future__ import annotations

from leasecap._decisions.entry import Group, parse_entry, process_of
from leasecap._decisions.limits import full_limit, reduced
from leasecap._decisions.loads import Loads
from leasecap._decisions.snapshot import Snapshot, first_processes, living
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from leasecap._decisions.entry import Entry


ACKNOWLEDGE_WITHIN = 2.0
"""Seconds that a grant may stay unacknowledged before it goes back to the queue. A waiter that runs looks at least once
a second (`polling.FAR_LOOK`), or is woken, and once more by whoever sees its grant. So only a waiter that is stopped,
or whose event loop is blocked, is so late."""


class Plan(NamedTuple):
    """What is to be done, in this order. Doing only a part of it is safe: each step alone keeps the cap.

    :ivar revoke: suspect leases above the limit; their holders find them lost.
    :ivar take_back: grants that go back, into ``parked/``.
    :ivar first: a ticket of each process that this makes one of the first two in the queue, which sweep. They are
        notified.
    :ivar stay: a ticket of each process that is one of the first two and was before. They are notified of grants,
        since they may rest (`exits`).
    :ivar behind: tickets of other processes that stood right behind one that is granted. They are notified.
    :ivar over: whether more is held than the limit allows (it was lowered, or a lock directory was stolen).
    :ivar high: the load that the grants lead to, if it is the highest since a pause.
    :ivar spent: whether one of the grants is given on the provider's answer.
    :ivar ask: whether the provider has to be asked before anybody is granted anything more.
    :ivar pressed: whether the reduced limit alone keeps a ticket waiting.
    """

    revoke: tuple[Entry, ...]
    take_back: tuple[Entry, ...]
    grant: tuple[Entry, ...]
    first: tuple[Entry, ...]
    stay: tuple[Entry, ...]
    behind: tuple[Entry, ...]
    over: bool
    high: int | None = None
    spent: bool = False
    ask: bool = False
    pressed: bool = False


def decide(snapshot: Snapshot, now: float) -> Plan:
    """Return what the snapshot calls for.

    A ticket is granted in queue order while the load stays within the limit, and out of turn only if its grant leaves
    the load unchanged: it borrows the slot of a lease that it runs under (`Loads`).
    """
    snapshot = living(snapshot)
    late = _late(snapshot, now) if snapshot.granted else frozenset()
    full = full_limit(snapshot)
    held = snapshot.leases
    if snapshot.granted:
        held = Group(dict.fromkeys((*snapshot.granted.names, *held.names))).without(late)
    loads = Loads(held)
    over = full is not None and loads.total > full
    excess: set[str] = set()
    suspects = [entry for entry in held if entry.name in snapshot.suspect] if snapshot.suspect else []
    for entry in sorted(suspects, key=lambda entry: (entry.order, entry.name), reverse=True):
        if full is None or loads.total <= full:
            break
        excess.add(entry.name)
        loads = Loads(held.without(excess))
    if snapshot.cooling:
        loads = Loads(Group(dict.fromkeys((*held.without(excess).names, *snapshot.cooling.names))))
        loads.ended = frozenset([lease.token for lease in snapshot.cooling.without(held.names)])
    queue = sorted(snapshot.queue.names)
    grants = _Grants(snapshot, loads, full)
    grants.walk(queue)
    # A process behind one that doesn't run may not know that it is one of the first two that do.
    were_first = first_processes(queue, () if grants.granted else snapshot.away)
    return Plan(
        revoke=_of(excess, snapshot.leases),
        take_back=_of(late | excess, snapshot.granted),
        grant=tuple(grants.granted),
        first=tuple([ticket for ticket in grants.first if ticket.process not in were_first]),
        stay=tuple([ticket for ticket in grants.first if ticket.process in were_first]),
        behind=_right_behind(queue, grants) if grants.granted else (),
        over=over,
        high=grants.high,
        spent=grants.spent,
        ask=grants.ask,
        pressed=grants.pressed,
    )


def _right_behind(queue: list[str], grants: _Grants) -> tuple[Entry, ...]:
    granted, first = {ticket.name for ticket in grants.granted}, {ticket.process for ticket in grants.first}
    behind: list[Entry] = []
    left: str | None = None
    for name in queue:
        if name in granted:
            granted.remove(name)
            left = process_of(name)
        elif left is not None:
            # The first two watch all holders anyway, and are notified by themselves.
            if process_of(name) not in (left, *first):
                behind.append(parse_entry(name))
            left = None
            if not granted:
                break
    return tuple(behind)


def _of(names: Collection[str], *groups: Group) -> tuple[Entry, ...]:
    """The entries with these names."""
    return tuple(entry for group in groups for entry in group if entry.name in names) if names else ()


def _late(snapshot: Snapshot, now: float) -> frozenset[str]:
    """Names of grants that should have been acknowledged by now, or can't be since their process doesn't run."""
    # A grant may have been acknowledged while the listings were read.
    since, acknowledged = snapshot.granted_since, frozenset(snapshot.leases.names)
    return frozenset(
        name
        for name in snapshot.granted.names
        if (now - since.get(name, now) >= ACKNOWLEDGE_WITHIN or process_of(name) in snapshot.away)
        and name not in acknowledged
    )


class _Grants:
    """Grants slots to the tickets, which are considered in queue order.

    :ivar first: the first ticket, among those not granted, of each of the first two processes.
    """

    def __init__(self, snapshot: Snapshot, loads: Loads, full: int | None) -> None:
        self.granted: list[Entry] = []
        self.first: list[Entry] = []
        self.high: int | None = None
        self.spent = self.ask = self.pressed = False
        self._loads = loads
        self._newcomer = snapshot.newcomer
        self._admission = snapshot.admission
        self._limit = limit = reduced(full, snapshot.admission)
        # The provider's own limit, where that alone is in force. It may have been raised since it was asked for.
        self._own_limit = None if limit == full else snapshot.admission.own_limit
        self._blocked = self._limit is None or self._admission.closed
        self._away = snapshot.away
        self._nested = snapshot.queue.nested

    def walk(self, queue: Iterable[str]) -> None:
        """Consider the sorted queue, as far as that matters."""
        known: set[str] = set()  # the first two processes; once no more is granted, the others don't matter
        for name in queue:
            if self._blocked and not self._nested:
                if len(known) > 1:
                    return
                if process_of(name) in known:
                    continue
            ticket = parse_entry(name)
            if not ticket.token or ticket.process in self._away:
                continue
            if (len(known) < 2 or ticket.ancestors or not self._blocked) and not self.consider(ticket):
                if len(known) < 2 and ticket.process not in known:
                    self.first.append(ticket)
                known.add(ticket.process)

    def consider(self, ticket: Entry) -> bool:
        """Grant the ticket a slot if the rules allow it; returns whether they do."""
        added = self._loads.added_by(ticket)
        # A ticket that leaves the load unchanged is granted even above the limit. After a limit was lowered below what
        # runs, a lender that waits for its borrower would otherwise never end, and the pool never drain.
        if not self._admission.closed and (added == 0 or self._may_raise(ticket, self._loads.total + added)):
            self._loads.add(ticket)
            self.granted.append(ticket)
            return True
        self._blocked = True  # nobody passes the head
        return False

    def _may_raise(self, ticket: Entry, load: int) -> bool:
        limit, admission = self._limit, self._admission
        if self._blocked or limit is None:
            return False
        if load > limit:
            self.pressed = limit == admission.limit
            self.ask = limit == self._own_limit
            return False
        high = admission.high if self.high is None else self.high
        raises = high is not None and load > high
        if raises and (not admission.raises or self.high is not None):
            return False
        # A newcomer that leaves a slot free takes nobody's slot, whatever the provider still counts.
        spares = ticket.name == self._newcomer and load < limit and not admission.asks_first
        gated = admission.answers is not None and not spares
        if gated and (self.spent or not admission.answers or admission.counted >= limit):
            self.ask = True
            return False
        if raises:
            self.high = load
        self.spent = self.spent or gated
        return True
