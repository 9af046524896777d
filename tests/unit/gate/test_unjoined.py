"""Calls that block, in threads that nobody joins."""

from __future__ import annotations

import asyncio
import threading

import pytest

from leasecap._gate import unjoined
from leasecap._gate.unjoined import UnjoinedThreads


def test_loop_ends_though_a_call_goes_on() -> None:
    goes_on, over = threading.Event(), threading.Event()

    def wait() -> None:
        goes_on.wait(60)
        over.set()

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(UnjoinedThreads())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(wait), 0.01)
        assert await asyncio.to_thread(int, "7") == 7
        with pytest.raises(ValueError, match="invalid literal"):
            await asyncio.to_thread(int, "seven")

    asyncio.run(main())
    assert not over.is_set()
    goes_on.set()
    assert over.wait(60)


def test_call_without_a_thread_fails_as_one_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*about: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(unjoined, "start_thread", none)
    assert isinstance(UnjoinedThreads().submit(int).exception(), OSError)
