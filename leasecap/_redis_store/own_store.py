"""All that this process has in one store: connections, threads, and who waits."""

from __future__ import annotations

import math
import threading
import time
from functools import partial

from leasecap._durations import format_duration
from leasecap._errors import LeasecapError, StoreError
from leasecap._log import log_warning
from leasecap._named_tuple import NamedTuple
from leasecap._redis_store.alarms import Alarms
from leasecap._redis_store.client import Client
from leasecap._redis_store.errands import Errands
from leasecap._redis_store.latency_sender import LatencySender
from leasecap._redis_store.lookout import Lookout
from leasecap._redis_store.pool import Pool
from leasecap._redis_store.renewals import Renewals
from leasecap._redis_store.subscription import Subscription

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, TypeVar

    from leasecap._config.config import PoolConfig
    from leasecap._config.pool_name import PoolName
    from leasecap._config.store_address import StoreAddress
    from leasecap._host.effects import Effects
    from leasecap._redis_store.renewals import Kept

    T = TypeVar("T")

    class Process(Protocol):
        """This process, renewed in a fork's child."""

        @property
        def id(self) -> str:
            """By which its entries name it."""


_UNPROVEN = 5.0
"""Seconds for which a new subscription is relied on, before a message has come."""

_TAKE_OVER_IN = 0.1
"""Seconds until the first ticket of this process begins to look for all. Where slots are held for less than that it is
granted by then, and nobody had to look."""


_ENDS_WITHIN = 1.0  # seconds
_AGAIN = 1.0  # seconds between tries to end an entry
_LEAVES_WITHIN = 2.0  # seconds that a program which ends waits for what it leaves to be ended


class _Waiting(NamedTuple):
    pool: Pool
    name: str
    wake: Callable[[float | None], None]


class OwnStore:
    """What this process has in one store. A fork's child makes its own.

    :ivar name: what tells the store from others.
    :ivar answers: waits for the answers to what was sent already, whatever keeps ``errands``.
    :ivar pools: those that it has opened, by the names of their directories.
    :ivar ask: asks a pool's provider for its count, in the background.
    :ivar unclaimed: how many messages have come that were for no ticket that waits, as far as is known.
    """

    def __init__(
        self, address: StoreAddress, process: Process, effects: Effects, ask: Callable[[PoolConfig], object]
    ) -> None:
        self.address = address
        self.name = address.name
        self.ask = ask
        self.process = process
        self.effects = effects
        self.client = Client(address)
        self.errands, self.answers = Errands(), Errands()
        self.renewals = Renewals(effects, lambda when: self.alarms.look_by(when))
        self.alarms = Alarms(effects.monotonic, self.renewals.check)
        self.subscription = Subscription(self.client, process.id, self._heard)
        self.latencies = LatencySender(process.id, effects, self.errands, self.alarms)
        self.pools: dict[str, Pool] = {}
        self.unclaimed = 0
        self._subscribed = -math.inf
        self._waiting: dict[str, _Waiting] = {}  # by token
        self._ending: set[str] = set()  # tokens
        self._releasing: dict[str, Pool] = {}  # by token, the leases among these
        self._reporting: dict[Pool, set[threading.Event]] = {}
        self._lookouts: dict[Pool, Lookout] = {}
        self._troubles: dict[Pool, StoreError] = {}
        self._takes_over = False

    def pool(self, name: PoolName) -> Pool:
        """The pool of that name."""
        found = self.pools.get(name.directory)
        if found is None:
            found = self.pools.setdefault(name.directory, Pool(self.client, name, self.effects.monotonic))
        return found

    def is_used_in(self, name: PoolName) -> bool:
        """Whether this process has anything in the pool of that name."""
        pool = self.pools.get(name.directory)
        return pool is not None and self.renewals.has_in(pool)

    @property
    def has_answered(self) -> bool:
        """Whether the store has ever answered this process."""
        return self.client.server is not None

    # -- who waits --------------------------------------------------------------------------------------------------

    @property
    def is_reached(self) -> bool:
        """Whether messages reach this process."""
        return self.subscription.proven or self.effects.monotonic() < self._subscribed + _UNPROVEN

    def listen(self, pool: Pool, token: str, name: str, wake: Callable[[float | None], None], unclaimed: int) -> None:
        """Have ``wake`` called when it is worth looking at this ticket: with the time of its grant (the store's clock,
        seconds), if a message says so.

        :param unclaimed: how many messages were, when it was placed.
        """
        self._waiting[token] = _Waiting(pool, name, wake)
        if self.unclaimed != unclaimed:
            wake(None)  # its grant may have been heard before the answer that it waits
        self.subscription.start()

    def stop_listening(self, pool: Pool, token: str) -> None:
        """End `listen`. The next of this process's tickets may have to do what this one did for all."""
        self._waiting.pop(token, None)
        lookout = self._lookouts.get(pool)
        if lookout is not None and lookout.leaves(token):
            self._take_over()

    def _heard(self, message: bytes | None) -> None:
        """In the subscription's thread."""
        if message is None:
            self._subscribed = self.effects.monotonic()
            self.renewals.soon()  # it may be a server that has forgotten what is held
        word, _, granted = (message or b"").decode("ascii", "replace").removeprefix("+").partition(" ")
        waiting = self._waiting.get(word)
        if waiting is None:
            self.unclaimed += 1
            waiting = self._waiting.get(word)  # once more: so either `listen` sees the count, or this sees the ticket
        if waiting is not None:
            waiting.wake(float(granted) / 1000 if granted else None)
        elif word == "!":
            self._take_over()
        elif word.startswith("-"):
            self.renewals.soon()
        elif word in ("", "*"):
            for each in list(self._waiting.values()):
                each.wake(None)

    def _take_over(self) -> None:
        if not self._takes_over:
            self._takes_over = True
            self.alarms.set(self, self.effects.monotonic() + _TAKE_OVER_IN, self._wake_first)

    def _wake_first(self) -> None:
        """Wake the first of this process's tickets in each pool."""
        self._takes_over = False
        first: dict[Pool, _Waiting] = {}
        for waiting in list(self._waiting.values()):
            if waiting.pool not in first or waiting.name < first[waiting.pool].name:
                first[waiting.pool] = waiting
        for waiting in first.values():
            waiting.wake(None)

    def note_duty(self, pool: Pool, token: str, *, on_duty: bool) -> None:
        """Whether this ticket looks for all: then dead holders of this machine are looked for, too."""
        lookout = self._lookouts.get(pool)
        if lookout is None:
            if not on_duty:
                return
            lookout = self._lookouts.setdefault(pool, Lookout(self.effects, pool))
        lookout.note(token, on_duty=on_duty)

    def relieve(self, pool: Pool, *, everybody: bool = False) -> None:
        """For who waits and isn't on duty: see that those who are live, or all who wait."""
        try:
            Lookout(self.effects, pool).relieve(everybody=everybody)
        except LeasecapError:
            pass  # the dead one's time in the store runs out all the same

    # -- what is given back ------------------------------------------------------------------------------------------

    def report_soon(self, pool: Pool, report: Callable[[], object]) -> None:
        """Have a report noted by ``report``, in the background."""
        noted, reporting = threading.Event(), self._reporting.setdefault(pool, set())
        reporting.add(noted)

        def reported() -> None:
            try:
                report()
            finally:
                reporting.discard(noted)
                noted.set()

        self.errands.do(reported)

    def after_reports(self, pool: Pool, call: Callable[[], T]) -> Callable[[], T]:
        """``call``, made or sent as an errand now: it waits until what was reported before is noted, or can't be. Else
        a slot would be granted before the pool knows of the refusal. Errands begin in the order in which they are
        sent, so each of those has begun by then."""
        reports = self._reporting.get(pool, set()).copy()
        if not reports:
            return call

        def after() -> T:
            for noted in reports:
                noted.wait()
            return call()

        return after

    def await_reports(self, pool: Pool) -> None:
        """Wait until what was reported before is noted, or can't be. In an errand nothing is waited for: that would
        have to begin yet, perhaps in this thread."""
        if not self.errands.runs_here:
            self.after_reports(pool, lambda: None)()

    def end_soon(self, token: str, end: Callable[[], object]) -> None:
        """Have an entry ended by ``end``, in the background."""
        self._ending.add(token)

        def ended() -> None:
            try:
                end()
            finally:
                self._ending.discard(token)

        self.errands.do(ended)

    def release_soon(self, pool: Pool, token: str, end: Callable[[], object]) -> None:
        """`end_soon` of a lease: if the program ends before that is done, it is told."""
        self._releasing[token] = pool

        def released() -> None:
            end()
            self._releasing.pop(token, None)

        self.end_soon(token, self.after_reports(pool, released))

    def end_again(self, pool: Pool, token: str, until: float) -> None:
        """Try on to end an entry, for as long as its slot is taken: ``until`` then (boot clock, seconds)."""

        def end() -> None:
            try:
                pool.end(token, by_holder=True)
            except LeasecapError:
                if self.effects.boot_clock() / 1e9 < until:
                    self.end_again(pool, token, until)

        self.alarms.set(token, self.effects.monotonic() + _AGAIN, partial(self.errands.do, end))

    def ending(self) -> frozenset[str]:
        """The tokens of entries that are being ended in the background."""
        return frozenset(self._ending.copy())

    def sweep(self, pool: Pool, ending: frozenset[str]) -> bool:
        """For who was refused a slot: whether one has come free that nobody had any more.

        :param ending: what was being ended when it was asked for.
        :raises StoreError: when the store can't be asked.
        """
        until = self.effects.monotonic() + _ENDS_WITHIN
        while ending & self._ending and self.effects.monotonic() < until:
            time.sleep(0.001)
        return Lookout(self.effects, pool).sweep() or bool(ending)

    # -- trouble ----------------------------------------------------------------------------------------------------

    def note_trouble(self, pool: Pool, error: StoreError | None) -> None:
        """What keeps waiters from the store, for those who ask why they wait."""
        if error is None:
            self._troubles.pop(pool, None)
        else:
            self._troubles[pool] = error

    def trouble(self, pool: Pool) -> str:
        """What keeps waiters from the store; "" if nothing does."""
        error = self._troubles.get(pool)
        return "" if error is None else str(error)

    # -- the end ----------------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """End the threads that have nothing to do."""
        if not self._waiting:
            self.subscription.stop()
            self.alarms.cancel(self)
            self._takes_over = False
        for lookout in self._lookouts.copy().values():
            lookout.rest()
        self.renewals.rest()
        self.alarms.rest()
        self.errands.rest()
        self.answers.rest()

    def forget(self) -> None:
        """In a fork's child: let go of what is the parent's."""
        for lookout in self._lookouts.values():
            lookout.forget()
        self.subscription.forget()
        self.client.forget()

    def at_exit(self) -> None:
        """Give back what this process still holds or waits for, and let what is on its way come through."""
        until = self.effects.monotonic() + _LEAVES_WITHIN
        for kept in self.renewals.all():
            if kept.record.child is None:  # else a command keeps it
                if kept.is_lease:
                    self._releasing[kept.name[21:37]] = kept.pool
                self.errands.do(self.after_reports(kept.pool, partial(self._end_left, kept, until)))
        self.errands.drain(_LEAVES_WITHIN)
        for pool, reports in list(self._reporting.items()):
            if reports:
                log_warning(f"what was reported to {pool.path} could not be noted: no server has answered in time")
        releasing = list(self._releasing.values())
        for pool in set(releasing):
            log_warning(
                f"{releasing.count(pool)} lease(s) of {pool.path} could not be given back: no server has answered in "
                f"time. The slots come free by themselves within {format_duration(pool.ttl)}"
            )
        self.latencies.tell_what_is_left()

    def _end_left(self, kept: Kept, until: float) -> None:
        token = kept.name[21:37]
        try:
            kept.pool.end(token, by_holder=True, within=until - self.effects.monotonic())
        except LeasecapError:
            return  # nobody renews it, so it ends after its ttl
        self._releasing.pop(token, None)
