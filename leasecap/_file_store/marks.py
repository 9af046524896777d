"""Marks of processes that don't answer, beside their wake-ups.

If a grant isn't taken up, its waiter may be blocked, or its whole process may not run: it is frozen, or stopped where
nobody can see it. So all processes that wait are asked at once. One that hasn't answered a second later is *deaf*: it
is passed over, with all its tickets, until it looks. A mark is one file for a process, and no rename for each ticket.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._host.directory import Directory

ASKED, DEAF = "asked", "deaf"

QUESTION = "?"
"""What is written to the wake-up of a process that is asked. No ticket's name has it in it."""

EVERYBODY = "*"
"""What a change of a plain file says: all waiters of the process look. No ticket has it in its name."""


class Marks:
    """The marks under one root. It is no error if one fails: an unmarked process costs the others two seconds a
    grant."""

    def __init__(self, root: Callable[[], Directory]) -> None:
        self._root = root

    def ask(self, process: str) -> bool:
        """Leave a question for the process; False if that can't be done."""
        try:
            self._root().write(f"wake/{process}/{ASKED}", b"")
        except FileExistsError:
            pass  # somebody else has asked
        except OSError:
            return False
        return True

    def leave(self, mark: str, process: str) -> bool:
        """Leave a mark for a process whose place is gone; False if it isn't gone, or that can't be done.

        Nobody listens there, so it was cleared away, though the process may live: it runs another program (exec).
        """
        try:
            self._root().make(f"wake/{process}")
            self._root().write(f"wake/{process}/{mark}", b"")
        except OSError:
            return False
        return True

    def mark(self, process: str) -> bool:
        """Mark the process as deaf if it hasn't answered; returns whether it is marked."""
        try:
            self._root().rename(f"wake/{process}/{ASKED}", f"wake/{process}/{DEAF}")
        except OSError:
            return False
        return True

    def is_deaf(self, process: str) -> bool:
        """Whether the process is marked as deaf."""
        try:
            self._root().stat(f"wake/{process}/{DEAF}")
        except OSError:
            return False
        return True

    def answer(self, process: str) -> bool:
        """Remove the marks of this process, which runs; returns whether it was deaf."""
        return self._remove(f"wake/{process}/{ASKED}") | self._remove(f"wake/{process}/{DEAF}")

    def _remove(self, path: str) -> bool:
        try:
            self._root().unlink(path)
        except OSError:
            return False
        return path.endswith(DEAF)


def said_by_change(root: Directory, process: str) -> bytes:
    """What a change of this process's plain file says: the lines that a named pipe would have."""
    try:
        root.stat(f"wake/{process}/{ASKED}")
    except OSError:
        return f"{EVERYBODY}\n".encode()
    return f"{EVERYBODY}\n{QUESTION}\n".encode()
