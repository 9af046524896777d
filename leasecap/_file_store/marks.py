"""Marks of processes that don't answer, beside their wake-ups.

A grant that isn't taken up may stand because its waiter is blocked or because its whole process doesn't run: frozen,
or stopped where nobody can see it. So all who wait are asked at once, and who hasn't answered a second later is *deaf*:
it is passed over with all its tickets until it looks. One file for a process, not a rename for each of its tickets.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from leasecap._host.directory import Directory

ASKED, DEAF = "asked", "deaf"

QUESTION = "?"
"""What is written to the wake-up of a process that is asked; in no ticket's name."""


class Marks:
    """The marks under one root. A failing one is no error: who isn't marked costs the others two seconds a grant."""

    def __init__(self, root: Callable[[], Directory]) -> None:
        self._root = root

    def ask(self, process: str) -> bool:
        """Leave a question; False if nobody could be asked there."""
        try:
            self._root().write(f"wake/{process}/{ASKED}", b"")
        except FileExistsError:
            pass  # somebody else has asked
        except OSError:
            return False
        return True

    def mark(self, process: str) -> bool:
        """Mark it as deaf if it hasn't answered; returns whether it is marked."""
        try:
            self._root().rename(f"wake/{process}/{ASKED}", f"wake/{process}/{DEAF}")
        except OSError:
            return False
        return True

    def is_deaf(self, process: str) -> bool:
        """Whether it is marked."""
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
