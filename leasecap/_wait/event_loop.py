"""Running an acquisition in a task, which is suspended. It is loaded when the first task acquires: asyncio is slow to
load.

A signal handler may raise in a callback of an event loop, and the loop then goes on without that callback. So no wait
depends on one callback alone.
"""

from __future__ import annotations

import asyncio
from _weakref import ref
from collections import deque
from weakref import WeakKeyDictionary

from leasecap._host.deferred_signals import DeferredSignals, surely

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeVar

    from leasecap._store.background import Background, Gone

    T = TypeVar("T")

_AGAIN = 1.0
"""Seconds after which a callback that should have come counts as lost."""

_NEVER = 1e6  # seconds; some loops count the milliseconds of their timers in 32 bits


class LoopWaiter:
    """Suspends the calling task. It belongs to one event loop; only `wake` may be called from elsewhere."""

    __slots__ = ("__weakref__", "_future", "_loop", "_woken", "abandon")

    def __init__(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # a task of another library, as trio, has none of asyncio's
            raise RuntimeError(
                "leasecap's async calls need a running event loop of asyncio; elsewhere acquire in a thread, as "
                'trio.to_thread.run_sync(leasecap.acquire, "anthropic")'
            ) from None
        self._future: asyncio.Future[None] | None = None
        self._woken = False
        self.abandon: Callable[[], None] = lambda: None

    def waker(self) -> Callable[[], None]:
        """`wake` as a function that doesn't keep the task: if its loop is gone, the task is collected."""
        waiter = ref(self)

        def wake() -> None:
            found = waiter()
            if found is not None:
                found.wake()

        return wake

    def wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(surely, self._end)
        except RuntimeError:
            self.abandon()  # the loop was closed meanwhile, so nobody waits in it

    def _end(self) -> None:
        self._woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, timeout: float) -> None:
        """Return after ``timeout`` seconds or when woken."""
        timers: list[asyncio.TimerHandle] = []
        try:
            if not self._woken:
                self._future = self._loop.create_future()
                timers += [self._loop.call_later(seconds, surely, self._end) for seconds in (timeout, timeout + _AGAIN)]
                await self._future
        finally:
            for timer in timers:
                timer.cancel()
            self._future = None
        self._woken = False


async def drive_async(
    begin: Callable[[LoopWaiter, DeferredSignals], Generator[float, None, T]], heartbeats: Background
) -> T:
    """Run the steps to the end in this task. If anything is raised they are closed, so that they clean up.

    When the loop is closed, or the task collected, the thread of ``heartbeats`` closes them.

    :param begin: makes the steps, which run with signals deferred.
    """
    interrupts, waiter, steps, presence = DeferredSignals(), LoopWaiter(), None, None
    try:
        with interrupts:
            steps = begin(waiter, interrupts)
            turn = turns().join()
            pause = next(steps) if turn is None else None
        if turn is not None:
            await turn
        while True:
            if pause is not None:
                with interrupts:
                    presence = presence or _Presence(waiter, heartbeats, steps.close)
                await waiter.wait(pause)
            with interrupts:
                pause = next(steps)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    except GeneratorExit:
        # This may be a finalizer, in any thread and in the middle of anything.
        if steps is not None and not heartbeats.call(steps.close):
            steps.close()
        raise
    except BaseException:
        if steps is not None:
            surely(steps.close)
        raise
    finally:
        if presence is not None:
            presence.end()


class _Presence:
    """Notices that an event loop is closed while a task waits in it: then the loop drops all its timers, due or not."""

    __slots__ = ("_gone",)

    def __init__(self, waiter: LoopWaiter, heartbeats: Background, close: Callable[[], object]) -> None:
        loop = waiter._loop

        def close_if_closed() -> None:
            if loop.is_closed():  # else the timer came due, or the loop doesn't keep the handle that it returns
                close()

        def abandon() -> None:
            heartbeats.call(close_if_closed)

        heartbeats.start()
        waiter.abandon = abandon
        timer = loop.call_later(_NEVER, _nothing)
        self._gone: Gone | None = heartbeats.when_gone(timer, close_if_closed)

    def end(self) -> None:
        gone, self._gone = self._gone, None
        timer = None if gone is None else gone()
        gone = None
        if timer is not None:
            timer.cancel()


def _nothing() -> None:
    pass


class Turns:
    """Spreads the longer steps of an event loop's tasks, one in each of its rounds.

    Many tasks that begin or end at once would else keep everything else from the loop until all of them are done.
    """

    __slots__ = ("_passed_at", "_taken", "_waiting", "_watched_until")

    def __init__(self) -> None:
        self._taken = False
        self._passed_at = self._watched_until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def join(self, *, first: bool = False) -> asyncio.Future[None] | None:
        """Take this task's turn if there was none yet in this round (None); else its turn comes when the future is
        done.

        The turn of a cancelled task is passed over, or counts as this round's. Signals have to be deferred.

        :param first: the turn comes before all that wait for theirs.
        """
        if not self._taken:
            self._taken = True
            self._pass_later()
            return None
        turn = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        self._watch()
        return turn

    def _pass_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._passed_at = loop.time()
        loop.call_soon(self._pass_on)

    def _pass_on(self) -> None:
        if not self._waiting:
            self._taken = False
            return
        try:
            while self._waiting:
                turn = self._waiting[0]
                was_cancelled = turn.done()
                if not was_cancelled:
                    turn.set_result(None)
                self._waiting.popleft()
                if not was_cancelled:
                    return
        finally:
            self._pass_later()  # the loop calls it after it has woken the task

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._watched_until:
            self._watched_until = now + _AGAIN
            loop.call_at(self._watched_until, self._look_after)

    def _look_after(self) -> None:
        if self._waiting:
            self._watch()
            if asyncio.get_running_loop().time() >= self._passed_at + _AGAIN:
                self._pass_on()  # the callback that should have done it was lost


# A loop that nobody refers to any more ends its tasks, which give their slots back: nothing here refers to one.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns() -> Turns:
    """The turns of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _turns.get(loop)
    if found is None:
        found = _turns[loop] = Turns()
    return found
