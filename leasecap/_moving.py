"""Moving and removing what another process may have open for a moment.

Windows refuses that as long as somebody reads the file, or one below the directory: a sharing violation. Records and
heartbeats are read all the time, by sweeps and by whoever waits for the pool's lock. So it is tried again for a while.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.256
"""Seconds between tries, each twice as long as the one before: half a second in all. To read a file takes far less, but
a reader may have to wait for a processor."""


if sys.platform == "win32":

    def patiently(step: Callable[..., None], *arguments: str, **more: int | None) -> None:
        """Call ``step``, and once more after each pause if something is in use.

        :raises OSError: what the last call said.
        """
        pause = _FIRST_PAUSE
        while pause <= _LONGEST_PAUSE:
            try:
                step(*arguments, **more)
            except PermissionError:
                time.sleep(pause)
                pause *= 2
            else:
                return
        step(*arguments, **more)

else:

    def patiently(step: Callable[..., None], *arguments: str, **more: int | None) -> None:
        """Call ``step``: here nothing is refused because somebody has it open."""
        step(*arguments, **more)
