"""What a ticket in the queue needs: a wake-up, a look-out, and looks."""

from __future__ import annotations

from _thread import get_ident

from leasecap._file_store.poller import Poller
from leasecap._threads import is_in_loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._file_store.open_root import OpenRoot
    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._file_store.own_process import OwnProcess
    from leasecap._file_store.store import Store
    from leasecap._store.ticket import Want


class Queued:
    """What a ticket needs while it stands in the queue."""

    def __init__(self, own: OwnProcess, root: OpenRoot, store: Store, own_entry: OwnEntry, want: Want) -> None:
        self._own = own
        self._name = own_entry.name
        self._clock = store.effects.monotonic
        self._watch, self._lookout = root.notifier.watch(), root.lookout(store)
        self.poller = Poller(store, own_entry, self._lookout)
        if want.listen is not None and is_in_loop():
            self._warn_of_own_loop(store)
        own.waiters[own_entry.name] = want.wake
        with own.lock:  # a fork must not copy a descriptor that is open and not yet noted
            # It listens first, looks then, and waits last: so no wake-up is lost.
            self._listens = self._watch.start() if want.listen is None else want.listen(self._watch)
        # Another kernel's processes can't wake this one. In a pool that kernels share it polls as if it didn't listen.
        self._one_kernel = self._listens and store.pool.kind == "os" and store.pool.local
        own.lookouts[own_entry.name] = self._lookout
        alone = not store.reconciler.others_waited
        watched = self._one_kernel and self._watch.runs_lookouts
        self._lookout.add(own_entry.name, self._clock(), watched=watched, alone=alone)

    def _warn_of_own_loop(self, store: Store) -> None:
        """Warn of a blocking call in an event loop that will wait for ever: only this very loop could give a slot
        back."""
        here, own_entries = get_ident(), self._own.own_entries.copy()
        own = {
            own_entry.name for own_entry in own_entries if own_entry.home is store.entries and own_entry.thread == here
        }
        snapshot = store.snapshots.take()
        held = {*snapshot.granted.names, *snapshot.leases.names}
        if held and held <= own:
            import warnings

            warnings.warn(
                f"a blocking call for a slot of pool {store.pool.name.text!r} stops this thread's event loop, and all "
                "its slots are held in this loop: it waits for itself, unless another thread releases one. Use "
                "`async with leasecap.slot(...)` or `await leasecap.acquire_async(...)`",
                RuntimeWarning,
                stacklevel=2,
            )

    def look(self) -> float | None:
        """Seconds until the next look; None if the ticket left the queue."""
        watched = self._listens and self._watch.reaches() and self._one_kernel  # a plain file reaches it after a while
        serves = not (watched and self._watch.is_received())
        return self.poller.look(self._clock(), watched, serves=serves)

    def end(self) -> None:
        """Listen no longer."""
        self._own.waiters.pop(self._name, None)
        self._own.lookouts.pop(self._name, None)
        self._lookout.remove(self._name)
        if self._listens:
            self._listens = False
            self._watch.stop()
