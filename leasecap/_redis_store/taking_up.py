"""Taking up a grant on its message, while the store's answer is on its way.

The slot is the call's from the message on: a grant stands for `ACKNOWLEDGE_WITHIN` seconds before it is given to
another. What takes it up is sent before the call returns, so no process that stops, or keeps its threads from running,
is taken for one that doesn't run. Until the answer comes the lease is one that ends when the grant would.
"""

from __future__ import annotations

import threading
from functools import partial

from leasecap._decisions.grants import ACKNOWLEDGE_WITHIN
from leasecap._errors import LeasecapError
from leasecap._named_tuple import NamedTuple
from leasecap._redis_store.renewals import Kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._liveness.record import Record
    from leasecap._redis_store.answer import Answer
    from leasecap._redis_store.open_pool import OpenPool

STANDS_FOR = ACKNOWLEDGE_WITHIN - 0.1
"""Seconds after a grant at which its holder takes it for lost, unless the store has answered; that waits longer."""

LATEST = ACKNOWLEDGE_WITHIN / 2
"""Seconds after a grant at which a message is late: too little is left for an answer, so the ticket looks."""

_LEAST = STANDS_FOR - LATEST
"""Seconds for an answer, at least: who has less until its ticket's own time is over looks."""

_TICK = 0.001  # seconds: the store counts whole milliseconds
_AGAIN = 0.1  # seconds between tries while the store can't be asked


class Looked(NamedTuple):
    """The last look by which a ticket waits.

    :ivar sent: when it was sent (boot clock, seconds).
    :ivar seen: when the store saw it, by the store's clock (seconds).
    """

    sent: float
    seen: float


def granted_at(notice: float, looked: Looked, now: float) -> float | None:
    """The first moment at which a grant can have been made (boot clock, seconds); None: the ticket has to look.

    :param notice: when it was made by the store's clock, as its message has it. If that isn't later than the last look,
        the grant was taken back since.
    :param now: boot clock, seconds. If the grant seems to come later, the store's clock was moved.
    """
    granted = looked.sent + notice - looked.seen
    return min(granted, now) if notice > looked.seen and granted - _TICK <= now < granted + LATEST else None


def take_up(store: OpenPool, ticket: Kept, record: Record, notice: float, looked: Looked) -> TakingUp | None:
    """Take up the grant of which a message has come; None: the ticket has to look.

    :param record: what it says as a lease.
    :param notice, looked: see `granted_at`.
    """
    if store.pool.holding.when_unsure == "end":
        return None  # what runs would be ended where the store is slow to answer
    sent = store.boot_clock()
    left = ticket.sent + ticket.ttl - sent
    granted = granted_at(notice, looked, sent) if left >= _LEAST else None
    answer = None if granted is None else store.pool.begin_look(ticket.name[21:37])
    if granted is None or answer is None:
        return None
    kept = Kept(store.pool, ticket.name, granted, record, lambda: None, is_lease=True)
    kept.ttl = min(STANDS_FOR, ticket.sent + ticket.ttl - granted)
    return TakingUp(store, kept, sent, answer)


class TakingUp:
    """A lease whose holder goes on while the store is asked.

    :ivar kept: what is renewed once the store has answered.
    """

    def __init__(self, store: OpenPool, kept: Kept, sent: float, answer: Callable[[], Answer]) -> None:
        """
        :param sent: when the look was sent (boot clock, seconds).
        :param answer: waits for the answer to it.
        """
        self.kept = kept
        self._store = store
        self._token = kept.name[21:37]
        self._sent = sent
        self._ask = answer
        self._lock = threading.RLock()  # a garbage collection may end the lease while it is held
        self._asks = self._is_over = False
        kept.settle = self.settle

    def follow(self) -> None:
        """Ask until the store has answered, or the lease has ended. It blocks."""
        self.settle()
        if not self._is_over:
            own = self._store.own
            own.alarms.set(self, own.effects.monotonic() + _AGAIN, partial(own.answers.do, self._ask_again))

    def _ask_again(self) -> None:
        if self._store.own.renewals.keeps(self.kept):
            self.follow()

    def settle(self) -> None:
        """Wait for the answer, unless it has come; never raises. Who ends the lease, or tells of it, does so before."""
        with self._lock:
            if self._is_over or self._asks:
                return
            self._asks = True
            # Whatever is raised here, a signal's handler being one: an answer can be waited for only once.
            ask, self._ask = self._ask, self._look
            try:
                found = ask()
                is_held = found.state == "held" or (
                    found.state == "gone" and self._store.own.renewals.adopts(self.kept)
                )
            except LeasecapError:
                return
            finally:
                self._asks = False
            self._is_over = True
        if is_held:
            self._confirm(found)
        else:
            self._lose(found)

    def _look(self) -> Answer:
        self._sent = self._store.boot_clock()
        return self._store.pool.look(self._token)

    def _confirm(self, found: Answer) -> None:
        self._store.own.renewals.confirm(self.kept, self._sent, found.ttl)
        if found.state != "held" or self.kept.record.max_hold is not None:  # only now the store knows the lease
            self._store.own.errands.do(self.kept.describe)

    def _lose(self, found: Answer) -> None:
        self._store.own.renewals.lose(self.kept)
        if found.state != "gone":  # it was passed over, and by its look it stands in the queue again
            try:
                self._store.pool.end(self._token, by_holder=True)
            except LeasecapError:
                pass  # nobody renews it, so it ends after its ttl
