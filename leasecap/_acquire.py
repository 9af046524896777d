"""How a slot is acquired: one procedure for threads, event loops and `leasecap run`, on any store.

It is a generator. It yields how long to pause at most (seconds) and is resumed then, or when its waker is called;
`blocking` and `event_loop` have the drivers. Nothing in it blocks.
"""

from __future__ import annotations

import math

from leasecap import _ancestry
from leasecap._decisions.limits import effective_limit, in_flight
from leasecap._errors import AcquireTimeout, ConfigError, LeasecapError, StoreError
from leasecap._faults import store_error
from leasecap._messages import holder_lines, no_limit, parent_notice, why
from leasecap._store.ticket import NoLimit, Want

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from leasecap._host.deferred_signals import DeferredSignals
    from leasecap._origin import Origin
    from leasecap._request import Request
    from leasecap._store.lease import HeldLease
    from leasecap._store.store import Root, Store
    from leasecap._store.ticket import Standing
    from leasecap._store.view import PoolView
    from leasecap._store.wakeup import Wakeup


class Acquisition:
    """One call for a slot."""

    def __init__(
        self,
        root: Root,
        store: Store,
        request: Request,
        origin: Origin,
        wake: Callable[[], None],
        started: float,
        listen: Callable[[Wakeup], bool] | None = None,
        interrupts: DeferredSignals | None = None,
    ) -> None:
        """
        :param origin: the process in which the call is made.
        :param wake: called from any thread when it is worth looking before the pause is over.
        :param started: when it was made (the store's monotonic clock): something else may have been waited for since.
        :param listen: begins to receive this process's wake-ups.
        :param interrupts: deferred in each step, and delivered while ``on_wait`` is called.
        """
        self.origin = origin
        self._root = root
        self._store = store
        self._request = request
        self._interrupts = interrupts
        self._wake = wake
        self._started = started
        self._deadline = None if request.timeout is None else self._started + request.timeout
        self._on_wait_every = 1.0
        self._on_wait_at = math.inf if request.on_wait is None else self._started + self._on_wait_every
        self._callers_own: Exception | None = None
        self._position = 0
        self._ticket = store.ticket(
            Want(
                priority=request.priority,
                limit=request.limit,
                label=request.label,
                argv=request.argv,
                lenders=_ancestry.tokens(*store.place) if request.borrow else (),
                max_hold=request.max_hold,
                kill_after=request.kill_after,
                agent=request.agent,
                wake=wake,
                listen=listen,
                place=request.place,
                purpose=request.purpose,
                task_since=request.task_since,
            )
        )

    def steps(self) -> Generator[float, None, HeldLease]:
        """Acquire; returns the lease.

        Nothing is left behind when it raises or is closed.

        :raises AcquireTimeout, ConfigError, StoreError: as `leasecap.acquire`.
        """
        try:
            while True:
                standing = yield from self._ticket.offer(may_queue=self._request.timeout != 0, deadline=self._deadline)
                if standing.state == "queued":
                    standing = yield from self._wait(standing)
                if standing.state == "held":
                    return self._ticket.lease()
                if standing.state == "refused":
                    raise (yield from self._timeout())
        except NoLimit:
            self._ticket.end()
            raise no_limit(self._store.name, self._root.config) from None
        except OSError as error:
            self._ticket.end()
            if isinstance(error, LeasecapError) or error is self._callers_own:
                raise  # AcquireTimeout is a TimeoutError, and that an OSError
            raise store_error(error, self._store.path) from error
        except BaseException:
            self._ticket.end()
            raise

    def _wait(self, standing: Standing) -> Generator[float, None, Standing]:
        """Wait in the queue."""
        ticket = self._ticket
        while standing.state == "queued":
            now = self._store.monotonic()
            if self._deadline is not None and now >= self._deadline:
                self._position = ticket.find_position()
                standing = yield from ticket.withdraw()
                if standing.state != "held":
                    raise (yield from self._timeout())
                return standing
            if now >= self._on_wait_at:
                self._on_wait_every *= 2
                self._on_wait_at = now + self._on_wait_every
                yield from self._call_on_wait()
                standing = ticket.look()  # what has woken it meanwhile wakes it no more
                continue
            pause = min(standing.look_in, self._on_wait_at - now)
            yield pause if self._deadline is None else min(pause, self._deadline - now)
            standing = ticket.look()
        return standing

    def _timeout(self) -> Generator[float, None, AcquireTimeout]:
        view = yield from self._store.view_in_steps(self._wake)
        limits = (effective_limit(view.snapshot), self._request.limit)  # its own ticket is withdrawn already
        return AcquireTimeout(
            view.pool,
            min((limit for limit in limits if limit is not None), default=None),
            holder_lines(view),
            self._position,
            self._store.monotonic() - self._started,
            why(view),
        )

    def _parent_notice(self, view: PoolView) -> str | None:
        return parent_notice(view, self._store.me(), self._store.place) if self._request.borrow else None

    def _call_on_wait(self) -> Generator[float, None, None]:
        """Call ``on_wait``."""
        if self._request.on_wait is None:
            return
        self._position = self._ticket.find_position()
        notice = None
        try:
            self._root.refresh()
        except (ConfigError, StoreError) as error:
            notice = f"the last good configuration stays in force: {error}"
        from leasecap._wait.progress import Waiting  # with it come dataclasses, slow to load; it waits anyway

        view = yield from self._store.view_in_steps(self._wake)
        waiting = Waiting(
            pool=view.pool,
            limit=effective_limit(view.snapshot),
            in_flight=in_flight(view.snapshot),
            position=self._position,
            waited=self._store.monotonic() - self._started,
            holders=holder_lines(view),
            notice=notice or why(view) or self._parent_notice(view),
        )
        try:
            if self._interrupts is None:
                self._request.on_wait(waiting)
            else:
                with self._interrupts.delivered():
                    self._request.on_wait(waiting)
        except Exception as error:
            self._callers_own = error
            raise
        self.origin.check("wait")
