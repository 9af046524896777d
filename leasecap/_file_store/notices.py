"""Which processes have to look after something was done inside the section."""

from __future__ import annotations

from leasecap._decisions.admission import OPEN
from leasecap._decisions.entry import parse_entry, process_of
from leasecap._named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
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


class Notices(NamedTuple):
    """A ticket of each process that has to be told something.

    :ivar look: these have to look at once who stands ahead of them.
    :ivar first: these are the first two, and look within a period in any case (`Lookout.tell_first`).
    """

    look: tuple[Entry, ...]
    first: tuple[Entry, ...]


def whom_to_notify(done: Done, others_see_exits: bool) -> Notices:
    """Whom to tell.

    These are the processes that have become the first, that have another process right ahead of them than before, that
    are to ask the provider, and that were passed over, which look as soon as they run.

    :param others_see_exits: the first two may rest (`exits`), and have to know whose exit matters now.
    """
    away, is_open = done.snapshot.away, done.snapshot.admission == OPEN
    passed = [parse_entry(name) for name in done.snapshot.queue.names if process_of(name) in away] if away else []
    has_moved = others_see_exits and (done.granted or done.lowers or not is_open)
    first = (*(done.plan.stay if done.asks_at_once or has_moved else ()), *done.plan.first)
    # What the provider's answers allow they see by a sweep alone, and are to make it at once.
    look = _one_each(*passed, *done.plan.behind, *done.behind, *(() if is_open else first))
    return Notices(tuple(look.values()), tuple([ticket for ticket in first if ticket.process not in look]))


def _one_each(*tickets: Entry) -> dict[str, Entry]:
    return {ticket.process: ticket for ticket in tickets}
