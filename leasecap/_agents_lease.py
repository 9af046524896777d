"""How a hook comes to the lease that its agent has already, or that another hook of the agent waits for."""

from __future__ import annotations

from leasecap._decisions.places import QUEUE
from leasecap._file_store import agents

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from leasecap._acquire import Acquisition
    from leasecap._file_store.agents import AgentsEntry
    from leasecap._request import Request

_FIRST_LOOK, _LONGEST_LOOK = 0.02, 0.25
"""Seconds between looks at what became of the other hook's ticket: it is not this process that will be woken."""


class AgentHolds(Exception):
    """The agent holds a slot of the pool already: nothing was taken for this request.

    :ivar lease: the id of its lease.
    """

    def __init__(self, lease: str) -> None:
        super().__init__(lease)
        self.lease = lease


def share(acquisition: Acquisition, request: Request) -> Generator[float, None, None]:
    """Enter the section once the agent has nothing in the pool, and nobody waits in its name.

    :raises AgentHolds: when the agent holds a lease. Its time begins anew, with what this request says of it.
    :raises AcquireTimeout: when the request's time is over before.
    """
    store, agent = acquisition.store, request.agent
    assert agent is not None
    agents.entry_of(store, agent)  # so that inside only those records are read that are new
    while True:
        yield from acquisition.enter()
        found = None
        try:
            found = agents.entry_of(store, agent)
            if found is None:
                return
            store.settle()  # whoever could not enter meanwhile relies on it
        except BaseException:
            store.leave()
            raise
        if store.leave():
            store.enter_and_settle()
        if not found.held:
            yield from _outcome_of(acquisition, found)
            continue
        kill_after = None if request.max_hold is None else request.kill_after
        if agents.renew(store, found, request.max_hold, kill_after):
            raise AgentHolds(found.entry.token)


def _outcome_of(acquisition: Acquisition, found: AgentsEntry) -> Generator[float, None, None]:
    """Wait until the agent holds what was found, or it is no more."""
    store = acquisition.store
    clock = store.effects.monotonic
    pause, tell_every = _FIRST_LOOK, 1.0
    tell_at = clock() + tell_every
    while agents.is_pending(store, found) and not agents.take_place(store, found):
        now = clock()
        queue = sorted(store.directory.list(QUEUE))
        acquisition.position = queue.index(found.entry.name) + 1 if found.entry.name in queue else 0
        if acquisition.deadline is not None and now >= acquisition.deadline:
            raise acquisition.timed_out()
        if acquisition.tells and now >= tell_at:
            tell_every *= 2
            tell_at = now + tell_every
            acquisition.tell(store.snapshot())
        yield pause if acquisition.deadline is None else min(pause, acquisition.deadline - now)
        pause = min(2 * pause, _LONGEST_LOOK)
