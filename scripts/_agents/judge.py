"""What the provider does with each request: see whether a slot is held for it, and answer as its interface does."""

from __future__ import annotations

from collections import deque

from provider_formats import answer

import leasecap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from provider_steps import Behaviour, Request, Step

_PAUSE = 0.2  # seconds within an answer: what is sent at once is there at once


class Judge:
    """Answers the requests of one case; called by the provider, in its thread.

    :ivar pool: what the requests must have slots of.
    :ivar metered: the requests that cost something, refused ones with them.
    :ivar free: the others.
    :ivar slots: how many of the first had the pool's one slot.
    """

    def __init__(self, pool: str, *first: Behaviour) -> None:
        """:param first: what becomes of the first requests that cost something."""
        self.pool = pool
        self.metered: list[Request] = []
        self.free: list[Request] = []
        self.slots = 0
        self._first = deque(first)

    def __call__(self, request: Request) -> Step:
        if not request.costs:
            self.free.append(request)
            return answer(request)
        held = [holder for pool in leasecap.status(self.pool).pools for holder in pool.holders if holder.alive]
        self.slots += len(held) == 1
        self.metered.append(request)
        if self._first:
            behaviour = self._first.popleft()
            return behaviour if isinstance(behaviour, tuple) else behaviour(request)
        return slow(answer(request))


def slow(step: Step) -> Step:
    """The same with a pause after its head."""
    return (*step[:1], _PAUSE, *step[1:])
