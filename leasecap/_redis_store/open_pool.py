"""A pool in a store, with what this process has there and what its configuration says of it."""

from __future__ import annotations

import math

from leasecap._errors import StoreError
from leasecap._redis_store.faults import fault
from leasecap._threads import is_in_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeVar

    from leasecap._config.config import PoolConfig
    from leasecap._redis_store.own_store import OwnStore

    T = TypeVar("T")

SAFETY = 5.0
"""Seconds until a step looks for its errand's answer, should nothing wake it."""

ANSWERS_WITHIN = 2.0
"""Seconds that a call waits for an answer, once its time is over, from a store that answers nobody."""

AGAIN_WITHIN = 0.5
"""Seconds in which the last calls of a wait are sent again: a server that was started anew has closed its connections,
and answers at once; one that is silent isn't asked twice."""


class OpenPool:
    """A pool, as one call uses it.

    :ivar own: what this process has in the store.
    :ivar pool: the pool in it.
    :ivar settings: what this machine's configuration says, as of the last `refresh`.
    """

    def __init__(
        self,
        own: OwnStore,
        settings: PoolConfig,
        refresh: Callable[[], PoolConfig] | None = None,
        enter: Callable[[], None] | None = None,
    ) -> None:
        """
        :param settings: what this machine's configuration says.
        :param refresh: what it says now; never raises.
        :param enter: called before this process has a lease or ticket there, and may block; its errors end the call.
        """
        self.own = own
        self.pool = own.pool(settings.name)
        self.settings = settings
        self._refresh = refresh
        self._enter = enter

    def refresh(self) -> None:
        """Look whether the configuration has changed."""
        if self._refresh is not None:
            self.settings = self._refresh()

    def enter(self) -> None:
        """Before this process has a lease or ticket in it. Another server may have to be asked: an event loop leaves
        that to an errand.

        :raises ConfigError, StoreError: when it must not.
        """
        if self._enter is not None:
            self._enter()

    @property
    def name(self) -> str:
        """The pool's name."""
        return self.settings.name.text

    @property
    def path(self) -> str:
        """Where it stands, for people."""
        return self.pool.path

    @property
    def place(self) -> tuple[str, str]:
        """What identifies it; no password is in it."""
        return self.own.name, self.settings.name.directory

    @property
    def force(self) -> bool:
        """Whether a slot that is held for too long is given away."""
        return self.pool.holding.reclaim == "force"

    def declared(self, limit: int | None) -> int | None:
        """What a call declares: its own limit, and that of this machine's configuration."""
        limits = (limit, self.settings.limit)
        return min((each for each in limits if each is not None), default=None)

    def asks_directly(self) -> bool:
        """Whether a call may wait for the store's answer: it has answered before, and no event loop runs here."""
        return self.own.has_answered and not is_in_loop()

    def until_done(
        self,
        call: Callable[[], T],
        wake: Callable[[], None],
        until: float = math.inf,
        never: Callable[[], None] | None = None,
    ) -> Generator[float, None, T]:
        """What ``call`` returns, which is made by an errand where its caller must not block.

        :param wake: called when it is done.
        :param never: called if it is given up before it was made.
        :param until: from then on (monotonic clock, seconds) an errand is given up, if it was sent two seconds ago and
            the store has answered nobody since. One that is slow, or has many calls to answer, is waited for.
        :raises Unreachable: then.
        """
        if self.asks_directly():
            return call()
        until = max(until, self.monotonic())
        errand = self.own.errands.send(call, wake)
        try:
            while not errand.done:
                left = max(until, self.own.client.answered_at) + ANSWERS_WITHIN - self.monotonic()
                if left <= 0:
                    raise fault(self.own.address, TimeoutError("timeout"))
                yield min(left, SAFETY)
        finally:
            # In an outage they would pile up, and all be made once the store is back.
            if not errand.done and errand.abandon() and never is not None:
                never()
        return errand.result()

    def ask(self) -> None:
        """Ask the provider for its count, in the background; never raises."""
        try:
            self.own.ask(self.settings)
        except StoreError:
            pass  # whoever looks next asks

    def monotonic(self) -> float:
        return self.own.effects.monotonic()

    def boot_clock(self) -> float:
        """Seconds since boot, suspended time included."""
        return self.own.effects.boot_clock() / 1e9
