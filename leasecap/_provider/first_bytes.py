"""How long the provider takes to its first byte, on the way to the pools. Pure.

Every request tells. A report costs as much as the slot itself, so those of a second go as one, with their mean.
"""

from __future__ import annotations

import math

EVERY = 1.0
"""Seconds."""


class FirstBytes:
    """Those of one process.

    It has no lock: threads that meet in it may lose one time of many, and a fork may come at any moment.
    """

    def __init__(self) -> None:
        self._noted: dict[str, tuple[float, list[float]]] = {}  # when last told, and what since, by pool

    def note(self, pool: str, seconds: float, now: float) -> float | None:
        """The answer to a request that had a slot of ``pool`` began after so long.

        :param now: of a monotonic clock.
        :return: what to tell the pool now; None: nothing yet. What is left goes with the next one.
        """
        told, times = self._noted.setdefault(pool, (-math.inf, []))
        times.append(seconds)
        if now - told < EVERY:
            return None
        self._noted[pool] = now, []
        return sum(times) / len(times)
