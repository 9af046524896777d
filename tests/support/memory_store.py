"""A second store, in the memory of one process: what `_store` asks of any store, with the shipped decisions.

It proves that whatever acquires, holds and explains knows no pool on disk.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from collections import defaultdict
from contextlib import contextmanager

from leasecap._config.pool_name import pool_name
from leasecap._decisions.entry import Group, make_entry
from leasecap._decisions.grants import decide
from leasecap._decisions.limits import effective_limit
from leasecap._decisions.snapshot import Snapshot
from leasecap._feedback.latency import added
from leasecap._feedback.rules import Rules
from leasecap._feedback.state import NOTHING
from leasecap._host.process import this_process
from leasecap._liveness.max_hold import hold_of
from leasecap._liveness.record import Record
from leasecap._runtime import Runtime
from leasecap._store.picture import EntryPicture, LatencyPicture, PoolPicture
from leasecap._store.terms import Terms
from leasecap._store.ticket import NoLimit, Standing
from leasecap._store.view import LeaseView, PoolView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from typing import Any

    import pytest

    from leasecap._config.config import PoolConfig
    from leasecap._config.pool_name import PoolName
    from leasecap._decisions.entry import Entry
    from leasecap._feedback.adaptive import Report
    from leasecap._feedback.latency import Table
    from leasecap._feedback.state import State as FeedbackState
    from leasecap._file_store.open_root import OpenRoot
    from leasecap._liveness.max_hold import Hold
    from leasecap._liveness.presence import Identity
    from leasecap._store.lease import HeldLease
    from leasecap._store.picture import State
    from leasecap._store.ticket import Ticket, Want

LOOK = 5.0
"""Seconds between looks of a ticket: long enough that a wait without a wake-up is seen."""


class MemoryStore:
    """One pool, shared by the threads of this process."""

    def __init__(self, name: str, limit: int | None) -> None:
        self.name, self.path, self.place = name, f"memory:{name}", ("memory", name)
        self.limit = limit
        self.terms = Terms(Rules())
        self.lock = threading.RLock()
        self.queue: dict[str, MemoryTicket] = {}
        self.leases: dict[str, MemoryLease] = {}
        self.numbers = itertools.count(1)
        self.reports: list[Report] = []
        self.state: FeedbackState = NOTHING
        self.latency: dict[int, Table] = {}

    def me(self) -> Identity:
        return this_process()

    def monotonic(self) -> float:
        return time.monotonic()

    def wall_clock(self) -> float:
        return time.time()

    def chance(self) -> float:
        return 0.5

    def ticket(self, want: Want) -> Ticket:
        return MemoryTicket(self, want)

    def snapshot(self) -> Snapshot:
        return Snapshot(self.limit, queue=Group([*self.queue]), leases=Group([*self.leases]))

    def grant(self) -> None:
        """Give each free slot to whoever is next; inside the lock."""
        for entry in decide(self.snapshot(), time.monotonic()).grant:
            ticket = self.queue.pop(entry.name)
            self.leases[entry.name] = ticket.held = MemoryLease(self, ticket)
            ticket.want.wake()

    def view(self) -> PoolView:
        with self.lock:
            now = time.monotonic()
            leases = [
                LeaseView(one.entry, one.record, one.granted, now - one.granted, "") for one in self.leases.values()
            ]
            return PoolView(self.name, self.snapshot(), tuple(leases), None, math.inf)

    def view_in_steps(self, wake: Callable[[], None]) -> Generator[float, None, PoolView]:
        yield from ()
        return self.view()

    def end(self, name: str) -> bool:
        with self.lock:
            lease = self.leases.pop(name, None)
            self.grant()
        if lease is not None and lease.on_gone is not None:
            lease.on_gone()
        return lease is not None

    def post(self, report: Callable[[], Report]) -> None:
        self.reports.append(report())

    def update_feedback(self, change: Callable[[FeedbackState, float], FeedbackState], *, anew: bool = False) -> bool:
        self.state = change(self.state, time.monotonic())
        return True

    def feedback_now(self) -> float:
        return time.monotonic()

    def add_latency(self, hour: int, table: Table, tell: Callable[[str], object]) -> Table | None:
        self.latency[hour] = added(self.latency.get(hour, {}), table)
        return self.latency[hour]

    def busy_with(self) -> str:
        return "nobody"

    def wake_all(self) -> None:
        for ticket in self.queue.values():
            ticket.want.wake()


class MemoryTicket:
    """See `_store.ticket.Ticket`."""

    def __init__(self, store: MemoryStore, want: Want) -> None:
        self.store, self.want = store, want
        self.held: MemoryLease | None = None
        self.asked, self.record = time.monotonic(), record_of(store, want)
        number = next(store.numbers)
        self.entry: Entry = make_entry(
            token=f"{number:016x}",
            process=f"{os.getpid():012x}",
            order=number,
            priority=want.priority,
            limit=want.limit,
            ancestors=want.lenders,
        )

    def offer(self, *, may_queue: bool, deadline: float | None) -> Generator[float, None, Standing]:
        store = self.store
        if False:
            yield 0.0  # it is never busy
        with store.lock:
            store.queue[self.entry.name] = self
            if effective_limit(store.snapshot()) is None:
                del store.queue[self.entry.name]
                raise NoLimit
            store.grant()
            if self.held is None and not may_queue:
                del store.queue[self.entry.name]
                return Standing("refused")
            return self.look()

    def look(self) -> Standing:
        return Standing("held") if self.held is not None else Standing("queued", LOOK)

    def withdraw(self) -> Generator[float, None, Standing]:
        if False:
            yield 0.0
        self.leave()
        return Standing("held" if self.held is not None else "gone")

    def leave(self) -> None:
        with self.store.lock:
            self.store.queue.pop(self.entry.name, None)
            self.store.grant()

    def lease(self) -> HeldLease:
        assert self.held is not None
        return self.held

    def find_position(self) -> int:
        names = sorted(self.store.queue)
        return names.index(self.entry.name) + 1 if self.entry.name in names else 0

    def end(self) -> None:
        self.leave()
        if self.held is not None:
            self.held.release()


def record_of(store: MemoryStore, want: Want) -> Record:
    """What a call for a slot says of its process."""
    me = this_process()
    return Record(
        store.name, me.pid, me.start, me.uid, me.boot, me.machine, me.pid_ns, me.time_ns, "", True, "lock",
        want.label, " ".join(want.argv or ()), "", max_hold=want.max_hold, kill_after=want.kill_after,
    )  # fmt: skip


class MemoryLease:
    """See `_store.lease.HeldLease`."""

    def __init__(self, store: MemoryStore, ticket: MemoryTicket) -> None:
        want = ticket.want
        self.entry, self._store = ticket.entry, store
        self.pool, self.token, self.place = store.name, ticket.entry.token, store.place
        self.granted = time.monotonic()
        self.record = ticket.record
        self.hold: Hold | None = None if want.max_hold is None else hold_of(self.record, self.granted)
        self.on_gone: Callable[[], None] | None = None
        self.owes = False
        self.answered = False

    def now(self) -> float:
        return time.monotonic()

    def keep(self, lease: object, on_gone: Callable[[], None], on_dropped: Callable[[], None]) -> None:
        self.on_gone = on_gone

    def set_alarm(self, when: float, on_alarm: Callable[[], None]) -> None:
        alarm = threading.Timer(max(when - self.now(), 0.0), on_alarm)
        alarm.daemon = True
        alarm.start()

    def release(self, *, hand_off: bool = True) -> bool:
        with self._store.lock:
            held = self._store.leases.pop(self.entry.name, None)
            self.owes = not hand_off
            if hand_off:
                self._store.grant()
        return held is not None

    def hand_off(self) -> None:
        with self._store.lock:
            self.owes = False
            self._store.grant()

    def describe(self, **fields: Any) -> bool:
        self.record = self.record._replace(**fields)
        return self.entry.name in self._store.leases

    def note_answer(self) -> None:
        self.answered = True

    def let_go(self) -> None:
        self.on_gone = None

    def watch_doubt(self, on_doubt: Callable[[], None]) -> None:
        pass  # who holds here is never in doubt of it

    def ends_in(self) -> float | None:
        return None

    def give_away(self) -> bool | None:
        return False

    def removed(self) -> str:
        return ""

    def inheritable(self) -> int | None:
        return None


class MemoryPictures:
    """See `_store.picture.Pictures`."""

    unlisted = ""

    def __init__(self, stores: dict[str, MemoryStore]) -> None:
        self._stores = stores

    def names(self) -> list[PoolName]:
        return [pool_name(store.name) for store in self._stores.values()]

    def pool(self, name: PoolName, settings: PoolConfig | None, hours: int = 0) -> PoolPicture | None:
        store = self._stores.get(name.directory)
        if store is None:
            return None
        with store.lock:
            leases = [_picture(one.entry, "held", one.record, one.granted) for one in store.leases.values()]
            queue = [_picture(one.entry, "waiting", one.record, one.asked) for one in store.queue.values()]
            latency = LatencyPicture({}, ())
            return PoolPicture(
                store.path, "memory", True, store.snapshot(), tuple(leases), tuple(queue), (), None, None, latency
            )

    def silent_gates(self) -> tuple[()]:
        return ()

    def standing_gates(self) -> tuple[()]:
        return ()


def _picture(entry: Entry, state: State, record: Record, since: float) -> EntryPicture:
    return EntryPicture(entry, state, record, None, True, "", False, time.monotonic() - since, None, 0.0)


def serve_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the pools of each root that this process uses in its memory."""
    roots: defaultdict[str, dict[str, MemoryStore]] = defaultdict(dict)

    def store(runtime: Runtime, root: OpenRoot, pool: PoolConfig) -> MemoryStore:
        return roots[root.path].setdefault(pool.name.directory, MemoryStore(pool.name.text, pool.limit))

    @contextmanager
    def using(runtime: Runtime, root: OpenRoot, pool: str) -> Iterator[MemoryStore]:
        yield store(runtime, root, root.config.pool(pool))

    def pictures(runtime: Runtime, root: str, config: object = None, apart: object = None) -> MemoryPictures:
        return MemoryPictures(roots[root])

    monkeypatch.setattr(Runtime, "store", store)
    monkeypatch.setattr(Runtime, "using", using)
    monkeypatch.setattr(Runtime, "pictures", pictures)
