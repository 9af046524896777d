"""What makes a call when the garbage collector finds it, as a generator does that gives its slot back."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Dropped:
    """Nothing refers to it but itself."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._itself = self

    def __del__(self) -> None:
        self._call()
