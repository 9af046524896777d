"""One process with many leases and tickets that do nothing.

Usage: python -m _bench.crowd DIRECTORY POOLS LEASES TICKETS LIMIT

Stops itself (SIGSTOP, at a moment when it holds no lock) when it has them: so it counts, and takes no time. Its tickets
have a low priority.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys

import leasecap


async def main(directory: str, pools: int, leases: int, tickets: int, limit: int) -> None:
    os.environ["LEASECAP_HOME"] = os.path.join(directory, "root")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    names = [f"bench{number or ''}" for number in range(pools)]
    held = [leasecap.acquire(name, limit=limit) for name in names for _ in range(leases)]
    waiting = [
        asyncio.create_task(leasecap.acquire_async(name, limit=limit, priority=-10))
        for name in names
        for _ in range(tickets)
    ]
    while sum(pool.waiting for pool in leasecap.status().pools) < len(waiting):
        await asyncio.sleep(0.2)
    os.kill(os.getpid(), signal.SIGSTOP)
    raise RuntimeError(f"continued, with {len(held)} leases")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:6])))
