"""What any store offers to tasks that wait in an event loop: a thread that goes on when the loop doesn't."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Gone(Protocol):
        """Notices that an object is gone, as long as this is kept."""

        def __call__(self) -> Any:
            """The object, or None."""

    class Background(Protocol):
        """A thread of this process."""

        def start(self) -> bool:
            """Start it, if it doesn't run; False if no thread can be started."""

        def call(self, then: Callable[[], object]) -> bool:
            """Have ``then`` called in it; False if it doesn't run. A finalizer may call this too."""

        def when_gone(self, it: object, then: Callable[[], None]) -> Gone:
            """Call ``then`` in it once nobody refers to ``it`` any more."""
