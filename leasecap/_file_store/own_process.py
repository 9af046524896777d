"""What this process has in all its pools, shared by its threads, tasks and event loops."""

from __future__ import annotations

import os
import threading
from binascii import crc32

from leasecap._file_store.heartbeats import Heartbeats
from leasecap._host.effects import Effects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    from leasecap._file_store.own_entry import OwnEntry
    from leasecap._file_store.store import Store

    class Watcher(Protocol):
        """Looks after the queue of one pool for all tickets of this process."""

        def ask(self) -> None:
            """Somebody asks whether this process runs."""

        def notify(self) -> None:
            """Something has changed in the queue."""

        def wake_all(self) -> None:
            """Have all waiters of this process look."""


class OwnProcess:
    """What this process has. A fork's child starts with nothing.

    :ivar program: the half of `id` that no other program has, and no fork's child.
    :ivar lock: held across a fork, so that a child copies no descriptor that isn't noted yet, and no import half done.
    :ivar waiters: what wakes the waiter of each queued ticket; ``lookouts``: the look-out over each ticket's queue.
    :ivar own_entries: the entries of this process that hold a descriptor.
    """

    def __init__(self, effects: Effects | None = None) -> None:
        self.effects = effects or Effects()
        self.lock = threading.RLock()
        self.start()

    def start(self) -> None:
        """Begin with nothing."""
        self.program = os.urandom(3).hex()
        self._id = ""
        self.heartbeats = Heartbeats()
        self.waiters: dict[str, Callable[[], None]] = {}
        self.lookouts: dict[str, Watcher] = {}
        self.own_entries: set[OwnEntry] = set()
        self._users: dict[object, Store] = {}

    @property
    def id(self) -> str:
        """By which ``wake/`` and its entries name this process.

        Its second half says which process that is, whatever program it becomes (`former_program`). It is made when it
        is needed, since a fork's child mostly needs none.
        """
        if not self._id:
            me = self.effects.me()
            who = f"{me.pid} {me.start} {me.boot} {me.pid_ns}".encode()
            self._id = f"{self.program}{crc32(who) & 0xFFFFFF:06x}"
        return self._id

    def forget_entries(self) -> None:
        """In a fork's child: let go of what is the parent's.

        Descriptors are closed and never unlocked: an OS lock belongs to the open description, which the parent shares.
        A copy of ``alive`` that stayed open here would keep a dead parent's lease alive.
        """
        for own_entry in self.own_entries:
            own_entry.home.close(own_entry)

    def keep_open(self, store: Store, user: object = None) -> Callable[[], None]:
        """Keep the pool open until the function is called that this returns. Call it under `lock`."""
        user = user or object()
        users = self._users
        users[user] = store

        def done() -> None:
            users.pop(user, None)

        return done

    def used_pools(self) -> set[object]:
        """The entries of the pools in which this process has a lease or a ticket, or which are kept open."""
        # Copies are read, since other threads change these meanwhile.
        kept = (store.entries for store in self._users.copy().values())
        return {*(own_entry.home for own_entry in self.own_entries.copy()), *kept}

    def wake_tickets(self, names: Iterable[str]) -> None:
        """Wake the waiters of these tickets."""
        for waiter in filter(None, map(self.waiters.get, names)):
            waiter()
