"""A message that a slot is granted is never lost, whatever it meets on its way to its waiter."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from redis_pools import settle
from referee import Team, until

import leasecap
from leasecap._config.pool_name import pool_name
from leasecap._config.root import root_path
from leasecap._redis_store import open_pool, ticket
from leasecap._redis_store.own_store import OwnStore
from leasecap._redis_store.pool import Pool
from leasecap._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from redis_server import RedisServer

    from leasecap._redis_store.answer import Answer
    from leasecap._redis_store.client import Client
    from leasecap._redis_store.errands import Errand

pytestmark = pytest.mark.redis

PATIENCE = 9.0
"""Seconds: less than those after which a message that a process sends itself would wake all who wait."""


@dataclass(frozen=True)
class Scene:
    """A pool of one slot, in which nobody looks by itself.

    :ivar heard: what messages have said.
    """

    own: OwnStore
    heard: list[bytes | None]

    def release(self, lease: leasecap.Lease) -> None:
        """Release it, and return when the message about the next grant was heard."""
        before = len(self.heard)
        lease.release()
        until(lambda: len(self.heard) > before, "the message is heard")


@pytest.fixture
def scene(server: RedisServer, client: Client, team: Team, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    team.configure(f'[pools.p]\nlimit = 1\nstore = "{server.url()}"\n')
    settle(Pool(client, pool_name("p"), time.monotonic), ttl=30)
    for module, seconds in ((ticket, "DUTY"), (ticket, "_WATCHED"), (ticket, "SAFETY"), (open_pool, "SAFETY")):
        monkeypatch.setattr(module, seconds, 3 * PATIENCE)
    heard: list[bytes | None] = []
    hear = OwnStore._heard

    def note(own: OwnStore, message: bytes | None) -> None:
        hear(own, message)
        heard.append(message)

    monkeypatch.setattr(OwnStore, "_heard", note)
    held = leasecap.acquire("p")
    with pytest.raises(leasecap.AcquireTimeout):
        leasecap.acquire("p", timeout=0.5)  # from here on messages reach this process
    held.release()
    own = runtime.on_server(runtime.root(root_path()).config.pool("p")).own
    until(lambda: own.subscription.proven and not own._takes_over, "messages come through, and nothing else wakes")
    yield Scene(own, heard)
    runtime.servers().rest()


@pytest.mark.parametrize("in_loop", [False, True], ids=["thread", "task"])
def test_grant_that_is_heard_before_the_answer_that_its_ticket_waits(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, in_loop: bool
) -> None:
    lease = leasecap.acquire("p")
    place = Pool.place

    def late(pool: Pool, **about: Any) -> Answer:
        found = place(pool, **about)
        assert found.state == "queued"
        scene.release(lease)
        return found

    monkeypatch.setattr(Pool, "place", late)
    if in_loop:
        asyncio.run(leasecap.acquire_async("p", timeout=PATIENCE)).release()
    else:
        leasecap.acquire("p", timeout=PATIENCE).release()


def test_grant_that_is_heard_while_the_answer_of_an_errand_comes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = leasecap.acquire("p")
    look, send = Pool.look, scene.own.errands.send
    looking, goes_on = threading.Event(), threading.Event()
    errands: list[Errand[object]] = []

    def late(pool: Pool, token: str, **about: Any) -> Answer:
        found = look(pool, token, **about)
        if found.state == "queued":
            looking.set()
            assert goes_on.wait(PATIENCE)
            scene.release(lease)
        return found

    def noting(*about: Any) -> Errand[Any]:
        errands.append(send(*about))
        return errands[-1]

    async def wait() -> leasecap.Lease:
        task = asyncio.create_task(leasecap.acquire_async("p", timeout=PATIENCE))
        while not scene.own._waiting:
            await asyncio.sleep(0.001)
        scene.own._wake_first()
        while not looking.is_set():
            await asyncio.sleep(0.001)
        goes_on.set()
        until(lambda: errands[-1].done, "it has answered")  # and the loop has seen neither that nor the message
        return await task

    monkeypatch.setattr(Pool, "look", late)
    monkeypatch.setattr(scene.own.errands, "send", noting)
    asyncio.run(wait()).release()
