"""The places ``wake/<process>/``, one for each process that waits: making them, and removing them after the killed."""

from __future__ import annotations

import os

from leasecap._host.file_lock import try_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._host.directory import Directory

WAKEUP = ".wakeup"
"""The named pipe, or plain file, in ``wake/<process>/``; marks stand beside it (`marks`)."""

_MOST_CLEARED = 4
"""Places that a process looks at when it makes its own; more than are left behind on average."""


def place_of(process: str) -> str:
    """Where others leave what is for this process."""
    return f"wake/{process}"


def make_place(root: Directory, process: str, put: Callable[[str], int | None]) -> tuple[int | None, int]:
    """Make the place of this process with its wake-up in it, under another name first, and put it in place in one step.

    Returns the descriptor of the wake-up and the inode of the place.

    :param put: makes the wake-up.
    """
    aside, place = f"wake/.{process}", place_of(process)
    try:
        root.make("wake")
    except FileExistsError:
        pass
    remove_place(root, aside)
    root.make(aside)
    descriptor = None
    try:
        descriptor = put(f"{aside}/{WAKEUP}")
        remove_place(root, place)
        root.rename(aside, place)
        return descriptor, root.stat(place).st_ino
    except BaseException:
        if descriptor is not None:
            os.close(descriptor)
        remove_place(root, aside)
        raise


def put_file(root: Directory, name: str) -> int | None:
    """Make a plain file and lock it; returns the descriptor that holds the lock, None where there are no locks.

    Make it under another name first: until it is locked it looks like one whose process has exited
    (`Directory.has_receiver`).
    """
    fd = root.open(name, create=True)
    try:
        try_lock(fd)
    except OSError:
        os.close(fd)  # Windows renames no directory in which a file is open
        return None
    return fd


def remove_place(root: Directory, place: str) -> None:
    """Remove the place with all that is in it."""
    try:
        for name in root.list(place):
            root.unlink(f"{place}/{name}")
        root.rmdir(place)
    except OSError:
        pass  # it isn't there, or what is left of it harms nobody


def is_gone(root: Directory, place: str, made: int, pipe: tuple[int, int] | None) -> bool:
    """Whether a tidy-up has removed the place (``rm -r wake/*``), or the named pipe in it alone (``find -type p``).

    :param made: the inode of the place; ``pipe``: device and inode of the pipe, None where there is a plain file.
    """
    try:
        if pipe is None:
            return root.stat(place).st_ino != made
        return root.stat(f"{place}/{WAKEUP}").st_ino != pipe[1]
    except OSError:
        return True


def clear_places(root: Directory, process: str) -> None:
    """Remove some of the places at which no process listens any more, others each time."""
    try:
        names = root.list("wake")
        own = names.index(process)
        for name in (names[own + 1 :] + names[:own])[:_MOST_CLEARED]:
            if name[0] == ".":
                continue  # a place that is being made, or one whose maker was killed (`leftovers`)
            if root.has_receiver(f"{place_of(name)}/{WAKEUP}") is False:
                remove_place(root, place_of(name))
    except (OSError, ValueError):
        pass  # another process was first
