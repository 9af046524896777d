"""Knowing in which process something was made."""

from __future__ import annotations

import os

from leasecap._errors import LeasecapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Process(Protocol):
        """Something that is renewed in a fork's child."""

        @property
        def id(self) -> str: ...


class Origin:
    """The process in which something was made. A fork's child has a copy of that, and must not touch it.

    The pid alone doesn't tell them apart: a child in a pid namespace of its own may have the same one. Nor does what
    the fork hook renews: a fork in C runs no hooks. So both are compared.
    """

    __slots__ = ("_own", "_process", "pid")

    def __init__(self, own: Process) -> None:
        self.pid = os.getpid()
        self._own = own
        self._process = own.id

    def is_here(self) -> bool:
        """Whether this process is the one."""
        return self._process == self._own.id and self.pid == os.getpid()

    def check(self, what: str) -> None:
        """Call it after the user's code, which may have forked.

        :raises LeasecapError: in the child, which must not go on with what is its parent's.
        """
        if not self.is_here():
            raise LeasecapError(
                f"this {what} for a slot is that of pid {self.pid}, and not of this process, which was forked from it. "
                "Acquire a slot of its own."
            )
