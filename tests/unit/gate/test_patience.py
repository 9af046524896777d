from __future__ import annotations

import asyncio
import threading
import time

import pytest

from leasecap._gate import patience
from leasecap._gate.patience import Patience


async def wait_for(event: asyncio.Event, seconds: float | None) -> None:
    async with Patience(seconds):
        await event.wait()


def test_patience_has_an_end() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(wait_for(asyncio.Event(), 0.01))


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_what_comes_in_time_comes_through(seconds: float | None) -> None:
    async def main() -> None:
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, event.set)
        await wait_for(event, seconds)
        asyncio.get_running_loop().call_later(0.01, event.clear)
        await asyncio.sleep(0.02)

    asyncio.run(main())


def test_an_error_comes_through() -> None:
    async def main() -> None:
        async with Patience(60):
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(main())


def test_what_came_while_the_process_was_stopped_is_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LATE", 0.05)

    async def main() -> None:
        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def pass_on(layers: int) -> None:
            loop.call_soon(pass_on, layers - 1) if layers else event.set()

        def stop() -> None:
            threading.Timer(0.1, loop.call_soon_threadsafe, [pass_on, 5]).start()
            time.sleep(0.3)  # as a stop would: the loop doesn't turn

        loop.call_soon(stop)
        await wait_for(event, 0.1)

    asyncio.run(main())


def test_a_stop_doesnt_give_time_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LATE", 0.05)
    monkeypatch.setattr(patience, "GRACE", 0.05)

    async def main() -> None:
        asyncio.get_running_loop().call_soon(time.sleep, 0.2)
        await wait_for(asyncio.Event(), 0.1)

    with pytest.raises(TimeoutError):
        asyncio.run(main())
