"""A pool on disk, as the rest of leasecap sees it: what `_store.store.Store` asks of any store."""

from __future__ import annotations

from leasecap._decisions.places import LEASES
from leasecap._file_store.ticket import FileTicket
from leasecap._liveness.stamp import decode_stamp
from leasecap._liveness.verdict import LOCK_HELD, NOT_VISIBLE, UNREADABLE, comparable, same_clocks
from leasecap._store.view import FeedbackView, LeaseView, PoolView

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from leasecap._decisions.entry import Entry
    from leasecap._feedback.adaptive import Report
    from leasecap._feedback.latency import Table
    from leasecap._feedback.state import State
    from leasecap._file_store.feedback import Feedback
    from leasecap._file_store.open_root import OpenRoot
    from leasecap._file_store.own_process import OwnProcess
    from leasecap._file_store.store import Store
    from leasecap._liveness.presence import Identity
    from leasecap._store.terms import Terms
    from leasecap._store.ticket import Want


class FileStore:
    """See `_store.store.Store`.

    :ivar store: the open pool.
    """

    def __init__(self, own: OwnProcess, root: OpenRoot, store: Store) -> None:
        self.store = store
        self._own = own
        self._root = root

    @property
    def name(self) -> str:
        return self.store.pool.name.text

    @property
    def path(self) -> str:
        return self.store.directory.path

    @property
    def place(self) -> tuple[str, str]:
        return self._root.path, self.store.pool.name.directory

    @property
    def terms(self) -> Terms:
        return self._feedback.terms

    @property
    def _feedback(self) -> Feedback:
        assert self.store.feedback is not None  # each open pool of a root has one
        return self.store.feedback

    def me(self) -> Identity:
        return self.store.effects.me()

    def monotonic(self) -> float:
        return self.store.effects.monotonic()

    def wall_clock(self) -> float:
        return self.store.effects.wall_clock()

    def chance(self) -> float:
        return int(self.store.effects.token(), 16) / 2**64

    def ticket(self, want: Want) -> FileTicket:
        return FileTicket(self._own, self._root, self.store, want, self._move)

    def _move(self, store: Store) -> None:
        """Another pool stands at the path now."""
        self.store = store

    def end(self, name: str) -> bool:
        return self.store.end(name)

    def post(self, report: Callable[[], Report]) -> None:
        self._feedback.files.post(report())
        self.store.reconciler.transact()

    def update_feedback(self, change: Callable[[State, float], State], *, anew: bool = False) -> bool:
        return self.store.update_feedback(change, anew=anew)

    def feedback_now(self) -> float:
        return self._feedback.files.clock().boot

    def add_latency(self, hour: int, table: Table, tell: Callable[[str], object]) -> Table | None:
        store = self.store
        with self._own.lock:  # a fork must not copy an import half done
            from leasecap._file_store.latency_files import LatencyFiles

            files = store.latency = store.latency or LatencyFiles(store.effects, self._own.lock, store.pool)
        return files.add(hour, table, tell)

    def busy_with(self) -> str:
        return self.store.section.occupant().who

    def wake_all(self) -> None:
        for ticket in self.store.snapshots.take().queue:
            self.store.reconciler.waker(ticket.process, ticket.name)

    # -- the view ---------------------------------------------------------------------------------------------------

    def view_in_steps(self, wake: Callable[[], None]) -> Generator[float, None, PoolView]:
        yield from ()  # nobody else has to be asked
        return self.view()

    def view(self) -> PoolView:
        snapshot, feedback = self.store.snapshots.take_all()
        leases = tuple([self._lease(lease) for lease in snapshot.leases])
        found = None
        if feedback is not None:
            found = FeedbackView(
                feedback.state, self.terms.rules, feedback.clock.boot, tuple(feedback.cooling.values())
            )
        return PoolView(self.name, snapshot, leases, found, self.store.policy.rises_in)

    def _lease(self, lease: Entry) -> LeaseView:
        store = self.store
        record = store.observer.record(LEASES, lease.name)
        granted = store.observer.granted_at(LEASES, lease.name)
        held_for = None
        if granted is not None and record is not None and record.boot is not None and record.boot == self.me().boot:
            held_for = store.effects.boot_clock() / 1e9 - granted
        return LeaseView(lease, record, granted, held_for, self._doubt(lease))

    def _doubt(self, lease: Entry) -> str:
        store, me = self.store, self.me()
        record = store.observer.record(LEASES, lease.name)
        if record is not None and comparable(record, me):
            return ""
        finding, record, content = store.observer.look(LEASES, lease.name)
        doubt = finding.evidence in (NOT_VISIBLE, UNREADABLE)
        if finding.evidence == LOCK_HELD and record is not None and same_clocks(record, me):
            # The holder may be stopped; or it is gone, and a daemon that it left behind keeps the lock.
            stamp = decode_stamp(content or b"")
            doubt = stamp is not None and store.effects.boot_clock() - stamp[0] > record.stale_after * 1e9
        return finding.evidence if doubt else ""
