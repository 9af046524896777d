"""Who gets a slot, what goes back to the queue, when to look again: pure decisions.

No clock, no file, no environment here: a snapshot and the time come in, a plan goes out. The plan is always computed
from the whole snapshot, never "one came free, so grant one": so it can be carried out by anyone, at any time, again.
"""

from __future__ import annotations

import sys

from leasecap import _entry
from leasecap._entry import Group
from leasecap._named_tuple import NamedTuple
from leasecap._rules import OPEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from leasecap._entry import Entry
    from leasecap._rules import Admission

UNLIMITED = sys.maxsize
"""The limit of a pool for which a person wrote ``unlimited``. An int, so that the lowest limit is plain ``min()``."""

ACKNOWLEDGE_WITHIN = 2.0
"""Seconds a grant may stay unacknowledged before it goes back to the queue. A waiter that runs looks at least once a
second (`FAR_LOOK`) or is woken, once more by whoever sees its grant: only one that is stopped, or whose event loop is
blocked, is this late."""

SWEEP_EVERY = 0.1
"""Seconds between the looks of the first two in the queue. Either of them sweeps once per period or sees that the other
did, so a killed holder's slot is granted within two periods: inside the promised 300 ms."""

FAR_SWEEP = 1.0
"""The same for the first two while the end of every holder wakes them (`_ends`); and for those further back, who sweep
when the first two don't: dead or stopped, they would keep a killed holder's slot from everybody."""

FIRST_LOOK = 0.0015
"""Seconds between looks of a waiter that has just come near the head."""

FAR_LOOK = 1.0
"""Seconds between looks, at most, for who is not woken and for who is near the head."""

SELDOM_LOOK = 10.0
"""Seconds between looks, at most, of who is woken and stands far back."""

NOBODY = Group()


class Snapshot(NamedTuple):
    """A pool at one moment.

    :ivar configured: the limit from configuration, or None.
    :ivar queue: tickets that wait.
    :ivar parked: tickets whose owner did not acknowledge a grant; passed over until it moves.
    :ivar granted: granted, not yet acknowledged; they count as held.
    :ivar leases: held.
    :ivar dead: names of entries whose process is provably gone.
    :ivar granted_since: for names in ``granted``, when the observer first saw them there (its own monotonic clock).
    :ivar suspect: names of grants made inside a lock directory after it was stolen from the granter.
    :ivar cooling: leases that have ended and count for a while longer.
    :ivar newcomer: the name in ``queue`` that hasn't queued yet.
    :ivar admission: what the provider's answers allow.
    """

    configured: int | None
    queue: Group = NOBODY
    parked: Group = NOBODY
    granted: Group = NOBODY
    leases: Group = NOBODY
    dead: frozenset[str] = frozenset()
    granted_since: Mapping[str, float] = {}
    suspect: frozenset[str] = frozenset()
    cooling: Group = NOBODY
    newcomer: str | None = None
    admission: Admission = OPEN


class Plan(NamedTuple):
    """What is to be done, in this order. Doing a part of it is safe: each step alone keeps the cap.

    :ivar revoke: suspect leases above the limit; their holders are told that they are lost.
    :ivar take_back: grants that go back to the queue, parked.
    :ivar first: tickets that this makes one of the first two in the queue, who sweep; they are told.
    :ivar stay: those that were one of them before; they are told if they rest (`_ends`).
    :ivar over: whether more is held than the limit allows (it was lowered, or a lock directory was stolen).
    :ivar high: the load that the grants lead to, if it is the highest since a pause.
    :ivar spent: whether one of them is given on the provider's answer.
    :ivar ask: whether the provider has to be asked before anybody is granted anything more.
    :ivar pressed: whether the reduced limit alone keeps a ticket waiting.
    """

    reap: tuple[Entry, ...]
    revoke: tuple[Entry, ...]
    take_back: tuple[Entry, ...]
    grant: tuple[Entry, ...]
    first: tuple[Entry, ...]
    stay: tuple[Entry, ...]
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
    dead = snapshot.dead
    late = _late(snapshot, now) if snapshot.granted else frozenset()
    full = full_limit(snapshot)
    held = snapshot.leases
    if dead or snapshot.granted:
        held = Group(dict.fromkeys((*snapshot.granted.names, *held.names))).without(dead | late)
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
    grants = _Grants(snapshot, loads, _reduced(full, snapshot.admission))
    queue = sorted(snapshot.queue.names)
    for name in queue:
        if len(grants.left) > 1 and not snapshot.queue.nested:
            break  # the others have nobody to borrow from
        ticket = _entry.parse(name)
        if name not in dead and ticket.token and (len(grants.left) < 2 or ticket.ancestors):
            grants.consider(ticket)
    were_first = queue[:2]
    return Plan(
        reap=_of(dead, snapshot.queue, snapshot.parked, snapshot.granted, snapshot.leases),
        revoke=_of(excess, snapshot.leases),
        take_back=_of((late | excess) - dead, snapshot.granted),
        grant=tuple(grants.granted),
        first=tuple([ticket for ticket in grants.left[:2] if ticket.name not in were_first]),
        stay=tuple([ticket for ticket in grants.left[:2] if ticket.name in were_first]),
        over=over,
        high=grants.high,
        spent=grants.spent,
        ask=grants.ask,
        pressed=grants.pressed,
    )


def _of(names: Collection[str], *groups: Group) -> tuple[Entry, ...]:
    """The entries of those names."""
    return tuple(entry for group in groups for entry in group if entry.name in names) if names else ()


def _late(snapshot: Snapshot, now: float) -> frozenset[str]:
    """Names of grants that should have been acknowledged by now."""
    since, acknowledged = snapshot.granted_since, frozenset(snapshot.leases.names)  # while the listings were read
    return frozenset(
        name
        for name in snapshot.granted.names
        if now - since.get(name, now) >= ACKNOWLEDGE_WITHIN and name not in acknowledged
    )


class _Grants:
    """Who is granted a slot, the tickets being considered in queue order.

    :ivar left: those who aren't, as far as that matters.
    """

    def __init__(self, snapshot: Snapshot, loads: Loads, limit: int | None) -> None:
        self.granted: list[Entry] = []
        self.left: list[Entry] = []
        self.high: int | None = None
        self.spent = self.ask = self.pressed = False
        self._loads = loads
        self._newcomer = snapshot.newcomer
        self._admission = snapshot.admission
        self._limit = limit
        self._blocked = self._limit is None or self._admission.closed

    def consider(self, ticket: Entry) -> None:
        added = self._loads.added_by(ticket)
        # Unchanged is granted even above the limit, where a lowered limit has left more leases than slots: a lender
        # that waits for its borrower would otherwise never end, and the pool never drain.
        if not self._admission.closed and (added == 0 or self._may_raise(ticket, self._loads.total + added)):
            self._loads.add(ticket)
            self.granted.append(ticket)
        else:
            self._blocked = True  # nobody passes the head
            self.left.append(ticket)

    def _may_raise(self, ticket: Entry, load: int) -> bool:
        limit, admission = self._limit, self._admission
        if self._blocked or limit is None:
            return False
        if load > limit:
            self.pressed = limit == admission.limit
            return False
        high = admission.high if self.high is None else self.high
        raises = high is not None and load > high
        if raises and (not admission.raises or self.high is not None):
            return False
        # A newcomer that leaves a slot free takes nobody's, whatever the provider still counts.
        gated = admission.answers is not None and not (ticket.name == self._newcomer and load < limit)
        if gated and (self.spent or not admission.answers or admission.counted >= limit):
            self.ask = True
            return False
        if raises:
            self.high = load
        self.spent = self.spent or gated
        return True


def in_flight(snapshot: Snapshot) -> int:
    """The load of all that is held."""
    return Loads(Group(dict.fromkeys((*snapshot.granted.names, *snapshot.leases.names)))).total


def effective_limit(snapshot: Snapshot) -> int | None:
    """The limit that holds now: `full_limit`, or less while the provider takes less; None if there is none."""
    return _reduced(full_limit(snapshot), snapshot.admission)


def _reduced(full: int | None, admission: Admission) -> int | None:
    return full if full is None or admission.limit is None else min(full, admission.limit)


def full_limit(snapshot: Snapshot) -> int | None:
    """The lowest of the configured limit and those declared by anyone who holds or waits; None if there is none."""
    groups: tuple[Group, ...] = (snapshot.queue, snapshot.parked, snapshot.granted, snapshot.leases)
    if snapshot.dead:
        groups = tuple(group.without(snapshot.dead) for group in groups)
    limits = [group.lowest for group in groups if group.names]
    return min([limit for limit in (snapshot.configured, *limits) if limit is not None], default=None)


class Loads:
    """How many slots a set of leases really takes, with borrowing.

    A lease's *lender* is its nearest ancestor among the leases. A lease's load is the greater of its own slot and the
    sum of its borrowers' loads: the lender waits while its borrowers work. The pool's load is the sum over the leases
    without a lender. Nothing is stored about who borrowed from whom, and removing any lease never raises the load.
    """

    __slots__ = ("_borrowed", "_lender", "_load", "_unread", "total")

    def __init__(self, leases: Group = NOBODY) -> None:
        self._load: dict[str, int] = {}
        self._lender: dict[str, str] = {}
        self._borrowed: dict[str, int] = {}
        self._unread: Group | None = None
        if not leases.nested:
            # Most leases run under no other: they are counted, and read when somebody might borrow from them.
            self._unread = leases
            self.total = len(leases)
            return
        self.total = 0
        held = {lease.token or lease.name: lease for lease in leases}
        # A lender has to be added before its borrowers. Orders are no help: those of two time namespaces don't compare.
        for lease in held.values():
            line: list[Entry] = []
            upward: Entry | None = lease
            while upward is not None and upward not in line and (upward.token or upward.name) not in self._load:
                line.append(upward)
                upward = next((held[token] for token in upward.ancestors if token in held), None)
            while line:
                self.add(line.pop())

    def lender_of(self, entry: Entry) -> str | None:
        """The token of the lease whose slot ``entry`` may use."""
        if self._unread is not None and entry.ancestors:
            self._load |= {lease.token or lease.name: 1 for lease in self._unread}
            self._unread = None
        return next((token for token in entry.ancestors if token in self._load), None)

    def added_by(self, entry: Entry) -> int:
        """How much the pool's load would grow: 0 (it borrows) or 1."""
        lender = self.lender_of(entry)
        while lender is not None:
            if self._borrowed.get(lender, 0) + 1 <= self._load[lender]:
                return 0  # the lender's own slot, or one that its other borrowers gave up, covers it
            lender = self._lender.get(lender)
        return 1

    def add(self, entry: Entry) -> None:
        """Count ``entry`` as held."""
        token = entry.token or entry.name
        lender = self.lender_of(entry)
        self._load[token] = 1
        if lender is not None:
            self._lender[token] = lender
        while lender is not None:
            self._borrowed[lender] = self._borrowed.get(lender, 0) + 1
            if self._borrowed[lender] <= self._load[lender]:
                return
            self._load[lender] += 1
            lender = self._lender.get(lender)
        self.total += 1


class Wait(NamedTuple):
    """What a waiter knows when it asks how long to rest.

    :ivar position: its place in the queue, 1 for the head; 0 when it has just been parked or can't tell.
    :ivar limit: the effective limit.
    :ivar waited: seconds since it queued.
    :ivar near_for: seconds since it came near the head.
    :ivar rate: tickets per second that it has seen go before it, or 0.0 when none has.
    :ivar watched: a wake-up reaches it.
    :ivar covered: so does the end of each holder, and nothing else can come to be due.
    """

    position: int
    limit: int
    waited: float
    near_for: float
    rate: float
    watched: bool
    covered: bool = False


def is_near(position: int, limit: int) -> bool:
    """Whether a waiter may be granted at any moment; the first two always are, since they sweep."""
    return position <= max(limit, 2)


def rest(wait: Wait) -> float:
    """Return the seconds until the next look, if no wake-up comes first.

    Who is woken (also on becoming one of the first two) looks only to sweep, or in case all ahead are stopped: the more
    seldom the further back, which took 100 idle waiters from 150 looks in a second to 16 (`scripts/bench`, F). Else
    near the head every 1.5 ms, growing to 1/128 of the time spent there: a grant is then seen late by 0.4 % of the wait
    on average, and a wait of a minute costs some 1000 looks. Further back, half the time that the queue seems to need
    to bring the waiter near the head.
    """
    if wait.watched:
        if wait.position <= 2:
            return FAR_SWEEP if wait.covered else SWEEP_EVERY
        return min(max(wait.position - 2, FAR_LOOK), SELDOM_LOOK)
    if is_near(wait.position, wait.limit):
        return min(max(wait.near_for / 128, FIRST_LOOK), SWEEP_EVERY)
    ahead = wait.position - wait.limit
    guess = ahead / wait.rate / 2 if wait.rate > 0 else max(wait.waited / 4, FIRST_LOOK * ahead)
    return min(max(guess, FIRST_LOOK), FAR_LOOK)
