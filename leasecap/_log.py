"""Warnings of trouble that must not replace a result: a lease that can't be given back, a heartbeat that fails."""

from __future__ import annotations

import atexit
from functools import partial

from leasecap._threads import await_named, start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

_WARN = "warn"
_LAST_WORDS = 1.0
"""Seconds in which warnings that are on their way may still come out, when the interpreter ends."""


def apart(name: str, call: Callable[[], object]) -> threading.Thread | None:
    """Run ``call`` in a thread of its own, where it can hurt only itself: it is not ours, or may wait for what is not.

    Returns the thread. None: no thread could be started, and ``call`` has been made in this one.
    """
    try:
        return start_thread(name, call)
    except RuntimeError:
        call()
        return None


def _log(message: str) -> None:
    import logging  # slow to load, and hardly ever needed

    logging.getLogger("leasecap").warning("%s", message)


sink: Callable[[str], None] = _log
"""Where warnings go: the library logs to the logger ``leasecap``, and the command line puts its own in this place."""


def log_warning_apart(message: str) -> None:
    """`log_warning`, for the heartbeat thread and for whoever is inside the section.

    A log handler that blocks, or a pipe that nobody reads, stops neither of them.
    """
    apart(_WARN, partial(log_warning, message))


@atexit.register
def _hear_out() -> None:
    """A program may end right after what it is warned of, and its end takes daemon threads with it."""
    await_named(_WARN, _LAST_WORDS)


def log_warning(message: str) -> None:
    """Give ``message`` to the sink; never raises."""
    try:
        sink(message)
    except Exception:
        pass  # a broken log handler must not end a heartbeat
