"""One daemon thread per process keeps the heartbeats of all its leases, and notices lost ones.

Those of tickets are written by their waiters' looks (`_look`).
"""

from __future__ import annotations

import math
import threading
import time

from leasecap._drive import EARLY
from leasecap._report import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._entries import Claim
    from leasecap._store import Store


_LINGER = 5.0
"""Seconds for which the thread sleeps on with nothing to look after; only then it waits to be woken. Leases held for
less than it takes a thread to wake would else wake it each time, in vain: a fifth of an acquire's CPU time."""


class Beating:
    """One entry that is kept alive.

    :ivar ending: it was to be ended, which failed: try again instead of a heartbeat.
    :ivar failures: heartbeats in a row that could not be written.
    :ivar alarm: when to call ``on_alarm``.
    """

    __slots__ = ("alarm", "claim", "due", "ending", "failures", "on_alarm", "on_gone", "store")

    def __init__(self, store: Store, claim: Claim, on_gone: Callable[[], None] | None, ending: bool) -> None:
        self.store = store
        self.claim = claim
        self.on_gone = on_gone
        self.ending = ending
        self.due = time.monotonic() + claim.record.heartbeat
        self.failures = 0
        self.alarm = math.inf
        self.on_alarm: Callable[[], None] | None = None


class Heartbeats:
    """The thread and what it looks after. A heartbeat that fails is counted and reported, never raised."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._beating: dict[str, Beating] = {}
        self._thread: threading.Thread | None = None
        self._wakes_at = math.inf

    def add(
        self, store: Store, claim: Claim, on_gone: Callable[[], None] | None = None, *, ending: bool = False
    ) -> None:
        """Keep ``claim`` alive; ``on_gone`` is called, in the thread, once its entry is found to be gone.

        :param ending: end it instead, as soon as that is possible.
        """
        with self._changed:
            beating = self._beating[claim.name] = Beating(store, claim, on_gone, ending)
            if self._thread is None:
                self._start()
            else:
                self._wake_by(beating.due)

    def set_alarm(self, claim: Claim, when: float, on_alarm: Callable[[], None]) -> None:
        """Call ``on_alarm``, in the thread, at the moment ``when``, if ``claim`` is still kept alive then."""
        with self._changed:
            beating = self._beating.get(claim.name)
            if beating is not None:
                beating.alarm, beating.on_alarm = when, on_alarm
                self._wake_by(when)

    def _wake_by(self, when: float) -> None:
        if when < self._wakes_at:
            # Only if it would sleep too long: waking it at every acquire cost more than the acquire itself.
            self._changed.notify()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="leasecap-heartbeat", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The slot was had: that must not fail now. The next lease tries again.
            tell(f"no heartbeats: {error}. Where the pool has OS locks, the lease is safe without them")
        else:
            self._thread = thread

    def remove(self, claim: Claim) -> None:
        """Stop. When this returns no heartbeat for ``claim`` is under way or will come."""
        with self._changed:
            self._beating.pop(claim.name, None)

    def _run(self) -> None:
        idle = False
        while True:
            to_call: list[tuple[Beating, Callable[[], None] | None]] = []
            early = False
            with self._changed:
                now = time.monotonic()
                for beating in list(self._beating.values()):
                    if beating.due <= now:
                        alive = self._beat(beating)
                        beating.due = now + beating.claim.record.heartbeat  # as it is written now
                        if not alive:
                            del self._beating[beating.claim.name]
                            to_call.append((beating, beating.on_gone))
                    if beating.alarm <= now:
                        beating.alarm = math.inf
                        to_call.append((beating, beating.on_alarm))
                if not to_call:
                    nothing = math.inf if idle else now + _LINGER
                    self._wakes_at = min((min(one.due, one.alarm) for one in self._beating.values()), default=nothing)
                    sleep = max(self._wakes_at - time.monotonic(), 0.01)
                    woken = self._changed.wait(None if self._wakes_at == math.inf else sleep)
                    idle = not woken and not self._beating
                    early = not woken and time.monotonic() < self._wakes_at
            if early:
                time.sleep(EARLY)
            for beating, call in to_call:
                # Outside the lock: it is the user's code, and may release other leases.
                try:
                    if call is not None:
                        call()
                except Exception as error:
                    tell(f"on_lost of lease {beating.claim.entry.token} raised {error!r}")

    def _beat(self, beating: Beating) -> bool:
        beating.store.refresh()  # who only holds would else never hear of another interval
        try:
            if beating.ending:
                beating.store.finish(beating.claim)
                return False
            alive = beating.store.beat(beating.claim)
        except OSError as error:
            beating.failures += 1
            if beating.failures in (1, 10, 100):
                path = beating.store.directory.full(beating.claim.name)
                tell(
                    f"heartbeat of lease {beating.claim.entry.token} failed {beating.failures} times ({path}: {error})"
                )
            return True
        beating.failures = 0
        return alive
