"""Faults at random while processes work: the cap holds, and nothing is left in the end."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from redis_pools import settle
from redis_server import running
from referee import Team, Worker, until

from leasecap._config.pool_name import pool_name
from leasecap._config.store_address import parse_address
from leasecap._redis_store.client import Client
from leasecap._redis_store.pool import Pool

pytestmark = pytest.mark.redis

LIMIT, TTL, SECONDS = 3, 3.0, 12.0

# Works under slots until it is told to end. A hold ends for the referee when its holder learns that it is lost.
WORK = """
import random, threading
name, log, ending, count = sys.argv[1], Log(), threading.Event(), 0
threading.Thread(target=lambda: (hear(), ending.set()), daemon=True).start()
say("READY")
while not ending.is_set():
    holder = f"{name}-{count}"
    count += 1
    ended = []
    def end(lease=None):
        if not ended:
            ended.append(True)
            log.end(holder)
    try:
        lease = leasecap.acquire("p", timeout=1.5)
    except (leasecap.AcquireTimeout, leasecap.StoreError):
        continue
    log.start(holder)
    until = time.monotonic() + random.random() * 0.3
    while time.monotonic() < until and not lease.lost:
        lease.lost.wait(0.005)
    end()
    lease.release()
say("DONE")
"""


@pytest.mark.long
@pytest.mark.parametrize("appendonly", ["yes", "no"], ids=["keeps its data", "forgets"])
def test_cap_holds_through_kills_and_restarts_of_everything(
    software: str, tmp_path: Path, team: Team, appendonly: str
) -> None:
    chance = random.Random(20)
    options = ("--appendonly", appendonly, "--appendfsync", "always")
    with running(software, tmp_path / "server", *options) as server:
        team.configure(f'[pools.p]\nstore = "{server.url()}"\nlimit = {LIMIT}\n')
        client = Client(parse_address(server.url()))
        pool = Pool(client, pool_name("p"), time.monotonic)
        settle(pool, limit=LIMIT, ttl=TTL)
        workers: dict[int, Worker] = {number: team.start(WORK, number) for number in range(6)}
        killed: dict[int, int] = {}
        for worker in workers.values():
            worker.expect("READY")
        stop = time.monotonic() + SECONDS
        while time.monotonic() < stop:
            time.sleep(chance.random())
            what = chance.choice(("kill", "stop", "freeze", "restart"))
            alive = [number for number in workers if number not in killed]
            if what == "kill" and len(alive) > 3:
                number = chance.choice(alive)
                killed[number] = workers[number].kill()
            elif what == "stop":
                number = chance.choice(alive)
                workers[number].stop()
                time.sleep(chance.random() * TTL / 2)  # never past its time: that isn't promised
                workers[number].go_on()
            elif what == "freeze":
                server.freeze()
                time.sleep(chance.random() * 1.5)
                server.thaw()
            elif what == "restart":
                server.restart()
        for number, worker in workers.items():
            if number not in killed:
                worker.tell()
        for number, worker in workers.items():
            if number not in killed:
                worker.expect("DONE")
                worker.done()
        assert team.referee.peak(still_running(team, killed)) <= LIMIT
        assert len(team.referee.intervals(still_running(team, killed))) > 10

        def is_empty() -> bool:
            pool.renew((), ())  # somebody calls
            return pool.picture().expiries == {}

        until(is_empty, "what the killed ones held has run out")
        client.close()


def still_running(team: Team, killed: dict[int, int]) -> dict[str, int]:
    """The holds of killed workers that wrote no end, with when they were killed."""
    running: dict[str, bool] = {}
    for line in team.referee.log.read_text().splitlines():
        event, _, holder = line.split(" ", 2)
        running[holder] = event == "start"
    return {holder: killed[int(holder.partition("-")[0])] for holder, runs in running.items() if runs}
