"""Waking others and being woken, under one root. All of that is hints: a waiter that isn't woken looks by itself."""

from __future__ import annotations

from functools import partial

from leasecap._file_store.marks import EVERYBODY, QUESTION, Marks
from leasecap._file_store.wake_places import WAKEUP, place_of
from leasecap._file_store.wakeups import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._file_store.own_process import OwnProcess
    from leasecap._host.directory import Directory

NOTICE = "!"
"""This before a ticket's name is for the process, which is to look who stands ahead; the name alone is for the
waiter."""


class Notifier:
    """The wake-ups of a root, as this process uses them.

    :ivar marks: the marks of processes that don't answer.
    """

    def __init__(self, own: OwnProcess, root: Callable[[], str]) -> None:
        """:param root: says the root's path."""
        self.marks = Marks(self._opened)
        self._own = own
        self._root = root
        self._directory: Directory | None = None
        self._watch: Watch | None = None

    def _opened(self) -> Directory:
        with self._own.lock:
            if self._directory is None:
                self._directory = self._own.effects.directory(self._root())
            self._directory.renew()
            return self._directory

    def wake(self, process: str, name: str) -> None:
        """Wake the waiter of ``name``, in this process or another one."""
        line = f"{name}\n".encode("ascii", "replace")
        if process == self._own.id:
            dispatch(self._own, line)
            return
        try:
            self._opened().notify(f"{place_of(process)}/{WAKEUP}", line)
        except OSError:
            pass  # the process doesn't listen, so it looks by itself

    def notify(self, process: str, name: str) -> None:
        """Have the process look who stands ahead of it, in the queue in which ``name`` stands."""
        self.wake(process, NOTICE + name)

    def listens(self, process: str) -> bool:
        """Whether the process has its wake-up open, and so surely lives. If it hasn't, that says nothing."""
        return process == self._own.id or self._opened().has_receiver(f"{place_of(process)}/{WAKEUP}") is True

    def answer(self) -> bool:
        """Remove the marks of this process, if there are any; returns whether it was taken for deaf."""
        # The directory's time wouldn't do: a mark made within the same tick of the clock as the last change would stay.
        was_deaf = self.marks.answer(self._own.id)  # first: a wake-up that is made anew has no marks beside it
        if self._watch is not None:
            self._watch.is_there()
        return was_deaf

    def watch(self) -> Watch:
        """This process's watch, not started."""
        if self._watch is not None:
            return self._watch
        directory = self._opened()
        with self._own.lock:
            if self._watch is None:
                self._watch = Watch(directory, self._own.id, partial(dispatch, self._own), self._own.lock)
            return self._watch

    def stop(self) -> None:
        """Stop listening, at the process's end."""
        if self._watch is not None:
            self._watch.close()

    def rest(self) -> None:
        """See `Watch.rest`."""
        if self._watch is not None:
            self._watch.rest()

    def forget(self) -> None:
        """In a fork's child: the watch is the parent's."""
        if self._watch is not None:
            self._watch.forget()

    def close(self) -> None:
        if self._directory is not None:
            self._directory.close()


def dispatch(own: OwnProcess, lines: bytes) -> None:
    """Do what these lines say: wake a ticket's waiter, have this process look, or answer a question."""
    for line in lines.decode("ascii", "replace").splitlines():
        if line == QUESTION:
            for lookout in set(own.lookouts.values()):
                lookout.ask()
        elif line == EVERYBODY:
            for lookout in set(own.lookouts.values()):
                lookout.wake_all()
        elif line.startswith(NOTICE):
            found = own.lookouts.get(line[len(NOTICE) :])
            if found is not None:
                found.notify()
        else:
            own.wake_tickets([line])
