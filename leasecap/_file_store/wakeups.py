"""Being woken: each process that waits has a `.wakeup`, and wakes when it changes.

Wake-ups are hints, and whoever waits polls as well. There are two kinds:

- A *named pipe* (`receiver`), into which a granter writes the name of the ticket that it granted. A blocked read costs
  nothing and needs no observer. Whoever reads the pipe also waits for the exits of processes, if it is given handles on
  them (`exits`), and runs the process's look-outs when they are due (`lookout`).
- Where no named pipe can be made, a *plain file* that watchdog watches (`watched_file`). A change of it wakes all who
  wait in the process. Their polls run the look-outs, once a second at least, and nobody waits for exits.
"""

from __future__ import annotations

import errno
import math
import threading
import time
from functools import partial

from leasecap._file_store import wake_places
from leasecap._file_store.marks import said_by_change
from leasecap._file_store.receiver import Receiver
from leasecap._store.wakeup import Received
from leasecap._threads import await_end, start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from leasecap._file_store.receiver import Lookout
    from leasecap._file_store.watched_file import WatchedFile
    from leasecap._host.deferred_signals import DeferredSignals
    from leasecap._host.directory import Directory

_END, _NOBODY = b"\0", b"\n"  # no ticket's name has them in it

MOST_HANDLES = 64
"""Handles that a process has open at a time: many may have no more than 1024 descriptors, and need them for work."""


class Watch:
    """This process's wake-up under one root, open while somebody waits.

    A thread that waits alone in its process receives by itself, which spares a hand-off the second change of threads.

    :ivar starts: how often it was opened; whoever was to be called before (`add`) no longer is.
    """

    def __init__(
        self,
        root: Directory,
        process: str,
        on_wake: Callable[[bytes], None],
        fork_lock: AbstractContextManager[object] | None = None,
    ) -> None:
        """
        :param on_wake: whoever receives calls it with what was written: names, each with a line feed.
        :param fork_lock: keeps forks off while it is held.
        """
        self._root = root
        self._process = process
        self._place = wake_places.place_of(process)
        self._on_wake = on_wake
        self._lock = threading.RLock()  # a garbage collection may end a wait while this is held
        self._fork_lock = fork_lock or self._lock
        self._users = self.starts = self._made = 0
        self._receiver: Receiver | None = None
        self._file: WatchedFile | None = None
        self._closed_file: WatchedFile | None = None
        self._is_makeshift = False  # a plain file serves until there are descriptors for a pipe again
        self._receives_until = -math.inf
        self._thread: threading.Thread | None = None
        self._lookouts: set[Lookout] = set()  # changed and copied in one step each, by any thread

    def start(self, *, alone: bool = False) -> bool:
        """Listen for one more user; False if no thread can be had for it. Pair it with `stop`.

        :param alone: the caller receives by itself (`receive`), as long as it is the only user.
        """
        with self._lock:
            if self._file is not None or (self._receiver is None and not self._open()):
                self._users += 1
                return True  # it is watched only later: see `reaches`
            assert self._receiver is not None
            if not (alone and not self._users) and not self._start_thread(self._receiver):
                if not self._users:
                    self._close()
                return False
            self._users += 1
            return True

    @property
    def runs_lookouts(self) -> bool:
        """Whether whoever receives runs the look-outs; else the polls run them."""
        return self._file is None

    def reaches(self) -> bool:
        """Whether wake-ups reach this process. A plain file is watched only once somebody has waited for a while.

        Call only between `start` and `stop`.
        """
        file = self._file
        return file is None or file.reaches()

    def receive(self, timeout: float, interrupts: DeferredSignals) -> Received | None:
        """What comes within ``timeout`` seconds, for `pass_on`. None at once if it isn't for the caller to receive.

        The look-outs that come to be due meanwhile are run as well.

        :param interrupts: deferred, and delivered while it waits.
        """
        receiver = self._receiver
        if receiver is None or receiver.has_thread or not receiver.taken.acquire(blocking=False):
            return None
        if not receiver.is_own():
            receiver.taken.release()
            self._begin_anew(receiver)
            return Received(b"", [])
        try:
            received = self._await(receiver, time.monotonic() + timeout, interrupts)
        finally:
            receiver.taken.release()
        if _END in received.names:
            receiver.close()
        return received

    def _await(self, receiver: Receiver, until: float, interrupts: DeferredSignals) -> Received:
        while True:
            try:
                self._receives_until = until
                # Asked after the line above; a look-out sets `due` before it calls `wake_by`. So one sees the other.
                pause = min(until, self._due()) - time.monotonic()
                with interrupts.delivered():
                    received = receiver.receive(max(pause, 0.0))
            finally:
                self._receives_until = -math.inf
            if received.names or received.calls or time.monotonic() >= until or not receiver.is_own():
                return received
            self._run_lookouts()

    def pass_on(self, received: Received) -> None:
        """Do what was received, and run the look-outs that are due by it."""
        for call in received.calls:
            call()
        self._on_wake(received.names)
        self._run_lookouts()

    def interrupt(self) -> None:
        """End the `receive` that another thread is in, or else its next one."""
        with self._lock:
            if self._receiver is not None:
                self._receiver.write(_NOBODY)

    def is_received(self) -> bool:
        """Whether somebody receives for all who wait, and runs their look-outs: a thread, or the one who waits."""
        return self._receiver is not None

    def attend(self, lookout: Lookout) -> None:
        """Whoever receives is to run this look-out when it is due."""
        self._lookouts.add(lookout)

    def leave(self, lookout: Lookout) -> None:
        """Nobody is to run this look-out any more: nobody waits there."""
        self._lookouts.discard(lookout)

    def wake_by(self, when: float) -> None:
        """A look-out has become due at that time."""
        if when < self._receives_until:
            self.interrupt()

    def _due(self) -> float:
        return min([lookout.due for lookout in tuple(self._lookouts)], default=math.inf)

    def is_there(self) -> bool:
        """Whether this process has a wake-up, beside which others leave their marks. One that is gone is made anew."""
        with self._lock:
            if self._receiver is None and (self._file is None or not self._file.stands):
                return False
            if self._receiver is not None and not self._receiver.is_own():
                return self._begin_anew(self._receiver)
            pipe = None if self._receiver is None else self._receiver.inode
            if wake_places.is_gone(self._root, self._place, self._made, pipe):
                self._renew()
            return True

    def _begin_anew(self, receiver: Receiver) -> bool:
        """The program has closed all that ``receiver`` had open."""
        with self._lock:
            if self._receiver is not receiver:
                return self._receiver is not None
            self._receiver = None
            receiver.close()
            try:
                self._root.renew()
            except OSError:
                return False
            if not self._open():
                return False
            assert self._receiver is not None
            return not receiver.has_thread or self._start_thread(self._receiver)

    def _renew(self) -> None:
        if self._file is not None:
            self._file.renew()
        try:
            if self._receiver is not None:
                self._receiver.renew(self._make())
        except OSError:
            pass  # the next look tries again; until then polling serves

    def stop(self) -> None:
        """Stop listening for one user. A first wait's end closes all; who waits again keeps it open until `close`."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and (self.starts == 1 or self._is_makeshift):
                self._close()

    def rest(self) -> None:
        """Close the wake-up if nobody waits, and wait for its threads to end. The next wait begins anew."""
        with self._lock:
            if self._users:
                return
            self._close()
            thread, self._thread = self._thread, None
            file, self._closed_file = self._closed_file, None
        if thread is not None:
            await_end(thread)
        if file is not None:
            file.await_end()

    def close(self) -> None:
        """Close the wake-up, at the process's end."""
        with self._lock:
            self._close()

    def add(self, handle: int, call: Callable[[], None]) -> bool:
        """Call ``call``, once and in whatever thread receives, when ``handle`` can be read from; False: it can't be.

        Call only between `start` and `stop`, and `drop` the handle, which closes it.
        """
        with self._lock:
            if self._receiver is None or len(self._receiver.calls) >= MOST_HANDLES:
                return False
            try:
                if self._receiver.add(handle, call) and self._receiver.has_thread:
                    self._receiver.write(_NOBODY)
            except OSError:
                return False
            return True

    def drop(self, handle: int) -> None:
        """Stop waiting for ``handle``, and close it."""
        with self._lock:
            if self._receiver is not None:
                self._receiver.drop(handle)

    def _open(self) -> bool:
        """Make the wake-up; returns whether it is a pipe, else it is a plain file."""
        self.starts += 1
        try:
            self._receiver = Receiver(self._make())
        except OSError as error:  # there are no named pipes, a sandbox refuses to make one, or no descriptor is left
            self._is_makeshift = error.errno in (errno.EMFILE, errno.ENFILE)
            self._open_file()
            return False
        self._is_makeshift = False
        wake_places.clear_places(self._root, self._process)
        return True

    def _open_file(self) -> None:
        from leasecap._file_store.watched_file import WatchedFile

        path = f"{self._place}/{wake_places.WAKEUP}"
        change = partial(self._root.notify, path, _NOBODY)
        self._file = WatchedFile(self._root.full(path), self._make_file, change, self._changed, self._fork_lock)

    def _changed(self) -> None:
        self._on_wake(said_by_change(self._root, self._process))

    def _make_file(self) -> int | None:
        with self._lock:
            if self._file is None:
                raise OSError("nobody waits any more")
            put = partial(wake_places.put_file, self._root)
            alive, self._made = wake_places.make_place(self._root, self._process, put)
        wake_places.clear_places(self._root, self._process)
        return alive

    def _make(self) -> int:
        pipe, self._made = wake_places.make_place(self._root, self._process, self._root.listen)
        assert pipe is not None
        return pipe

    def _start_thread(self, receiver: Receiver) -> bool:
        if not receiver.has_thread:
            try:
                self._thread = start_thread("wake", self._listen, receiver)
            except RuntimeError:
                return False
            receiver.has_thread = True  # a waiter that still receives by itself does so for all, and then no more
        return True

    def _listen(self, receiver: Receiver) -> None:
        try:
            with receiver.taken:
                while receiver.is_own() and _END not in (received := self._receive(receiver)).names:
                    self.pass_on(received)
            if not receiver.is_own():
                self._begin_anew(receiver)
        finally:
            with self._lock:
                if self._receiver is receiver:
                    self._receiver = None  # it ends by an error: whoever waits next begins anew
            receiver.close()  # the thread closes it, so that no number becomes another file's while it is in use

    def _receive(self, receiver: Receiver) -> Received:
        self._receives_until = self._due()
        due = self._due()  # asked again, as in `receive`
        try:
            return receiver.receive(None if due == math.inf else max(due - time.monotonic(), 0.0))
        finally:
            self._receives_until = -math.inf

    def _run_lookouts(self) -> None:
        for lookout in tuple(self._lookouts):
            lookout.run(time.monotonic())

    def _close(self) -> None:
        file, self._file = self._file, None
        receiver, self._receiver = self._receiver, None
        if file is not None:
            self._closed_file = file
            file.close()
        if file is not None or receiver is not None:
            wake_places.remove_place(self._root, self._place)
        if receiver is not None and (receiver.has_thread or self._users):
            receiver.write(_END)  # whoever receives this line closes the receiver
        elif receiver is not None:
            receiver.close()

    def forget(self) -> None:
        """In a fork's child: forget the watch, which is the parent's, as its threads are."""
        file, self._file = self._file, None
        if file is not None:
            file.forget()
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.close()
