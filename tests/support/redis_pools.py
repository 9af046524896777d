"""A pool on a real server, for tests: known to it, so that nobody has to wait for those who might hold a slot."""

from __future__ import annotations

import time

from leasecap._config.pool_name import pool_name
from leasecap._host.effects import Effects
from leasecap._host.own_record import own_record
from leasecap._liveness.record import encode_record
from leasecap._redis_store.pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from leasecap._redis_store.answer import Answer
    from leasecap._redis_store.client import Client

TTL = 2.0

RECORD = encode_record(own_record(Effects().me(), "pool", local=False, label="a test"))


def known_pool(client: Client, *, limit: int | None = 1, ttl: float = TTL, name: str = "pool") -> Pool:
    """A pool whose server has run for long, as far as it knows."""
    pool = Pool(client, pool_name(name), time.monotonic)
    settle(pool, limit=limit, ttl=ttl)
    return pool


def settle(pool: Pool, *, limit: int | None = 1, ttl: float = TTL) -> None:
    """Give the pool its limit and time, and end the wait for holders whom the server may have forgotten."""
    pool.configure(limit=str(limit or ""), ttl=f"{ttl * 1000:.0f}", closed="0", quiet="0")


def token(number: int) -> str:
    return f"{number:016x}"


def place(
    pool: Pool,
    number: int,
    *,
    process: int = 1,
    priority: int = 0,
    limit: int | None = None,
    may_queue: bool = True,
    lenders: tuple[int, ...] = (),
    order: int | None = None,
    task_age: float = 0.0,
    agent: str = "",
) -> Answer:
    """Ask for a slot under a token made of the number."""
    return pool.place(
        priority=priority,
        order=order,
        task_age=task_age,
        token=token(number),
        process=f"{process:012x}",
        limit=limit,
        may_queue=may_queue,
        record=RECORD,
        lenders=tuple(map(token, lenders)),
        agent=agent,
    )
