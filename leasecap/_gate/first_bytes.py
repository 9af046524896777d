"""How long the provider takes to its first byte, on the way to the pools.

Every request tells. A report costs as much as the slot itself, so those of a second go as one, with their mean.
"""

from __future__ import annotations

import asyncio

from leasecap._api import report
from leasecap._errors import LeasecapError
from leasecap._log import log_warning

EVERY = 1.0
"""Seconds."""


class FirstBytes:
    """Those of one gate."""

    def __init__(self) -> None:
        self._noted: dict[str, list[float]] = {}  # seconds, by pool

    def note(self, pool: str, seconds: float) -> None:
        """The answer to a request that had a slot of ``pool`` began after so long."""
        if not self._noted:
            asyncio.get_running_loop().call_later(EVERY, self.report)
        self._noted.setdefault(pool, []).append(seconds)

    def report(self) -> None:
        """Tell the pools what has been noted."""
        noted, self._noted = self._noted, {}
        for pool, times in noted.items():
            try:
                report(pool, ttfb=sum(times) / len(times))
            except (LeasecapError, OSError) as error:
                log_warning(f"how long the provider of {pool} took could not be noted: {error}")
