"""A lease as its holder sees it."""

from __future__ import annotations

import threading
from _warnings import warn
from _weakref import ref
from functools import partial

from leasecap import _ancestry
from leasecap._dropped import end_dropped, take, weakly
from leasecap._durations import format_duration
from leasecap._errors import LeaseLost
from leasecap._faults import store_error
from leasecap._host.deferred_signals import DeferredSignals, surely
from leasecap._lease_event import LeaseEvent
from leasecap._log import log_warning, log_warning_apart
from leasecap._on_lost import OnLost
from leasecap._origin import Origin
from leasecap._threads import is_in_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Any, Self

    from leasecap._liveness.record import Child
    from leasecap._runtime import Runtime
    from leasecap._store.lease import HeldLease
    from leasecap._store.store import Store


class Lease:
    """A slot held. Release it, or use it in ``with`` or ``async with``.

    Inside the ``with`` block the code, and commands started with `env`, run *under* the lease: what they acquire in the
    same pool borrows its slot while this code waits for them.

    A lease to which no code refers any more gives its slot back, with a `ResourceWarning` and a line in the log; in a
    cycle of references it does so when it is collected. Its ``lost`` is true then.

    :ivar pool: the pool's name.
    :ivar root: the path of the root that the pool is in.
    :ivar id: what `leasecap status` shows and `leasecap release` takes.
    :ivar reference: the lease's entry in ``LEASECAP_LEASE``.
    :ivar lost: true once the slot was taken while this process still ran: judged dead by a foreign kernel, released by
        a person, or given away as ``expired``. Can be waited for (``lease.lost.wait(5)``) and awaited
        (``await lease.lost``).
    :ivar expired: true, in the same ways, once it has been held for ``max_hold``: end the work and release it. The slot
        stays in use, unless the pool's ``reclaim = "force"`` gives it away (after ``kill_after`` and a second).
    :ivar hold: when its time is over, or None.
    :ivar loss: what took it, for people, once it is lost; else "".
    """

    _released = False
    _is_whole = False  # `__del__` says nothing of one that could not be made

    def __init__(
        self,
        runtime: Runtime,
        held: HeldLease,
        on_lost: Callable[[Lease], object] | None,
        reopen: Callable[[], AbstractContextManager[Store]],
        root: str,
    ) -> None:
        """:param reopen: opens the pool for a block, even after the release or in a fork's child.
        :param root: its path."""
        self.pool = held.pool
        self.root = root
        self.id = held.token
        self.lost = LeaseEvent("lost")
        self.expired = LeaseEvent("expired")
        self.loss = ""
        self.hold = held.hold
        self._runtime = runtime
        self._reopen = reopen
        self._held = held
        self._on_lost = None if on_lost is None else OnLost(on_lost)
        self.reference = _ancestry.reference(*held.place, self.id)
        self.reference.about = partial(_about, held)
        self._origin = Origin(runtime.own)
        self._lock = threading.RLock()  # warnings are logged under it, and a log handler may release the lease
        self._self = ref(self)
        self._right = [held]
        held.keep(
            self,
            partial(weakly, self._self, Lease._gone),
            partial(end_dropped, self._right, self.reference, self.lost),
        )
        if self.hold is not None:
            held.set_alarm(self.hold.over_at, partial(weakly, self._self, Lease._time_is_over))
        self._is_whole = True

    def __del__(self) -> None:
        # The heartbeat thread gives the slot back (`Gone`), even if this is interrupted. At the interpreter's exit the
        # module's names may be None already.
        if warn is not None and self._is_whole and self.held:
            warn(f"{self!r} was dropped without a release", ResourceWarning, 2)

    def __repr__(self) -> str:
        state = "lost" if self.lost else "released" if self._released else "held"
        if state == "held" and not self._origin.is_here():
            state = f"held by the parent of this process, pid {self._origin.pid}"
        return f"<Lease {self.id} of pool {self.pool!r}, {state}>"

    @property
    def held(self) -> bool:
        """Whether this process holds the slot, as far as it knows. A fork's child holds nothing."""
        return not self._released and not self.lost and self._origin.is_here()

    def check(self) -> None:
        """Do nothing while the lease is held and its time isn't over.

        :raises LeaseLost: when it was lost or has `expired`, and in a fork's child, which holds nothing.
        """
        if not self._origin.is_here():
            raise LeaseLost(self.pool, self.id, False, parent=self._origin.pid)
        if self.lost or self.expired:
            max_hold = self.hold.max_hold if self.hold is not None and self.expired else None
            raise LeaseLost(self.pool, self.id, bool(self.lost), max_hold, why=self.loss or None)

    def release(self) -> None:
        """Give the slot back; from any thread, any number of times. For a lost lease it does nothing.

        Trouble with the store must not replace the result of the work: it is logged, and the release tried again.
        """
        surely(self._give_back)
        self._hear_out()

    def _give_back(self, *, hand_off: bool = True) -> None:
        if not self._origin.is_here():
            return  # without taking the lock: another thread of the parent may have held that when it forked
        with self._lock:
            if self._released or not take(self._right):
                return
            self._released = True
        self.reference.ended = True
        if not self._held.release(hand_off=hand_off):
            self._set_lost()

    def _hear_out(self) -> None:
        if self._on_lost is not None and self._origin.is_here():
            self._on_lost.hear_out()

    def report(
        self,
        status: int | None = None,
        *,
        retry_after: float | str | None = None,
        kind: str | None = None,
        ttfb: float | None = None,
    ) -> None:
        """Tell the pool what the provider answered to work under this lease; see `leasecap.report`.

        It can be called after the release as well. A refusal of work that began before the last cut of the limit
        doesn't cut it again.
        """
        self.tell(status, retry_after, kind, ttfb)
        if ttfb is not None:
            from leasecap._latency import note_report

            note_report(self.root, self.pool, status, kind, ttfb)

    def tell(self, status: int | None, retry_after: float | str | None, kind: str | None, ttfb: float | None) -> None:
        """`report`, by who notes itself how long each request took."""
        from leasecap import _control

        who, granted = _about(self._held)
        with DeferredSignals(), self._reopen() as store:
            _control.report(store, who, status=status, retry_after=retry_after, kind=kind, ttfb=ttfb, granted=granted)

    def note_answer(self) -> None:
        """Note, for `status`, that the answer has begun of the HTTP request that the lease is for; never raises."""
        if self.held:
            self._held.note_answer()

    def note_child(self, child: Child) -> None:
        """Note the command that runs under this lease: the slot stays taken until that is gone as well.

        :raises LeaseLost: in a fork's child.
        :raises StoreError: when that can't be written.
        """
        self._amend(child=child)

    def hand_to(self, pid: int, start: int) -> None:
        """Let the process ``pid`` hold the lease from now on, until it ends or somebody releases the lease by its id.

        :raises LeaseLost: when it was lost, and in a fork's child.
        :raises StoreError: when that can't be written.
        """
        with DeferredSignals():
            self._amend(pid=pid, start=start, proof="pid", agent=None)
            if self.lost:
                raise LeaseLost(self.pool, self.id, True, why=self.loss or None)
            self._released = self.reference.ended = True  # as far as this process is concerned
            self._held.let_go()

    def _amend(self, **fields: Any) -> None:
        if not self._origin.is_here():
            raise LeaseLost(self.pool, self.id, False, parent=self._origin.pid)
        try:
            if not self._held.describe(**fields):
                self._gone()
        except OSError as error:
            raise store_error(error, f"{self.pool}, lease {self.id}") from error

    def watch_doubt(self, on_doubt: Callable[[], None]) -> None:
        """Have ``on_doubt`` called, from a thread, when `ends_in` has something to say."""
        self._held.watch_doubt(on_doubt)

    def ends_in(self) -> float | None:
        """Seconds until a command under this lease must have ended, since its slot may be another's then
        (``when_unsure = "end"``); None: it need not."""
        return self._held.ends_in()

    @property
    def liveness_fd(self) -> int | None:
        """The descriptor to be inherited, whose OS lock says that the lease lives; None in a pool without OS locks."""
        return self._held.inheritable()

    def env(self) -> dict[str, str]:
        """What to add to a subprocess's environment so that it runs under this lease."""
        return {_ancestry.ENVIRONMENT: _ancestry.environment(self.reference), "LEASECAP_POOL": self.pool}

    def __enter__(self) -> Self:
        if self._released:  # the block would run without a slot
            raise RuntimeError(f"{self!r} can't be entered any more: acquire one for each block")
        try:
            _ancestry.enter(self.reference)
            return self
        except BaseException:
            _ancestry.leave(self.reference)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        surely(self._leave)
        self._hear_out()

    def _leave(self) -> None:
        _ancestry.leave(self.reference)
        self._give_back()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is GeneratorExit:
            surely(self._leave)  # the task is closed, perhaps long after its loop, and can't be suspended any more
            return
        joined = False
        turn: asyncio.Future[None] | None = None

        def leave() -> None:
            nonlocal joined, turn
            _ancestry.leave(self.reference)
            # The slot is free at once. The first of the tasks that release in one round of the loop hands off for all.
            self._give_back(hand_off=False)
            if joined or not self._held.owes or not self._origin.is_here():
                return
            if is_in_loop():
                with self._runtime.own.lock:  # a fork must not copy an import half done
                    from leasecap._wait.event_loop import turns
                joined, turn = True, turns().join(first=True)
            if turn is None:  # this task's turn has come; or it is one of trio's, which knows no turns
                self._held.hand_off()

        try:
            surely(leave)
            if turn is not None:
                await turn
        finally:
            if turn is not None and self._held.owes:
                surely(self._hand_off)

    def _hand_off(self) -> None:
        if self._held.owes:
            self._held.hand_off()

    def _gone(self) -> None:
        """The heartbeat found the entry gone."""
        if not self._released:
            self._held.let_go()
            self._set_lost()

    def _set_lost(self) -> None:
        with self._lock:
            removed = self._held.removed()
            self.loss = removed or "released by a person, or taken for dead"
            self._mark_lost()
        if removed:
            lost = f"lease {self.id} of pool {self.pool!r} is lost: {removed}."
            log_warning_apart(f"{lost} Newcomers don't count it any more")
        self._call_on_lost()

    def _mark_lost(self) -> None:
        """Note and log the loss, under the lock: a release in another thread may find it too, and end the process."""
        if self.hold is not None and self._held.now() >= self.hold.over_at:
            self.expired._set()  # a sweeper has acted before this process noticed
        if self.lost._set() and self.expired and self.hold is not None:
            held = f"held for longer than {format_duration(self.hold.max_hold)}"
            log_warning(f"lease {self.id} of pool {self.pool!r}, {held}, was taken: its slot is another's now")

    def _call_on_lost(self) -> None:
        if self._on_lost is not None:
            self._on_lost.tell(self)

    def _time_is_over(self) -> None:
        """In the heartbeat thread: the lease was held for ``max_hold``."""
        assert self.hold is not None
        # The next alarm is set before `on_lost` is called, which is the user's code.
        self._alarm(self.hold.give_away_at)
        if not self._released and self.expired._set():
            self._call_on_lost()

    def _alarm(self, when: float) -> None:
        self._held.set_alarm(when, partial(weakly, self._self, Lease._give_away))

    def _give_away(self) -> None:
        """In the heartbeat thread. A sweeper does the same, if it can compare its clocks with this process's."""
        with self._lock:  # a release at the same time would keep the entry as a spare, not knowing that it was lost
            if self._released:
                return
            taken = self._held.give_away()
            if taken:
                self._released = self.reference.ended = True
                self._mark_lost()
        if taken is None:
            self._alarm(self._held.now() + self._held.record.heartbeat)
        elif taken:
            self._held.let_go()
            self._call_on_lost()


def _about(held: HeldLease) -> tuple[str, float | None]:
    from leasecap._liveness.record import called

    return called(held.record), held.granted or None
