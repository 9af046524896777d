"""One process that works under slots of a server.

Arguments: role, name, journal, seed, until, machine, pool=limit...
"""

from __future__ import annotations

import asyncio
import sys

from _soak.journal import Journal
from _soak.workers import Worker
from leasecap._errors import Unreachable
from leasecap._host import effects, process


def main() -> None:
    role, name, journal, seed, until, machine, *pairs = sys.argv[1:]
    if machine != "-":  # as where nobody else sees this process: if it dies, its lease ends by its time alone
        here = process.this_process
        effects.this_process = lambda: here()._replace(boot=machine)  # type: ignore[attr-defined]
    pools = {pool: int(limit) for pool, limit in (pair.split("=") for pair in pairs)}
    worker = Worker(
        Journal(journal, name), pools, int(seed), float(until), lambda error: isinstance(error, Unreachable)
    )
    if role == "sync":
        worker.run()
    elif role == "team":
        worker.run_team()
    elif role == "crowd":
        asyncio.run(worker.run_crowd())
    else:
        asyncio.run(worker.run_async())


if __name__ == "__main__":
    main()
