"""Where trouble is told that must not replace a result: a lease that can't be given back, a heartbeat that fails."""

from __future__ import annotations

from functools import partial

from leasecap._threads import start_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable


def apart(name: str, call: Callable[[], object]) -> threading.Thread | None:
    """Run what is not ours, or may wait for what is not ours, where it can hurt only itself: in a thread of its own.

    Returns the thread; None if there is none to be had, and then ``call`` is done.
    """
    try:
        return start_thread(name, call)
    except RuntimeError:
        call()
        return None


def _log(message: str) -> None:
    import logging  # slow to load, and hardly ever needed

    logging.getLogger("leasecap").warning("%s", message)


report: Callable[[str], None] = _log
"""The command line puts its own in place, the library logs to the logger ``leasecap``."""


def tell_apart(message: str) -> None:
    """`tell`, for the heartbeat thread and who is inside the section: no log handler that blocks, and no pipe that
    nobody reads, may stop them."""
    apart("report", partial(tell, message))


def tell(message: str) -> None:
    """Report ``message``; never raises."""
    try:
        report(message)
    except Exception:
        pass  # a broken log handler must not end a heartbeat
