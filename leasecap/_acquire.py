"""How a slot is acquired: one procedure for threads, event loops and `leasecap run`.

It is a generator. It yields how long to pause at most (seconds) and is resumed then, or when its waker is called;
`blocking` and `event_loop` have the drivers. Nothing in it blocks: each step between two pauses takes well under a
millisecond.
"""

from __future__ import annotations

import math

from leasecap import _ancestry
from leasecap._decisions.entry import make_entry
from leasecap._decisions.limits import effective_limit, full_limit, in_flight
from leasecap._decisions.places import LEASES, QUEUE
from leasecap._errors import AcquireTimeout, ConfigError, LeasecapError, StoreError
from leasecap._faults import store_error
from leasecap._file_store.poller import Look
from leasecap._file_store.section import SECTION_GRACE, entering
from leasecap._file_store.self_record import describe_self
from leasecap._log import tell
from leasecap._messages import feedback_lines, holder_lines, no_limit, parent_notice
from leasecap._origin import Origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from leasecap._decisions.snapshot import Snapshot
    from leasecap._file_store.own_entry import Claim
    from leasecap._file_store.store import Store
    from leasecap._file_store.wakeups import Watch
    from leasecap._host.deferred_signals import HeldBack
    from leasecap._request import Request
    from leasecap._runtime import Local, Root

_STAGINGS = 3
"""Attempts at building an entry in ``staging/``."""

_ANSWER_LOOK = 0.02
"""Seconds between looks whether the provider has answered, for whoever tries once."""


class Acquisition:
    """One call for a slot."""

    def __init__(
        self,
        local: Local,
        root: Root,
        store: Store,
        request: Request,
        wake: Callable[[], None],
        listen: Callable[[Watch], bool] | None = None,
        interrupts: HeldBack | None = None,
        reopen: Callable[[object], Store] | None = None,
    ) -> None:
        """
        :param wake: called from any thread when it is worth looking before the pause is over.
        :param listen: begins to hear what is said to this process, in place of `Watch.start`.
        :param reopen: returns the pool that stands at the path, and keeps it open for this acquisition.
        :param interrupts: held back in each step, and let in while ``on_wait`` is called.
        """
        self._local = local
        self.origin = Origin(local)
        self.root = root
        self.store = store
        self._request = request
        self._wake = wake
        self._listen = listen
        self._interrupts = interrupts
        self._claim: Claim | None = None
        self._order = store.order.next()
        self._asked = local.effects.boot_clock()
        self._started = local.effects.monotonic()
        self._deadline = None if request.timeout is None else self._started + request.timeout
        self._callers_own: Exception | None = None
        self._has_queued = False
        self._reopen = reopen
        self.position = 0

    def steps(self) -> Generator[float, None, Claim]:
        """Acquire; returns the claim, held.

        :raises AcquireTimeout, ConfigError, StoreError: with nothing left behind. Nor is there when it is closed.
        """
        try:
            while True:
                claim = self._stage()
                try:
                    if (yield from self._first_try(claim)) or (yield from self._queue(claim)):
                        return claim
                except FileNotFoundError as error:
                    if error is self._callers_own or (self.store.stands(claim) and self._at_path() is self.store):
                        raise
                # Somebody took us for dead (a foreign kernel judges by heartbeats), the lock directory was stolen while
                # we were inside, or the pool was forgotten: nothing is held, so begin again, in the old place.
                self._abandon()
                self.store = self._at_path()
        except OSError as error:
            self._abandon()
            if isinstance(error, LeasecapError) or error is self._callers_own:
                raise  # AcquireTimeout is a TimeoutError, and that an OSError
            raise store_error(error, self.store.directory.path) from error
        except BaseException:
            self._abandon()
            raise

    def _stage(self) -> Claim:
        # A sweeper's probe may hold the liveness lock for the moment between making its file and taking it, and what is
        # half-made for as long as stale_after is swept away. So once more, under another name.
        for _ in range(_STAGINGS - 1):
            try:
                return self._stage_once()
            except (BlockingIOError, FileNotFoundError):
                self.store = self._at_path()
        try:
            return self._stage_once()
        except FileNotFoundError as error:
            raise store_error(error, self.store.directory.path) from error

    def _at_path(self) -> Store:
        """The pool that stands at the path now: the one that was open may have been forgotten meanwhile.

        None is forgotten in which somebody waits: from under who has waited it was removed with all its holders.
        """
        return self.store if self._has_queued or self._reopen is None else self._reopen(self)

    def _stage_once(self) -> Claim:
        store, request = self.store, self._request
        token = self._local.effects.token()
        entry = make_entry(
            token=token,
            process=self._local.process,
            order=self._order,
            priority=request.priority,
            limit=self._declared_limit(),
            ancestors=self._ancestors(),
        )
        # A fork must copy no descriptor that is open and not yet known, and no half-done import, which would stay so.
        with self._local.lock:
            record = describe_self(
                self._local.effects, store.pool, store.observer, label=request.label, argv=request.argv
            )
            if request.max_hold is not None:
                record = record._replace(max_hold=request.max_hold, kill_after=request.kill_after)
            self._claim = store.stage(entry, record, self._asked)
            self._local.claims.add(self._claim)
        return self._claim

    def _declared_limit(self) -> int | None:
        """What this entry declares. Where only declarations give the pool a limit, it takes on the one it found.

        Else the pool would be left with waiters and no limit when those who declared it are gone.
        """
        return self._request.limit if self._request.limit is not None else self.limit_of_others()

    def limit_of_others(self) -> int | None:
        """The lowest declared limit where the configuration gives none.

        :raises ConfigError: where there is none of those either.
        """
        if self.store.is_limited:
            return None
        found = full_limit(self.store.snapshot()._replace(configured=None))
        if found is None:
            raise no_limit(self.store.pool.name, self.root.config)
        return found

    def _ancestors(self) -> tuple[str, ...]:
        if not self._request.borrow:
            return ()
        tokens = _ancestry.tokens(self.root.path, self.store.pool.name.directory)
        if not tokens:
            return ()
        held = {lease.token: lease for lease in self.store.snapshot().leases}
        # With each one's own ancestors: who was handed a part of the chain alone would, once its lender ends, move to
        # a lender further out and raise the pool's load.
        line = (one for token in tokens if token in held for one in (token, *held[token].ancestors))
        return tuple(dict.fromkeys(token for token in line if token in held))  # one that's gone never comes back

    def _enter(self) -> Generator[float, None, None]:
        """Enter the critical section."""
        clock = self._local.effects.monotonic
        if not (yield from entering(self.store.section, clock, self.store.directory.path, self._deadline)):
            raise self._timeout()

    def _place(self, claim: Claim, *, may_queue: bool) -> Generator[float, None, bool]:
        yield from self._enter()
        granted = False
        try:
            granted = self.store.place(claim, may_queue=may_queue)
        finally:
            again = self.store.leave()
        if again:
            self.store.enter_and_settle()
            # A robbed section may have granted too much, and this is what was taken back.
            granted = granted and self._still_held(claim)
        if granted:
            self.store.note_grant(claim)
        return granted

    def _still_held(self, claim: Claim) -> bool:
        try:
            self.store.directory.stat(f"{LEASES}/{claim.name}")
        except FileNotFoundError:
            return False
        return True

    def _first_try(self, claim: Claim) -> Generator[float, None, bool]:
        once = self._request.timeout == 0
        if (yield from self._place(claim, may_queue=not once)):
            return True
        if once:
            rises_in = self.store.rises_in
            if rises_in < math.inf:  # it has waited for no slot yet, but for the end of an edit
                yield from self._sleep(rises_in)
                if (yield from self._place(claim, may_queue=False)):
                    return True
            unanswered = self.store.unanswered
            self._sweep()  # beside a dead holder there is room
            if unanswered:
                yield from self._hear_answer()
            if (yield from self._place(claim, may_queue=False)):
                return True
            raise self._timeout()
        return False  # and in the queue the first two sweep, at once if nobody did

    def _sleep(self, seconds: float) -> Generator[float, None, None]:
        until = self._local.effects.monotonic() + seconds
        while (left := until - self._local.effects.monotonic()) > 0:
            yield left

    def _hear_answer(self) -> Generator[float, None, None]:
        """Wait until the provider has said how much it counts, where that is all that is missing."""
        learning = self.store.learning
        assert learning is not None
        files = learning.files
        self.store.ask()
        end = self._local.effects.monotonic() + files.rules.usage_timeout + SECTION_GRACE
        while self._local.effects.monotonic() < end and files.awaits_answer():
            yield _ANSWER_LOOK

    def _sweep(self) -> None:
        try:
            self.store.sweep()
        except OSError:
            pass  # what can't be swept fails nobody's request: it goes on to count

    def _queue(self, claim: Claim) -> Generator[float, None, bool]:
        """Wait in the queue until granted; False if the ticket is gone."""
        self._has_queued = True
        local, store = self._local, self.store
        local.waiters[claim.name] = self._wake
        watch, lookout = self.root.notifier.watch(), self.root.lookout(store)
        with local.lock:  # as in `_stage_once`
            # Subscribe, look, then wait: no wake-up is lost.
            listens = watch.start() if self._listen is None else self._listen(watch)
        # Between the kernels that share a pool no pipe wakes anybody: there it looks as often as if it didn't listen.
        watched = listens and store.pool.kind == "os" and store.pool.local
        local.lookouts[claim.name] = lookout
        lookout.add(claim.name, local.effects.monotonic(), watched=watched, alone=not store.others_waited)
        look = Look(self, claim, lookout)
        try:
            while True:
                now = local.effects.monotonic()
                if self._deadline is not None and now >= self._deadline:
                    self.find_position(claim)
                    if store.withdraw(claim):
                        raise self._timeout()
                    return True
                pause = look(now, watched, serves=not (watched and watch.has_thread()))
                if pause is None:
                    return claim.granted != 0
                yield pause if self._deadline is None else min(pause, self._deadline - now)
                if store.acknowledge(claim):
                    return True
        finally:
            if self.origin.is_here():  # else a fork's child unwinds: pipe, handles and entry are its parent's
                local.waiters.pop(claim.name, None)
                local.lookouts.pop(claim.name, None)
                lookout.remove(claim.name)
                if listens:
                    watch.stop()

    def find_position(self, claim: Claim) -> int:
        """Set and return the ticket's place in the queue; 0 if it has none."""
        queue = self.store.directory.list(QUEUE)
        self.position = 1 + sum(name < claim.name for name in queue) if claim.name in queue else 0
        return self.position

    def _why(self, snapshot: Snapshot) -> str | None:
        """What the provider's answers, or an edit, have to do with it."""
        lines = feedback_lines(self.store, snapshot)
        if self.store.rises_in < math.inf:
            lines += ("config.toml has just been edited: its higher limit counts once it has been the same for 1 s",)
        return "; ".join(lines) or None

    def _timeout(self) -> AcquireTimeout:
        snapshot = self.store.snapshot()
        limits = (effective_limit(snapshot), self._request.limit)  # its own ticket is withdrawn already
        return AcquireTimeout(
            self.store.pool.name.text,
            min((limit for limit in limits if limit is not None), default=None),
            holder_lines(self.store, snapshot),
            self.position,
            self._local.effects.monotonic() - self._started,
            self._why(snapshot),
        )

    def _abandon(self) -> None:
        """Leave nothing behind, wherever the claim got to; whatever was thrown is what the caller hears of."""
        claim, self._claim = self._claim, None
        if claim is None or not self.origin.is_here():
            return
        claims = self._local.claims
        try:
            self.store.finish(claim)
        except OSError as error:
            where = self.store.directory.full(claim.name)
            tell(f"what a failed acquire left could not be removed ({where}: {error}); trying on")
            self._local.heartbeats.add(self.store, claim, lambda: claims.discard(claim), ending=True)
        else:
            claims.discard(claim)

    @property
    def tells(self) -> bool:
        """Whether anybody wants to be told of the wait."""
        return self._request.on_wait is not None

    def tell(self, snapshot: Snapshot) -> None:
        """Call ``on_wait``."""
        if self._request.on_wait is None:
            return
        notice = None
        try:
            self.root.refresh()
        except (ConfigError, StoreError) as error:
            notice = f"the last good configuration stays in force: {error}"
        from leasecap._wait.progress import Waiting  # with it comes dataclasses, 20 ms; it waits anyway

        waiting = Waiting(
            pool=self.store.pool.name.text,
            limit=effective_limit(snapshot),
            in_flight=in_flight(snapshot),
            position=self.position,
            waited=self._local.effects.monotonic() - self._started,
            holders=holder_lines(self.store, snapshot),
            notice=notice or self._why(snapshot) or parent_notice(self.store, snapshot, self._request.borrow),
        )
        try:
            if self._interrupts is None:
                self._request.on_wait(waiting)
            else:
                with self._interrupts.lifted():
                    self._request.on_wait(waiting)
        except Exception as error:
            self._callers_own = error
            raise
        self.origin.check("wait")
