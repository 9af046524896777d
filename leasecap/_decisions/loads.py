"""How many slots a set of leases takes, with borrowing."""

from __future__ import annotations

from leasecap._decisions.entry import Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._decisions.entry import Entry

NOBODY = Group()


class Loads:
    """The load of a set of leases.

    A lease's *lender* is its nearest ancestor among the leases. A lease's load is the greater of its own slot and the
    sum of its borrowers' loads: the lender waits while its borrowers work. The pool's load is the sum over the leases
    without a lender. Nothing is stored about who borrowed from whom, and removing any lease never raises the load.

    :ivar ended: tokens of leases that still count though they have ended; they lend nothing to a newcomer.
    """

    __slots__ = ("_borrowed", "_lender", "_load", "_unread", "ended", "total")

    def __init__(self, leases: Group = NOBODY) -> None:
        self.ended: frozenset[str] = frozenset()
        self._load: dict[str, int] = {}
        self._lender: dict[str, str] = {}
        self._borrowed: dict[str, int] = {}
        self._unread: Group | None = None
        if not leases.nested:
            # Most leases run under no other one. They are only counted, and parsed when somebody might borrow from
            # them.
            self._unread = leases
            self.total = len(leases)
            return
        self.total = 0
        held = {lease.token or lease.name: lease for lease in leases}
        # A lender has to be added before its borrowers. To sort by order would not do: an order is no time.
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
        return next((token for token in entry.ancestors if token in self._load and token not in self.ended), None)

    def added_by(self, entry: Entry) -> int:
        """How much the pool's load would grow: 0 (it borrows) or 1."""
        lender = self.lender_of(entry)
        while lender is not None:
            if self._borrowed.get(lender, 0) + 1 <= self._load[lender]:
                return 0  # the lender's load already counts the slot: its own, or one that another borrower gave up
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
