"""How long a machine lets those wait who want its processors: no promise in seconds counts that."""

from __future__ import annotations

import threading
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_WORKS, _RESTS = 4_000_000, 12_000_000  # nanoseconds: what leasecap does for a grant is of that kind


class Pace:
    """A thread that does leasecap's kind of work, sleeping and computing in turns, and notes how long it was kept from
    it: by other processes, or since the whole machine stood still."""

    def __init__(self) -> None:
        self._turns: list[tuple[int, int]] = []  # when each ended and how much of it was late, in ns
        self._turned = threading.Condition()
        self._ends = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ends = True
        self._thread.join()

    def _run(self) -> None:
        while not self._ends:
            began, computed = time.monotonic_ns(), time.thread_time_ns()
            time.sleep(_RESTS / 1e9)
            while time.thread_time_ns() - computed < _WORKS:
                pass
            ended = time.monotonic_ns()
            late = ended - began - (time.thread_time_ns() - computed) - _RESTS
            with self._turned:
                self._turns.append((ended, max(late, 0)))
                self._turned.notify_all()

    def seconds(self, since: int, until: int) -> float:
        """From one moment to another, in nanoseconds of CLOCK_MONOTONIC, less what this thread was late meanwhile."""
        with self._turned:
            assert self._turned.wait_for(lambda: self._turns and self._turns[-1][0] >= until, 60)
            # It was late at the end of a turn, and of that no more counts than lies between the two moments.
            late = sum(max(min(ended, until) - max(ended - late, since), 0) for ended, late in self._turns)
        return (until - since - late) / 1e9
