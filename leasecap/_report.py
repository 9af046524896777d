"""Where trouble is told that must not replace a result: a lease that can't be given back, a heartbeat that fails."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def _log(message: str) -> None:
    import logging  # 10 ms, and hardly ever needed

    logging.getLogger("leasecap").warning("%s", message)


report: Callable[[str], None] = _log
"""The command line puts its own in place, the library logs to the logger ``leasecap``."""


def tell(message: str) -> None:
    """Report ``message``; never raises."""
    try:
        report(message)
    except Exception:
        pass  # a broken log handler must not end a heartbeat
