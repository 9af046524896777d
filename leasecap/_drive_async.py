"""Running an acquisition in a task, which is suspended. Loaded when the first task acquires: asyncio takes 38 ms."""

from __future__ import annotations

import asyncio
from collections import deque
from weakref import WeakKeyDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from typing import TypeVar

    T = TypeVar("T")


class LoopWaiter:
    """Suspends the calling task. Belongs to one event loop; only `wake` may be called from elsewhere."""

    __slots__ = ("_future", "_loop", "_woken")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] | None = None
        self._woken = False

    def wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._end)
        except RuntimeError:
            pass  # the loop was closed meanwhile: nobody waits there any more

    def _end(self) -> None:
        self._woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float) -> None:
        """Return after ``timeout`` seconds or when woken."""
        if not self._woken:
            self._future = self._loop.create_future()
            timer = self._loop.call_later(timeout, self._end)
            try:
                await self._future
            finally:
                timer.cancel()
                self._future = None
        self._woken = False


async def drive_async(steps: Generator[float, None, T], waiter: LoopWaiter) -> T:
    """Run ``steps`` to the end in this task; a cancellation closes them, so that they clean up."""
    try:
        await turns().take()
        pause = next(steps)
        while True:
            await waiter.wait(pause)
            pause = next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        steps.close()


class Turns:
    """The longer steps of an event loop's tasks, one in each of its rounds, so that they don't add up.

    200 tasks that began at once kept everything else from the loop for 0.3 s, and 16 that ended at once for 50 ms
    (`scripts/bench`, I).
    """

    __slots__ = ("_loop", "_taken", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self, *, first: bool = False) -> None:
        """Return in this task's turn; at once if there was none yet in this round.

        :param first: ahead of all who wait.
        """
        if not self._taken:
            self._taken = True
            self._loop.call_soon(self._pass_on)
            return
        future = self._loop.create_future()
        if first:
            self._waiting.appendleft(future)
        else:
            self._waiting.append(future)
        await future  # of a cancelled one the turn is passed over, or was this round's

    def _pass_on(self) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                self._loop.call_soon(self._pass_on)  # behind the task that this wakes
                return
        self._taken = False


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns() -> Turns:
    """Those of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _turns.get(loop)
    if found is None:
        found = _turns[loop] = Turns(loop)
    return found
