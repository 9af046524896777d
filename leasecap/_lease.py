"""A lease as its holder sees it."""

from __future__ import annotations

import os
import threading

from leasecap import _chain
from leasecap._durations import format_duration
from leasecap._errors import LeaseLost
from leasecap._faults import store_error
from leasecap._hold import hold_of
from leasecap._interrupts import HeldBack
from leasecap._report import tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType
    from typing import Any, Self

    from leasecap._entries import Claim
    from leasecap._local import Local, Root
    from leasecap._record import Child
    from leasecap._store import Store


class Sign:
    """What happens to a lease once, if ever: true or false, something to wait for, and something to await."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_set = False
        self._event: threading.Event | None = None  # most leases are never waited for, and it costs 4 us
        self._lock = threading.Lock()
        self._waiters: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return self._is_set

    def __repr__(self) -> str:
        return f"<{self._name}: {bool(self)}>"

    def wait(self, timeout: float | None = None) -> bool:
        """Block until it is true, ``timeout`` seconds at most; returns whether it is."""
        with self._lock:
            if self._is_set:
                return True
            event = self._event = self._event or threading.Event()
        return event.wait(timeout)

    def __await__(self) -> Generator[object, None, None]:
        """Suspend the task until it is true."""
        import asyncio

        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def end() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(end)
            except RuntimeError:
                pass  # the loop was closed meanwhile

        with self._lock:
            if self:
                return
            self._waiters.append(wake)
        try:
            yield from future
        finally:
            with self._lock:
                if wake in self._waiters:
                    self._waiters.remove(wake)

    def _set(self) -> bool:
        """Returns whether this was the first time."""
        with self._lock:
            if self:
                return False
            self._is_set = True
            if self._event is not None:
                self._event.set()
            waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()
        return True


class Lease:
    """A slot held. Release it, or use it in ``with`` or ``async with``.

    Inside the ``with`` block the code, and commands started with `env`, run *under* the lease: what they acquire in the
    same pool borrows its slot while this code waits for them.

    :ivar pool: the pool's name.
    :ivar id: what `leasecap status` shows and `leasecap release` takes.
    :ivar reference: the lease's word in ``LEASECAP_LEASE``.
    :ivar lost: true once the slot was taken while this process still ran: judged dead by a foreign kernel, released by
        a person, or given away as ``expired``. Can be waited for (``lease.lost.wait(5)``) and awaited
        (``await lease.lost``).
    :ivar expired: true, in the same ways, once it has been held for ``max_hold``: end the work and release it. The slot
        stays in use, unless the pool's ``reclaim = "force"`` gives it away (after ``kill_after`` and a second).
    :ivar hold: when its time is over, or None.
    """

    def __init__(
        self, local: Local, root: Root, store: Store, claim: Claim, on_lost: Callable[[Lease], object] | None
    ) -> None:
        self.pool = store.pool.name.text
        self.id = claim.entry.token
        self.lost = Sign("lost")
        self.expired = Sign("expired")
        self.hold = hold_of(claim.record, claim.since)
        self._local = local
        self._root = root
        self._store = store
        self._claim = claim
        self._on_lost = on_lost
        self.reference = _chain.reference(root.path, store.pool.name.directory, self.id)
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a handler of what is told under it may release the lease
        self._released = False
        local.heartbeats.add(store, claim, self._gone)
        if self.hold is not None:
            local.heartbeats.set_alarm(claim, self.hold.over_at, self._time_is_over)

    def __repr__(self) -> str:
        state = "lost" if self.lost else "released" if self._released else "held"
        return f"<Lease {self.id} of pool {self.pool!r}, {state}>"

    @property
    def held(self) -> bool:
        """Whether this process holds the slot, as far as it knows. After a fork, the child holds nothing."""
        return not self._released and not self.lost and self._pid == os.getpid()

    def check(self) -> None:
        """Do nothing while the lease is held and its time isn't over.

        :raises LeaseLost: when it was lost or has `expired`.
        """
        if self.lost or self.expired:
            max_hold = self.hold.max_hold if self.hold is not None and self.expired else None
            raise LeaseLost(self.pool, self.id, bool(self.lost), max_hold)

    def release(self) -> None:
        """Give the slot back. Any number of times, from any thread; a lost lease's release does nothing.

        Never raises for trouble with the store, which must not replace the result of the work: that is logged, and
        tried again in the background.
        """
        with HeldBack():
            self._give_back()

    def _give_back(self, *, hand_on: bool = True) -> None:
        if self._pid != os.getpid():
            return  # before the lock: another thread of the parent may have held it in the moment of the fork
        with self._lock:
            if self._released:
                return
            self._released = True
        self._local.heartbeats.remove(self._claim)
        try:
            if not self._store.release(self._claim, hand_on=hand_on):
                self._set_lost()
        except OSError as error:
            where = self._store.directory.full(self._claim.name)
            tell(f"lease {self.id} of pool {self.pool!r} could not be released ({where}: {error}); trying on")
            claims, claim = self._local.claims, self._claim
            self._local.heartbeats.add(self._store, claim, lambda: claims.discard(claim), ending=True)
        else:
            self._local.claims.discard(self._claim)

    def report(
        self,
        status: int | None = None,
        *,
        retry_after: float | str | None = None,
        kind: str | None = None,
        ttfb: float | None = None,
    ) -> None:
        """Tell the pool what the provider answered to work under this lease; see `leasecap.report`.

        Can be called after the release as well. A refusal of work that began before the last cut of the limit doesn't
        cut it again.
        """
        from leasecap import _reporting
        from leasecap._summary import called

        who, granted = called(self._claim.record), self._claim.granted / 1e9
        # Not `_store`: after the release it may be closed, and in a fork's child what is the parent's is.
        root = self._local.still(self._root)
        with root.using(root.config.pool(self.pool)) as store:
            _reporting.report(
                store, who, status=status, retry_after=retry_after, kind=kind, ttfb=ttfb, granted=granted or None
            )

    def note_child(self, child: Child) -> None:
        """Write down which command runs under this lease: the slot stays taken until that one is gone as well.

        :raises StoreError: when that can't be written.
        """
        self._amend(child=child)

    def hand_to(self, pid: int, start: int) -> None:
        """Let the process ``pid`` hold it from now on, as long as it runs or until the lease is released by its id.

        :raises StoreError: when that can't be written.
        """
        self._amend(pid=pid, start=start, proof="pid")
        self._released = True  # by this process
        self._local.heartbeats.remove(self._claim)
        self._local.claims.discard(self._claim)
        self._store.close(self._claim)

    def _amend(self, **fields: Any) -> None:
        try:
            self._store.amend(self._claim, **fields)
        except FileNotFoundError:
            self._gone()
        except OSError as error:
            raise store_error(error, self._store.directory.full(self._claim.name)) from error

    @property
    def liveness_fd(self) -> int | None:
        """The descriptor whose OS lock says that the lease lives, to be inherited; None in a pool without OS locks."""
        self._claim.lent = True
        return self._claim.fd

    def env(self) -> dict[str, str]:
        """What to add to a subprocess's environment so that it runs under this lease."""
        return {_chain.ENVIRONMENT: _chain.environment(self.reference), "LEASECAP_POOL": self.pool}

    def __enter__(self) -> Self:
        _chain.enter(self.reference)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _chain.leave(self.reference)
        self.release()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _chain.leave(self.reference)
        # The slot is free at once. Of those who release in one round of the loop the first hands all their slots on.
        with HeldBack():
            self._give_back(hand_on=False)
        if self._store.owes:
            from leasecap._drive_async import turns

            try:
                await turns().take(first=True)
            finally:
                with HeldBack():
                    if self._store.owes:
                        self._store.hand_on()

    def _gone(self) -> None:
        """The heartbeat found the entry gone."""
        if not self._released:
            self._store.close(self._claim)
            self._local.claims.discard(self._claim)
            self._set_lost()

    def _set_lost(self) -> None:
        with self._lock:
            self._mark_lost()
        self._call_on_lost()

    def _mark_lost(self) -> None:
        """Under the lock: who finds out second, in a release, may end the process, and must not before it is told."""
        if self.hold is not None and self._store.effects.monotonic() >= self.hold.over_at:
            self.expired._set()  # a sweeper was first to act on it
        if self.lost._set() and self.expired and self.hold is not None:
            held = f"held for longer than {format_duration(self.hold.max_hold)}"
            tell(f"lease {self.id} of pool {self.pool!r}, {held}, was taken: its slot is another's now")

    def _call_on_lost(self) -> None:
        with self._lock:
            on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(self)

    def _time_is_over(self) -> None:
        """In the heartbeat thread."""
        assert self.hold is not None
        # First, since what follows is the user's code.
        self._local.heartbeats.set_alarm(self._claim, self.hold.give_away_at, self._give_away)
        if not self._released and self.expired._set():
            self._call_on_lost()

    def _give_away(self) -> None:
        """In the heartbeat thread. A sweeper does the same, but only one that can compare clocks with this process."""
        self._store.refresh()
        try:
            with self._lock:  # a release in this moment would keep the entry as a spare, and not know that it was lost
                if self._released or not self._store.force:
                    return
                self._store.end(self._claim.name)
                self._released = True
                self._mark_lost()
        except OSError:  # it goes on to count
            again = self._store.effects.monotonic() + self._store.observer.heartbeat
            self._local.heartbeats.set_alarm(self._claim, again, self._give_away)
            return
        self._local.heartbeats.remove(self._claim)
        self._store.close(self._claim)
        self._local.claims.discard(self._claim)
        self._call_on_lost()
