"""A pool that was on a server before, which is asked who still uses it there: nobody else waits for the answer."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from redis_pools import settle
from referee import DEADLINE, until

import leasecap
from leasecap import _store_changes
from leasecap._config.pool_name import pool_name
from leasecap._config.store_address import parse_address
from leasecap._redis_store.pool import Pool
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from redis_server import RedisServer
    from referee import Team

    from leasecap._redis_store.client import Client

pytestmark = pytest.mark.redis

IN_FILES = '[pools.p]\nstore = "files"\nlimit = 1\n[pools.other]\nstore = "files"\nlimit = 1\n'
CANT_BE_TOLD = "whether anybody here still does can't be told"

LATE = 10.0
"""Seconds that count as kept by the server: a call waits twenty for an answer here (`conftest.patient`)."""

HOLDS = """
with leasecap.slot("p"):
    say("HELD")
    hear()
"""


class SilentServer:
    """Takes connections and says nothing.

    :ivar connected: set when the first one is taken.
    """

    def __init__(self) -> None:
        self.connected = threading.Event()
        self.then: Callable[[], object] = lambda: None
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listening.getsockname()[1]}/0"
        self._taken: list[socket.socket] = []
        self._is_over = False
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def _take(self) -> None:
        while True:
            self._taken.append(self._listening.accept()[0])
            if self._is_over:
                return
            self.connected.set()
            self.then()

    def calls(self, then: asyncio.Event) -> None:
        """Have the event set in the running loop, once somebody has connected."""
        loop = asyncio.get_running_loop()
        self.then = lambda: loop.call_soon_threadsafe(then.set)

    def close(self) -> None:
        """End all connections, and take no more."""
        self._is_over = True
        socket.create_connection(self._listening.getsockname()).close()  # it wakes the thread, on macOS as well
        self._thread.join(DEADLINE)
        for each in (self._listening, *self._taken):
            each.close()
        self._taken.clear()
        self.then = lambda: None


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    silent = SilentServer()
    yield silent
    if silent._thread.is_alive():
        silent.close()


def used_on(team: Team, url: str) -> Path:
    """Note that the pool was used on that server; returns the file that says so."""
    noted = team.root / "stores" / pool_name("p").directory
    noted.parent.mkdir(mode=0o700, exist_ok=True)
    noted.write_text(f"{url}\n")
    return noted


async def asks(silent: SilentServer, call: Callable[[], asyncio.Task[leasecap.Lease]]) -> asyncio.Task[leasecap.Lease]:
    """The call, once it has connected to the server. The loop goes on: else it would be over by then."""
    silent.calls(connected := asyncio.Event())
    task = call()
    await asyncio.wait_for(connected.wait(), DEADLINE)
    assert not task.done(), "the loop stood still"
    return task


def is_free(pool: str) -> bool:
    try:
        lease = leasecap.try_acquire(pool)
    except leasecap.StoreError:
        return False
    if lease is not None:
        lease.release()
    return lease is not None


def acquiring(timeout: float | None = None) -> asyncio.Task[leasecap.Lease]:
    return asyncio.create_task(leasecap.acquire_async("p", timeout=timeout))


def test_event_loop_goes_on_while_the_former_server_is_silent(team: Team, silent: SilentServer) -> None:
    team.configure(IN_FILES)
    noted = used_on(team, silent.url)

    async def main() -> None:
        call = await asks(silent, acquiring)
        (await leasecap.acquire_async("other", timeout=0)).release()
        silent.close()
        with pytest.raises(leasecap.StoreError, match=CANT_BE_TOLD):
            await call

    asyncio.run(main())
    assert noted.exists() and not (team.root / "pools" / pool_name("p").directory).exists()


def test_other_threads_go_on_while_the_former_server_is_silent(team: Team, silent: SilentServer) -> None:
    team.configure(IN_FILES)
    used_on(team, silent.url)
    raised: list[BaseException] = []

    def call() -> None:
        with pytest.raises(leasecap.StoreError, match=CANT_BE_TOLD) as error:
            leasecap.acquire("p")
        raised.append(error.value)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    assert silent.connected.wait(DEADLINE)
    leasecap.acquire("other", timeout=0).release()
    assert thread.is_alive(), "this thread waited for it"
    silent.close()
    thread.join(DEADLINE)
    assert raised


def test_call_is_cancelled_while_the_former_server_is_silent(team: Team, silent: SilentServer) -> None:
    team.configure(IN_FILES)
    noted = used_on(team, silent.url)

    async def main() -> None:
        call = await asks(silent, acquiring)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    silent.close()
    errands = runtime.servers().at(parse_address(silent.url)).errands
    until(lambda: not errands._open, "the look is over")
    noted.unlink()
    until(lambda: is_free("p"), "what the look found counts no more, and nobody has the slot")


def test_call_waits_no_longer_than_its_time_for_the_former_server(team: Team, silent: SilentServer) -> None:
    team.configure(IN_FILES)
    used_on(team, silent.url)

    async def main() -> None:
        with pytest.raises(leasecap.StoreError, match=f"{CANT_BE_TOLD}.*didn't answer in time"):
            await leasecap.acquire_async("p", timeout=0.1)

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < LATE
    silent.close()


def test_task_is_refused_a_pool_that_others_use_on_its_former_server(
    team: Team, server: RedisServer, client: Client
) -> None:
    settle(Pool(client, pool_name("p"), time.monotonic))
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 1\n')
    holder = team.start(HOLDS)
    holder.expect("HELD")
    team.configure(IN_FILES)

    async def main() -> None:
        with pytest.raises(leasecap.ConfigError, match="in use by pid"):
            await leasecap.acquire_async("p")
        holder.kill()
        holder.wait()  # only now its threads are gone, too
        (await leasecap.acquire_async("p", timeout=60)).release()

    asyncio.run(main())
    assert not (team.root / "stores" / pool_name("p").directory).exists()


def test_event_loop_goes_on_while_a_server_that_was_named_meanwhile_is_silent(
    team: Team, server: RedisServer, silent: SilentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool's own server kept the call waiting, so its former one is looked at once more."""
    monkeypatch.setattr(_store_changes, "_EVERY", 0.0)
    team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = 1\n')
    server.freeze()

    def call() -> asyncio.Task[leasecap.Lease]:
        task = acquiring()
        asyncio.get_running_loop().call_soon(go_on)
        return task

    def go_on() -> None:  # the call has been let through, and asks the server
        used_on(team, silent.url)
        server.thaw()

    async def main() -> None:
        task = await asks(silent, call)
        silent.close()
        with pytest.raises(leasecap.StoreError, match=CANT_BE_TOLD):
            await task

    try:
        asyncio.run(main())
    finally:
        server.thaw()
    until(lambda: not leasecap.status("p").pools[0].in_flight, "what it was granted is given back")
