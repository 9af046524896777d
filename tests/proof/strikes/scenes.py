"""What is struck: each scene is a call of the library in the main thread, and what other threads do meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import leasecap
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any

PATIENCE = 10.0
"""Seconds within which what must happen has to; hardly any of it takes a hundredth."""


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> bool:
    """Whether it comes to be true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.0005)
    return True


class Stage:
    """One pool, used again and again until a finding spoils it.

    :ivar over: the call in the main thread has ended, whichever way.
    """

    def __init__(self, root: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.root = root
        self.loop = loop
        self.pool = ""
        self.over = threading.Event()
        self._number = 0
        self._helper: threading.Thread | None = None
        self.renew()

    def renew(self) -> None:
        self._number += 1
        self.pool = f"p{self._number}"
        leasecap.acquire(self.pool).release()
        (self.directory,) = self.root.glob(f"pools/{self.pool}-*")

    def names(self, *places: str) -> list[str]:
        return [f"{place}/{path.name}" for place in places for path in (self.directory / place).iterdir()]

    def meanwhile(self, work: Callable[[], object]) -> None:
        """Let another thread do that, from now on."""
        self._helper = threading.Thread(target=work, daemon=True)
        self._helper.start()

    def rejoin(self) -> bool:
        """After the call: whether the other thread has come to its end."""
        self.over.set()
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.join(PATIENCE)
        self.over.clear()
        return helper is None or not helper.is_alive()

    def held_until_somebody_waits(self) -> None:
        lease = leasecap.acquire(self.pool)

        def work() -> None:
            with lease:
                until(lambda: self.over.is_set() or self.names("queue"))

        self.meanwhile(work)

    def wanted(self) -> None:
        """Another thread waits for the slot, once it is taken."""

        def work() -> None:
            until(lambda: self.over.is_set() or self.names("leases"))
            leasecap.acquire(self.pool, borrow=False).release()

        self.meanwhile(work)

    def somebody_waits(self) -> None:
        until(lambda: self.names("queue"))

    def run(self, work: Coroutine[Any, Any, object]) -> None:
        """Run the task; what breaks the loop out of its round comes out, and the task is run to its end first."""
        task = self.loop.create_task(work)
        try:
            self.loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                self.loop.run_until_complete(asyncio.wait_for(asyncio.wait([task]), PATIENCE))
            if task.done() and not task.cancelled():
                task.exception()
            # What broke out of the round has left callbacks behind that still refer to the task, or stop the loop.
            for _ in range(2):
                try:
                    self.loop.run_until_complete(asyncio.sleep(0))
                except RuntimeError:
                    pass
            raise


def with_slot(stage: Stage) -> None:
    with leasecap.slot(stage.pool):
        pass


def with_slot_wanted(stage: Stage) -> None:
    with leasecap.slot(stage.pool):
        stage.somebody_waits()


def acquire_release(stage: Stage) -> None:
    leasecap.acquire(stage.pool).release()


def with_lease(stage: Stage) -> None:
    lease = leasecap.acquire(stage.pool)
    try:
        with lease:
            pass
    finally:
        lease.release()


def nested(stage: Stage) -> None:
    with leasecap.slot(stage.pool), leasecap.slot(stage.pool):
        pass


def try_acquire(stage: Stage) -> None:
    lease = leasecap.try_acquire(stage.pool)
    assert lease is not None
    lease.release()


def limited(stage: Stage) -> None:
    leasecap.limited(stage.pool)(lambda: None)()


def limited_generator(stage: Stage) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2

    for _ in leasecap.limited(stage.pool)(numbers)():
        pass


def dropped(stage: Stage) -> None:
    leasecap.acquire(stage.pool)


def report(stage: Stage) -> None:
    with leasecap.slot(stage.pool):
        leasecap.report(stage.pool, kind="neutral", ttfb=0.1)


def async_with_slot(stage: Stage) -> None:
    async def work() -> None:
        async with leasecap.slot(stage.pool):
            pass

    stage.run(work())


def async_with_slot_wanted(stage: Stage) -> None:
    async def work() -> None:
        async with leasecap.slot(stage.pool):
            stage.somebody_waits()

    stage.run(work())


def async_acquire(stage: Stage) -> None:
    async def work() -> None:
        lease = await leasecap.acquire_async(stage.pool)
        lease.release()

    stage.run(work())


def async_three(stage: Stage) -> None:
    async def one() -> None:
        try:
            async with leasecap.slot(stage.pool):
                await asyncio.sleep(0)
        except BaseException:
            pass  # here: kept, its traceback would refer to what was about to be released, for which the others wait

    async def work() -> None:
        await asyncio.gather(one(), one(), one(), return_exceptions=True)

    stage.run(work())


def async_generator(stage: Stage) -> None:
    async def numbers() -> Any:
        yield 1
        yield 2

    async def work() -> None:
        async for _ in leasecap.limited(stage.pool)(numbers)():
            pass

    stage.run(work())


def nothing(stage: Stage) -> None:
    pass


Scene = tuple["Callable[[Stage], None]", "Callable[[Stage], None]"]

SCENES: dict[str, Scene] = {
    "slot": (nothing, with_slot),
    "slot-queued": (Stage.held_until_somebody_waits, with_slot),
    "slot-wanted": (Stage.wanted, with_slot_wanted),
    "acquire": (nothing, acquire_release),
    "acquire-queued": (Stage.held_until_somebody_waits, acquire_release),
    "lease": (nothing, with_lease),
    "nested": (nothing, nested),
    "try": (nothing, try_acquire),
    "limited": (nothing, limited),
    "generator": (nothing, limited_generator),
    "dropped": (nothing, dropped),
    "report": (nothing, report),
    "async-slot": (nothing, async_with_slot),
    "async-slot-queued": (Stage.held_until_somebody_waits, async_with_slot),
    "async-slot-wanted": (Stage.wanted, async_with_slot_wanted),
    "async-acquire": (nothing, async_acquire),
    "async-acquire-queued": (Stage.held_until_somebody_waits, async_acquire),
    "async-three": (nothing, async_three),
    "async-generator": (nothing, async_generator),
}
"""By name: what is prepared, and what is struck."""


def lock_is_free() -> bool:
    """Whether another thread gets the process's own lock."""
    got: list[bool] = []

    def attempt() -> None:
        got.append(runtime.own.lock.acquire(timeout=PATIENCE))
        if got[0]:
            runtime.own.lock.release()

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return got[0]
