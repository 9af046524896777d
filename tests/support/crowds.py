"""A process with many tickets, and a waiter behind it."""

from __future__ import annotations

from holders import queue, ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pace import Pace
    from referee import Team, Worker

# An event loop with many tasks that want a slot each, and hold it for a moment. Holds one itself if told so, or blocks
# when told, or becomes another program.
MANY = """
import asyncio
number, holds = int(sys.argv[1]), sys.argv[2] == "holds"
async def one():
    async with leasecap.slot("p", priority=int(sys.argv[3]) if len(sys.argv) > 3 else 0):
        await asyncio.sleep(0.001)
async def main():
    lease = await leasecap.acquire_async("p") if holds else None
    tasks = [asyncio.create_task(one()) for _ in range(number)]
    say("ASKED")
    await asyncio.to_thread(hear)
    if sys.argv[2] == "blocks":
        say("BLOCKS")
        hear()
    if sys.argv[2] == "execs":
        os.execv(sys.executable, [sys.executable, "-c", "import sys; print('CHANGED', flush=True); sys.stdin.read()"])
    if lease is not None:
        lease.release()
    await asyncio.gather(*tasks)
    say("DONE")
say("READY")
hear()
asyncio.run(main())
hear()
"""

# Takes a slot when told, and says when it had it.
TIMED = """
say("READY")
hear()
lease = leasecap.acquire("p")
say("HELD", time.monotonic_ns())
hear()
lease.release()
"""


def many(team: Team, tickets: int, kind: str = "waits", behind: int = 0, more: tuple[object, ...] = ()) -> Worker:
    """A process with so many tickets in the queue."""
    worker = team.start(MANY, tickets, kind, *more)
    ready(worker)
    worker.tell()
    worker.expect("ASKED")
    team.until_waiting(behind + tickets)
    return worker


def waits(team: Team, behind: int) -> Worker:
    """A waiter behind so many others."""
    worker = team.start(TIMED)
    ready(worker)
    queue(team, worker, behind=behind)
    return worker


def seconds(worker: Worker, since: int, pace: Pace | None = None) -> float:
    """How long after that moment it was granted its slot.

    :param pace: what the machine was late meanwhile doesn't count.
    """
    held = int(worker.expect("HELD"))
    return (held - since) / 1e9 if pace is None else pace.seconds(since, held)
