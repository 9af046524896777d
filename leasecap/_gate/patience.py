"""Time-outs that don't run out while this process is stopped.

After Ctrl-Z and `fg`, or when a machine has slept, all timers are due at once, before what has come meanwhile is read.
"""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

LATE = 1.0
"""Seconds by which a timer is late only if the process did not run."""

GRACE = 5.0
"""Seconds in which to read what came meanwhile."""


class Patience:
    """`asyncio.timeout`, for ``seconds``; None: without an end."""

    __slots__ = ("_limit", "_seconds", "_timer")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._limit = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._limit.__aenter__()
        if self._seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._over)
        return self

    def _over(self) -> None:
        assert self._timer is not None
        now = asyncio.get_running_loop().time()
        self._limit.reschedule(now + GRACE if now - self._timer.when() > LATE else now)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, traceback)
