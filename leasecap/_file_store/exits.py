"""Exits of processes: a process that is woken by them need not look for the dead.

A waiting process asks the kernel for a handle on another one (`_host.exits`), and whoever receives for it waits for
that too. Each process watches the one right ahead of it in the queue. The first two also watch all that keep a lease,
and one of those whose declared limit holds. While all of these are covered, and nothing else can become due by itself,
the first two sweep once a second instead of ten times, and at once when a process has exited. That is called resting.

The holders can change at any time. So whoever grants anything notifies the first two after the grant
(`notices.whom_to_notify`); so does whoever finds that the provider's answers keep somebody out. A process that looked
before the grant is so told of it, and one that looks later sees it. Whoever is notified no longer rests until a period
was quiet.
"""

from __future__ import annotations

from functools import partial

from leasecap._decisions.places import GRANTED, LEASES
from leasecap._errors import StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from leasecap._file_store.own_process import OwnProcess
    from leasecap._file_store.store import Store
    from leasecap._file_store.wakeups import Watch
    from leasecap._liveness.presence import Presence

    Process = tuple[int, int]  # pid and start


class Exits:
    """What one process watches in one pool.

    :ivar came: a process has exited; whoever receives sets it, and whoever looks resets it.
    """

    def __init__(self, own: OwnProcess, store: Store, watch: Watch, wake: Callable[[], None]) -> None:
        self.came = False
        self._own = own
        self._store = store
        self._watch = watch
        self._wake = wake
        self._speakers: dict[str, Process] = {}  # by the lease's name
        self._others: set[Process] = set()
        self._handles: dict[Process, int] = {}
        self._start = watch.starts
        self._over: set[Process] = set()

    def watch(self, others: Iterable[Process]) -> bool:
        """Watch these processes, beside those who hold (`cover`), and no longer those of the last call.

        Returns whether all of them can be watched and ran when they were first watched.
        """
        if self._start != self._watch.starts:  # the program had closed all descriptors, and these with them
            self._start = self._watch.starts
            self._handles.clear()
            self._speakers.clear()
        over, self._over = self._over, set()
        self._speakers = {name: process for name, process in self._speakers.items() if process not in over}
        self._others = set(others)
        self._drop(self._handles.keys() - self._others - set(self._speakers.values()) | (over & self._handles.keys()))
        missing = [one for one in self._others if not (one in self._handles or self._attach(one) == "runs")]
        return not missing

    def cover(self) -> bool:
        """Watch whoever holds now; False if something could become due without a wake-up."""
        try:
            return self._is_quiet() and self._cover()
        except (OSError, StoreError):
            return False

    def _is_quiet(self) -> bool:
        if self._store.policy.force:
            return False  # a slot may have to be given away
        view = self._store.snapshots.feedback()
        return view is None or view.silent

    def _cover(self) -> bool:
        # Listed in the order in which entries move. A grant that isn't acknowledged may have to be taken back.
        granted, leases = self._store.directory.list(GRANTED), self._store.directory.list(LEASES)
        self._speakers = {name: process for name in leases if (process := self._speakers.get(name))}
        self._drop(self._handles.keys() - self._others - set(self._speakers.values()))
        if granted or not leases:
            return False
        return all(name in self._speakers or self._find_speaker(name) for name in leases)

    def _find_speaker(self, name: str) -> bool:
        for process in self._store.observer.speakers(name):
            if process in self._handles or self._attach(process) is not None:
                self._speakers[name] = process
                return True
        return False

    def _attach(self, process: Process) -> Presence | None:
        effects = self._own.effects
        with self._own.lock:  # a fork must not copy a descriptor that is open and not yet noted
            found = effects.exit_of(*process)
            if found is None:
                return None
            handle, presence = found
            if self._watch.add(handle, partial(self._exited, process)):
                self._handles[process] = handle
                return presence
            effects.close_exit(handle)
        return None

    def _exited(self, process: Process) -> None:
        self._over.add(process)
        self.came = True
        self._wake()

    def _drop(self, processes: Collection[Process]) -> None:
        if not processes:
            return
        with self._own.lock:  # as in `_attach`
            for process in processes:
                self._watch.drop(self._handles.pop(process))

    def close(self) -> None:
        """Watch nobody any more."""
        self._speakers, self._others = {}, set()
        self._drop(tuple(self._handles))
