"""Which processes have to look after something was done inside the section."""

from __future__ import annotations

from leasecap._decisions.admission import OPEN
from leasecap._decisions.entry import parse_entry, process_of
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from leasecap._decisions.entry import Entry
    from leasecap._decisions.grants import Plan
    from leasecap._decisions.snapshot import Snapshot


class Done(NamedTuple):
    """What was done inside the section, and from what it was decided.

    :ivar missed: a ticket that was to be granted was gone.
    :ivar behind: a ticket that stands right behind the one that has just queued.
    :ivar lowers: the one that has just queued declares a limit that holds while its process lives.
    :ivar asks_at_once: a slot was released, and the provider is to be asked whether somebody may have it.
    """

    plan: Plan
    snapshot: Snapshot
    granted: list[Entry]
    missed: bool
    behind: tuple[Entry, ...] = ()
    lowers: bool = False
    asks_at_once: bool = False

    @property
    def others_wait(self) -> bool:
        """Whether somebody still waits after the grants."""
        return len(self.snapshot.queue) > len(self.plan.grant)


def whom_to_notify(done: Done, others_see_exits: bool) -> Iterable[Entry]:
    """A ticket of each process that has to look.

    These are the processes that have become the first, that have another process right ahead of them than before, that
    are to ask the provider, and that were passed over, which look as soon as they run.

    :param others_see_exits: the first two may rest (`exits`), and have to know whose exit matters now.
    """
    away = done.snapshot.away
    passed = [parse_entry(name) for name in done.snapshot.queue.names if process_of(name) in away] if away else []
    has_moved = others_see_exits and (done.granted or done.lowers or done.snapshot.admission != OPEN)
    stay = done.plan.stay if done.asks_at_once or has_moved else ()
    tickets = (*passed, *done.plan.behind, *done.behind, *stay, *done.plan.first)
    return {ticket.process: ticket for ticket in tickets}.values()
