"""The ends of those who hold: who is woken by each of them need not look for the dead.

One of the first two in the queue asks the kernel for a handle on each process that speaks for a lease (on Linux a
pidfd), and its process's watch waits for all of them. While every lease is covered in that way, and nothing else can
come to be due by itself, it sweeps once a second instead of ten times, and at once when a process has ended.

Who holds can change at any time. So first it says in its ticket that it rests, and then it looks. Whoever grants
anything wakes those who rest, after the grant, and so does who finds that the provider's answers keep somebody out
(`_settle.Settled.leave`): one of the two sees the other. Who is woken goes on as before until a period was quiet.
"""

from __future__ import annotations

from functools import partial

from leasecap._errors import StoreError
from leasecap._pool import GRANTED, LEASES, QUEUE, RESTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from leasecap._entries import Claim
    from leasecap._local import Local
    from leasecap._store import Store
    from leasecap._watch import Watch

    Process = tuple[int, int]  # pid and start


class Ends:
    """What one waiter watches.

    :ivar came: a process has ended; set in the watch's thread, and for the waiter to reset.
    """

    def __init__(self, local: Local, store: Store, watch: Watch, claim: Claim, wake: Callable[[], None]) -> None:
        self.came = False
        self._local = local
        self._store = store
        self._watch = watch
        self._claim = claim
        self._wake = wake
        self._says_so = False
        self._speakers: dict[str, Process] = {}  # by the lease's name
        self._handles: dict[Process, int] = {}
        self._over: set[Process] = set()

    def cover(self) -> bool:
        """Watch whoever holds now; False if something could become due of which nobody would tell."""
        try:
            return self._say_so() and self._is_quiet() and self._cover()
        except (OSError, StoreError):
            return False

    def _say_so(self) -> bool:
        if not self._says_so:
            try:
                self._store.directory.write(f"{QUEUE}/{self._claim.name}/{RESTS}", b"")
            except FileExistsError:
                pass  # one that could not be removed after the entry's last use
            self._says_so = True
        return True

    def _is_quiet(self) -> bool:
        if self._store.force:
            return False  # a slot may have to be given away
        lessons = self._store.lessons()
        return lessons is None or lessons.silent

    def _cover(self) -> bool:
        directory = self._store.directory
        # In the order in which entries move on. A grant may have to be taken back.
        granted, leases = directory.list(GRANTED), directory.list(LEASES)
        over, self._over = self._over, set()
        self._speakers = {
            name: process for name in leases if (process := self._speakers.get(name)) and process not in over
        }
        self._drop(self._handles.keys() - set(self._speakers.values()))
        if granted or not leases:
            return False
        return all(name in self._speakers or self._find_speaker(name) for name in leases)

    def _find_speaker(self, name: str) -> bool:
        for process in self._store.observer.speakers(name):
            if process in self._handles or self._attend(process):
                self._speakers[name] = process
                return True
        return False

    def _attend(self, process: Process) -> bool:
        effects = self._local.effects
        with self._local.lock:  # a fork must copy no descriptor that is open and not yet known
            handle = effects.end_of(*process)
            if handle is None:
                return False
            if self._watch.add(handle, partial(self._ended, process)):
                self._handles[process] = handle
                return True
            effects.close(handle)
        return False

    def _ended(self, process: Process) -> None:
        self._over.add(process)
        self.came = True
        self._wake()

    def _drop(self, processes: Iterable[Process]) -> None:
        with self._local.lock:  # as in `_attend`
            for process in processes:
                self._watch.drop(self._handles.pop(process))

    def close(self) -> None:
        """Watch nobody any more, after the wait. An entry may be used again, and must not say then that it rests."""
        self._drop(tuple(self._handles))
        if self._says_so:
            self._store.unlink(f"{LEASES}/{self._claim.name}/{RESTS}")
