"""leasecap: a cross-process concurrency cap for AI agents on one machine.

It is a *cooperative* cap on one kernel, not mutual exclusion with fencing: it keeps well-behaved processes from
starting more than N pieces of work at once. Where only a heartbeat speaks for a holder (another kernel, a file system
without locks), it can be taken for dead while it runs. Then `Lease.lost` is set, and nothing stops the holder.

::

    with leasecap.slot("anthropic", timeout=30):
        ...
"""

from __future__ import annotations

from leasecap._api import acquire, acquire_async, report, set_usage, slot, try_acquire
from leasecap._errors import AcquireTimeout, ConfigError, LeasecapError, LeaseLost, StoreError
from leasecap._lease import Lease
from leasecap._limited import limited
from leasecap._request import UNSET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._status.read import (
        Holder,
        HttpRequest,
        ModelLatency,
        Percentiles,
        PoolFeedback,
        PoolStatus,
        Status,
        Waiter,
        status,
    )
    from leasecap._wait.progress import Waiting

__all__ = [
    "UNSET",
    "AcquireTimeout",
    "ConfigError",
    "Holder",
    "HttpRequest",
    "Lease",
    "LeaseLost",
    "LeasecapError",
    "ModelLatency",
    "Percentiles",
    "PoolFeedback",
    "PoolStatus",
    "Status",
    "StoreError",
    "Waiter",
    "Waiting",
    "acquire",
    "acquire_async",
    "limited",
    "report",
    "set_usage",
    "slot",
    "status",
    "try_acquire",
]
__version__ = "0.1.0"


_LATER = {"Waiting": "_wait.progress"} | dict.fromkeys(
    (
        "Holder",
        "HttpRequest",
        "ModelLatency",
        "Percentiles",
        "PoolFeedback",
        "PoolStatus",
        "Status",
        "Waiter",
        "status",
    ),
    "_status.read",
)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    # Dataclasses are slow to import and to define, so what isn't needed to acquire is loaded later.
    import importlib

    if name in ("httpx", "httpx2"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATER[name]}"), name)
