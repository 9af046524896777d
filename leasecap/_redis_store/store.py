"""A pool in a store, as the rest of leasecap sees it: what `_store.store.Store` asks of any store."""

from __future__ import annotations

import math
import time
from functools import partial

from leasecap._decisions.entry import parse_entry
from leasecap._decisions.limits import UNLIMITED
from leasecap._decisions.snapshot import Snapshot
from leasecap._errors import StoreError, Unreachable
from leasecap._feedback.state import NOTHING
from leasecap._host.own_record import this_host
from leasecap._liveness.record import called, decode_record
from leasecap._log import log_warning_apart
from leasecap._redis_store.deciding import decision_or_fault, rules_of, snapshot_of, state_of
from leasecap._redis_store.open_pool import AGAIN_WITHIN, OpenPool
from leasecap._redis_store.policy import asked_by, differing, fields_of, policy_of
from leasecap._redis_store.ticket import RedisTicket
from leasecap._store.view import FeedbackView, LeaseView, PoolView
from leasecap._threads import is_in_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from leasecap._feedback.adaptive import Report
    from leasecap._feedback.latency import Table
    from leasecap._feedback.state import State
    from leasecap._liveness.presence import Identity
    from leasecap._redis_store.answer import Picture, Seen
    from leasecap._store.terms import Terms
    from leasecap._store.ticket import Want

_TICK = 0.001
"""Seconds. The store counts whole milliseconds, and a report must not seem older than the leases granted before it."""


class RedisStore:
    """See `_store.store.Store`.

    :ivar own: what this process has in the store.
    :ivar pool: the pool in it.
    """

    def __init__(self, opened: OpenPool) -> None:
        self._open = opened
        self.own, self.pool = opened.own, opened.pool
        self._settings = opened.settings

    @property
    def name(self) -> str:
        return self._open.name

    @property
    def path(self) -> str:
        return self.pool.path

    @property
    def place(self) -> tuple[str, str]:
        return self._open.place

    @property
    def terms(self) -> Terms:
        terms = self.pool.terms
        terms.rules = asked_by(self._settings.rules, self.pool.rules)
        return terms

    @property
    def by_task(self) -> bool:
        """Whether calls of earlier tasks may go first; where the server hasn't said it yet, they may."""
        return self.pool.by_task is not False

    def me(self) -> Identity:
        return self.own.effects.me()

    def monotonic(self) -> float:
        return self.own.effects.monotonic()

    def wall_clock(self) -> float:
        return self.own.effects.wall_clock()

    def chance(self) -> float:
        return int(self.own.effects.token(), 16) / 2**64

    def ticket(self, want: Want) -> RedisTicket:
        return RedisTicket(self._open, want)

    def end(self, name: str) -> bool:
        return self.pool.end(parse_entry(name).token or name, by_holder=False)

    def post(self, report: Callable[[], Report]) -> None:
        made = self._open.boot_clock()

        def ago() -> float:
            return max(self._open.boot_clock() - made - _TICK, 0.0)

        if is_in_loop():
            self.own.report_soon(self.pool, partial(self._post_later, report, ago))
        elif not self.pool.take_up(report(), ago):
            raise StoreError(
                "the pool is too busy for a report", path=self.path, remedy="nothing was noted; report it again"
            )

    def _post_later(self, report: Callable[[], Report], ago: Callable[[], float]) -> None:
        what = "a report"
        try:
            made = report()
            what = made.why
            if self.pool.take_up(made, ago):
                return
            trouble = "the pool is too busy"
        except StoreError as error:
            trouble = str(error)
        log_warning_apart(f"{what} could not be noted in pool {self.name!r}: {trouble}")

    def set_limit(self, limit: int | None) -> None:
        """Set the limit that holds for all machines; None takes it out."""
        text = "" if limit is None else str(min(limit, UNLIMITED))
        by, at = self._who_and_when()
        self.pool.configure(limit=text, limit_by=by, limit_at=at)

    def limit_for_all(self) -> tuple[int | None, str]:
        """The limit that `set_limit` has set, and who has set it, for people."""
        picture = self.pool.picture()
        by = f"set by {picture.limit_by} at {picture.limit_at}" if picture.limit_by else ""
        return picture.seen.limit, by

    def has_limit(self) -> bool:
        """Whether anything gives the pool a limit: a person has set it, or one who holds or waits declares it."""
        seen = self.pool.picture().seen
        names = (*seen.queue, *seen.passed, *seen.granted, *seen.leases)
        return seen.limit is not None or any(parse_entry(name).limit is not None for name in names)

    def policy(self) -> tuple[dict[str, object], str, list[str]]:
        """What holds for everybody, who has said so, and the keys that this machine's file sets to something else."""
        picture = self.pool.picture()
        found: dict[str, object] = decision_or_fault(self.path, lambda: policy_of(picture))
        by = f"pushed by {picture.policy_by} at {picture.policy_at}" if picture.policy_by else ""
        return found, by, differing(self._settings, found)

    def push_policy(self) -> None:
        """Make this machine's configuration everybody's.

        :raises ConfigError: when it says what a server can't do.
        """
        by, at = self._who_and_when()
        self.pool.configure(**fields_of(self._settings), policy_by=by, policy_at=at)

    def _who_and_when(self) -> tuple[str, str]:
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.wall_clock()))
        return f"uid {self.me().uid} on {this_host()}", when

    def forget(self) -> bool:
        """Remove the pool, which nobody uses; False: there is none.

        :raises StoreError: when somebody holds a slot in it or waits; nothing is changed then.
        """
        found = self.pool.forget()
        if found == "used":
            records = map(decode_record, self.pool.picture().records.values())
            users = dict.fromkeys(called(record) for record in records if record is not None)
            raise StoreError(
                f"the pool {self.name!r} is in use by {', '.join(users) or 'somebody'}",
                path=self.path,
                remedy="forget it when they have ended; `leasecap status` shows who holds and who waits, and `leasecap "
                "release ID` takes a slot from who can't be ended",
            )
        return found == "forgotten"

    def update_feedback(self, change: Callable[[State, float], State], *, anew: bool = False) -> bool:
        return self.pool.change_feedback(change, anew=anew)

    def feedback_now(self) -> float:
        return self.pool.picture().seen.now

    def add_latency(self, hour: int, table: Table, tell: Callable[[str], object]) -> Table | None:
        return self.own.latencies.add(self.pool, hour, table, tell)

    def busy_with(self) -> str:
        return f"others who change the pool {self.name!r} all the time"

    def wake_all(self) -> None:
        try:
            self.pool.wake_all()
        except Unreachable:
            pass  # what they wait for is noted already, and each looks by itself before long

    # -- the view ---------------------------------------------------------------------------------------------------

    def view(self) -> PoolView:
        return self._view(self.pool.picture())

    def view_in_steps(self, wake: Callable[[], None]) -> Generator[float, None, PoolView]:
        if trouble := self.own.trouble(self.pool):
            return self._unseen(trouble)
        see = partial(self.pool.picture, within=AGAIN_WITHIN)
        try:
            return self._view((yield from self._open.until_done(see, wake, self.monotonic())))
        except Unreachable as error:
            return self._unseen(str(error))

    def _unseen(self, trouble: str) -> PoolView:
        return PoolView(self.name, Snapshot(self._settings.limit), (), None, math.inf, trouble)

    def _view(self, picture: Picture) -> PoolView:
        seen = picture.seen
        leases = tuple(
            LeaseView(entry, decode_record(picture.records.get(entry.token, b"")), since, seen.now - since, "")
            for entry, since in ((parse_entry(name), since) for name, since in {**seen.leases, **seen.granted}.items())
        )
        feedback, snapshot = self.feedback_in(seen)
        closed = ""
        if seen.closed_for:
            closed = f"the store was started anew or has lost something: nobody gets a slot for {seen.closed_for:.0f} s"
        return PoolView(self.name, snapshot, leases, feedback, math.inf, closed)

    def feedback_in(self, seen: Seen) -> tuple[FeedbackView | None, Snapshot]:
        """What the provider's answers have made of the pool, and the snapshot with that in it.

        :raises StoreError: when that can't be read.
        """
        state, rules = decision_or_fault(self.path, lambda: (state_of(seen), rules_of(seen)))
        snapshot = snapshot_of(seen, state, rules, counts=self.pool.counts)
        if state is NOTHING and not seen.cooling:
            return None, snapshot
        cooling = tuple(max(until - seen.now, 0.0) for until in seen.cooling.values())
        return FeedbackView(state, rules, seen.now, cooling), snapshot
